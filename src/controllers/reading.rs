//! A controller's file taken apart: every field is read or ignored by name; one that is neither is refused.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::autoscaler::behavior::{BehaviorSettings, RatePolicy, RateUnit, ScalingRules, SelectPolicy};
use crate::settings::{PerDirection, closest};

/// The longest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// A policy as a controller's file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// As a grid spells it.
    pub policy: &'static str,
    pub settings: Value,
    pub min_replicas: Option<u32>,
    pub max_replicas: Option<u32>,
    pub initial_replicas: Option<u32>,
}

/// What of a file cannot be simulated, or understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub path: String,
    pub message: String,
}

impl Refusal {
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// An object some of whose fields have been read.
#[derive(Debug, Clone)]
pub struct Fields {
    path: String,
    left: Map<String, Value>,
    /// What was asked for, whether it was there or not.
    known: BTreeSet<String>,
}

impl Fields {
    pub fn of(value: &Value, path: &str) -> Result<Self, Refusal> {
        match value {
            Value::Object(members) => {
                Ok(Self { path: path.into(), left: members.clone(), known: BTreeSet::new() })
            }
            other => Err(Refusal::at(path, format!("{other} found, expected an object"))),
        }
    }

    /// The path of a field.
    pub fn path(&self, field: &str) -> String {
        match (self.path.as_str(), field) {
            ("", field) => field.into(),
            (path, "") => path.into(),
            (path, field) => format!("{path}.{field}"),
        }
    }

    /// A field that has not been read yet; null is absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.known.insert(field.into());
        self.left.shift_remove(field).filter(|value| !value.is_null())
    }

    /// Fields without effect on what is simulated.
    pub fn ignore(&mut self, fields: &[&str]) {
        self.known.extend(fields.iter().map(|field| (*field).to_owned()));
        self.left.retain(|field, _| !fields.contains(&field.as_str()));
    }

    pub fn text(&mut self, field: &str) -> Result<Option<String>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            // YAML takes a bare 10 for a number, also where a text is meant.
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(boolean)) => Ok(Some(boolean.to_string())),
            Some(other) => Err(Refusal::at(&self.path(field), format!("{other} found, expected a text"))),
        }
    }

    /// A number, also one in quotes.
    pub fn number(&mut self, field: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let number = value
            .as_f64()
            .or_else(|| value.as_str()?.trim().parse().ok())
            .filter(|number: &f64| number.is_finite());
        number
            .map(Some)
            .ok_or_else(|| Refusal::at(&self.path(field), format!("{value} found, expected a number")))
    }

    pub fn count(&mut self, field: &str) -> Result<Option<u32>, Refusal> {
        let number = self.number(field)?;
        number
            .map(|number| {
                let whole = number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0;
                whole.then_some(number as u32).ok_or_else(|| {
                    Refusal::at(&self.path(field), format!("{number} found, expected a whole number"))
                })
            })
            .transpose()
    }

    pub fn object(&mut self, field: &str) -> Result<Option<Self>, Refusal> {
        let path = self.path(field);
        self.take(field).map(|value| Self::of(&value, &path)).transpose()
    }

    /// A list of objects; none if absent.
    pub fn list(&mut self, field: &str) -> Result<Vec<Self>, Refusal> {
        let path = self.path(field);
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                values.iter().enumerate().map(|(i, value)| Self::of(value, &format!("{path}[{i}]"))).collect()
            }
            Some(other) => Err(Refusal::at(&path, format!("{other} found, expected a list"))),
        }
    }

    /// What has not been read is refused.
    pub fn finish(&self) -> Result<(), Refusal> {
        match self.left.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((field, _)) => Err(Refusal::at(
                &self.path(field),
                match closest(field, self.known.iter().map(String::as_str)) {
                    Some(meant) => format!("unknown field; did you mean `{meant}`?"),
                    None => "found, which is not simulated; remove it from the file".into(),
                },
            )),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left.keys().map(String::as_str)
    }
}

/// A quantity of Kubernetes: a number, or one with a suffix.
pub fn quantity(value: &Value, path: &str) -> Result<f64, Refusal> {
    let fault =
        || Refusal::at(path, format!("{value} found, expected a quantity such as 10, \"500m\" or \"2k\""));
    if let Some(number) = value.as_f64() {
        return Ok(number);
    }
    let text = value.as_str().ok_or_else(fault)?.trim();
    let units = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
    ];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1.0));
    let number: f64 = number.parse().map_err(|_| fault())?;
    // Division, so that 400m is 0.4 and not the product of 400 and a number near a thousandth.
    Ok(if factor == 1e-3 { number / 1000.0 } else { number * factor })
}

/// An HPA's `behavior`, and the tolerance of both directions.
pub fn behavior(mut fields: Fields) -> Result<(Option<BehaviorSettings>, PerDirection), Refusal> {
    let (mut settings, mut tolerance) = (BehaviorSettings::default(), PerDirection::both(0.1));
    for (field, rules, tolerance) in [
        ("scaleUp", &mut settings.scale_up, &mut tolerance.up),
        ("scaleDown", &mut settings.scale_down, &mut tolerance.down),
    ] {
        if let Some(found) = fields.object(field)? {
            *rules = scaling_rules(found, tolerance)?;
        }
    }
    fields.finish()?;
    Ok((Some(settings), tolerance))
}

fn scaling_rules(mut fields: Fields, tolerance: &mut f64) -> Result<ScalingRules, Refusal> {
    let stabilization_window_s = fields.number("stabilizationWindowSeconds")?;
    let select_policy = match fields.text("selectPolicy")?.as_deref() {
        None | Some("Max") => SelectPolicy::Max,
        Some("Min") => SelectPolicy::Min,
        Some("Disabled") => SelectPolicy::Disabled,
        Some(other) => {
            let message = format!("`{other}` found, expected `Max`, `Min` or `Disabled`");
            return Err(Refusal::at(&fields.path("selectPolicy"), message));
        }
    };
    if let Some(value) = fields.take("tolerance") {
        *tolerance = quantity(&value, &fields.path("tolerance"))?;
    }
    let mut policies = Vec::new();
    for mut policy in fields.list("policies")? {
        let unit = match policy.text("type")?.as_deref() {
            Some("Pods") => RateUnit::Pods,
            Some("Percent") => RateUnit::Percent,
            other => {
                let message = format!("`{}` found, expected `Pods` or `Percent`", other.unwrap_or_default());
                return Err(Refusal::at(&policy.path("type"), message));
            }
        };
        let value = policy.count("value")?.ok_or_else(|| Refusal::at(&policy.path("value"), "missing"))?;
        let period_s = policy
            .number("periodSeconds")?
            .ok_or_else(|| Refusal::at(&policy.path("periodSeconds"), "missing"))?;
        policy.finish()?;
        policies.push(RatePolicy { unit, value, period_s });
    }
    fields.finish()?;
    Ok(ScalingRules {
        stabilization_window_s,
        select_policy,
        policies: (!policies.is_empty()).then_some(policies),
    })
}
