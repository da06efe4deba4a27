//! Fields of JSON lines, with errors that name their place.

use serde_json::{Map, Value};

use super::super::error::WorkloadError;
use super::super::source::Line;

/// The fields of a line, and which were asked for.
pub(super) struct Fields<'l> {
    pub object: Map<String, Value>,
    pub line: &'l Line<'l>,
    pub met: Vec<&'static str>,
}

impl Fields<'_> {
    pub fn take(&mut self, name: &'static str) -> Option<&Value> {
        self.met.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn error(&self, name: &'static str, found: &Value, expected: &str) -> WorkloadError {
        self.line.value_error(name, &found.to_string(), expected)
    }

    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, WorkloadError> {
        let Some(value) = self.take(name).cloned() else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.error(name, &value, "a number"))
    }

    /// A number of at least 0.
    pub fn pause(&mut self, name: &'static str) -> Result<Option<f64>, WorkloadError> {
        match self.number(name)? {
            Some(value) if value < 0.0 => {
                Err(self.line.value_error(name, &value.to_string(), "a pause of at least 0"))
            }
            value => Ok(value.map(|value| value + 0.0)),
        }
    }

    pub fn priority(&mut self) -> Result<Option<i32>, WorkloadError> {
        let Some(value) = self.take("priority").cloned() else { return Ok(None) };
        let priority = value.as_i64().and_then(|priority| i32::try_from(priority).ok());
        priority.map(Some).ok_or_else(|| self.error("priority", &value, "a whole number of 32 bits"))
    }

    /// A name, which may be a number.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, WorkloadError> {
        match self.take(name).cloned() {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.error(name, &other, "a text or a number")),
        }
    }

    pub fn names(&mut self, name: &'static str) -> Result<Option<Vec<String>>, WorkloadError> {
        let Some(value) = self.take(name).cloned() else { return Ok(None) };
        let names = value.as_array().and_then(|names| {
            names
                .iter()
                .map(|name| name.as_str().map(str::to_owned).or_else(|| Some(name.as_u64()?.to_string())))
                .collect()
        });
        names.map(Some).ok_or_else(|| self.error(name, &value, "a list of ids of requests"))
    }

    pub fn ids(&mut self, name: &'static str) -> Result<Vec<u64>, WorkloadError> {
        let Some(value) = self.take(name).cloned() else { return Ok(Vec::new()) };
        let ids = value.as_array().and_then(|ids| ids.iter().map(Value::as_u64).collect());
        ids.ok_or_else(|| self.error(name, &value, "a list of whole numbers"))
    }
}
