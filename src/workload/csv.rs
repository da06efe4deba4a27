//! Comma-separated lines: columns found by the header's names, values checked.

use std::borrow::Cow;

use super::MAX_TOKENS;
use super::error::{WorkloadError, excerpt};
use super::source::Line;
use crate::settings::quoted;

/// Where `N` wanted columns stand in a file whose header names them, in any order and among others.
#[derive(Debug, Clone, Copy)]
pub struct Columns<const N: usize> {
    names: [&'static str; N],
    positions: [usize; N],
    width: usize,
}

impl<const N: usize> Columns<N> {
    /// Errors: a name is missing in the header.
    pub fn locate(header: &Line, names: [&'static str; N]) -> Result<Self, WorkloadError> {
        let found = fields(header)?;
        let position = |name: &str| found.iter().position(|field| field.trim() == name);
        let missing: Vec<&str> = names.iter().copied().filter(|name| position(name).is_none()).collect();
        if !missing.is_empty() {
            let message = format!("header `{}` found, expected also the columns {}", excerpt(header.text), quoted(&missing));
            return Err(header.error(message));
        }
        Ok(Self { names, positions: names.map(|name| position(name).unwrap_or_default()), width: found.len() })
    }

    /// The wanted fields of a line.
    ///
    /// Errors: the line has more or fewer fields than the header.
    pub fn read<'l>(&self, line: &Line<'l>) -> Result<[Field<'l>; N], WorkloadError> {
        let mut values = [const { Cow::Borrowed("") }; N];
        let mut width = 0;
        let mut keep = |index, field: Cow<'l, str>| {
            width = index + 1;
            if let Some(slot) = self.positions.iter().position(|&position| position == index) {
                values[slot] = field;
            }
        };
        if line.text.contains('"') {
            fields(line)?.into_iter().enumerate().for_each(|(index, field)| keep(index, field));
        } else {
            line.text.split(',').enumerate().for_each(|(index, field)| keep(index, Cow::Borrowed(field)));
        }
        if width != self.width {
            return Err(line.error(format!("{width} fields found, expected {} as in the header", self.width)));
        }
        let mut names = self.names.iter();
        Ok(values.map(|text| Field { line: *line, column: names.next().copied().unwrap_or_default(), text }))
    }
}

/// All fields of a line, quotes resolved.
pub fn fields<'l>(line: &Line<'l>) -> Result<Vec<Cow<'l, str>>, WorkloadError> {
    if !line.text.contains('"') {
        return Ok(line.text.split(',').map(Cow::Borrowed).collect());
    }
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.text.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => Ok(record.iter().map(|field| Cow::Owned(field.to_owned())).collect()),
        _ => Err(line.error("unreadable quotes, expected comma-separated values")),
    }
}

/// One value with where it stands.
pub struct Field<'l> {
    line: Line<'l>,
    pub column: &'static str,
    text: Cow<'l, str>,
}

impl Field<'_> {
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    pub fn error(&self, expected: impl Into<String>) -> WorkloadError {
        self.line.value_error(self.column, self.text(), expected)
    }

    /// A finite number of at least 0.
    pub fn number(&self, what: &str) -> Result<f64, WorkloadError> {
        match self.text().parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(value + 0.0), // -0 becomes 0
            _ => Err(self.error(format!("{what} as a finite number of at least 0"))),
        }
    }

    /// A number of tokens, which may have decimals (`256.0`, as dataframes write it).
    pub fn tokens(&self) -> Result<f64, WorkloadError> {
        match self.text().parse::<f64>() {
            Ok(value) if (0.0..=f64::from(MAX_TOKENS)).contains(&value) => Ok(value),
            _ => Err(self.error(format!("a number of tokens from 0 to {MAX_TOKENS}"))),
        }
    }
}
