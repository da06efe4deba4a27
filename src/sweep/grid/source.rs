//! The text of a grid file as a tree that remembers where everything stands, and problems that point there.
//!
//! Strict JSON: no comments, no trailing commas, no key twice.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::synonyms::synonym;
use crate::settings::closest;

/// The longest grid file that is read; nesting is limited to 128 levels by the JSON parser.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Problems shown of one file; the rest are counted.
pub const MAX_PROBLEMS: usize = 20;

/// A JSON value and the byte it starts at.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: usize,
    pub value: NodeValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// One `"key": value` of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub key: String,
    /// The byte the key starts at.
    pub key_at: usize,
    pub node: Node,
}

impl Node {
    pub fn to_value(&self) -> Value {
        match &self.value {
            NodeValue::Scalar(value) => value.clone(),
            NodeValue::List(nodes) => Value::Array(nodes.iter().map(Node::to_value).collect()),
            NodeValue::Object(members) => Value::Object(
                members.iter().map(|m| (m.key.clone(), m.node.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// A grid file as it was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user named it.
    pub file: String,
    pub text: String,
}

impl Source {
    /// Errors: the file is missing, unreadable, longer than [`MAX_FILE_BYTES`] or no UTF-8.
    pub fn read(path: &Path) -> Result<Self, GridError> {
        let file = path.display().to_string();
        let failed = |message: String| GridError::of_file(path, message);
        let mut bytes = Vec::new();
        let opened = File::open(path).map_err(|error| failed(error.to_string()))?;
        opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(failed(format!("longer than {MAX_FILE_BYTES} bytes, expected a grid file")));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { text: text.strip_prefix('\u{feff}').unwrap_or(&text).to_string(), file }),
            Err(error) => {
                Err(failed(format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to() + 1)))
            }
        }
    }

    /// The text as a tree.
    ///
    /// Errors: no JSON, nested too deeply, a number out of range, a key twice in one object.
    pub fn parse(&self) -> Result<Node, GridError> {
        // serde_json is the judge of what is JSON, the other parser knows where things stand.
        if let Err(error) = serde_json::from_str::<Value>(&self.text) {
            let text = error.to_string();
            let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
            let hint = if matches!(reason, "key must be a string" | "trailing comma" | "expected value") {
                " (comments and trailing commas are no part of JSON)"
            } else {
                ""
            };
            let problem = Problem {
                line: error.line(),
                column: error.column(),
                path: String::new(),
                message: format!("not valid JSON: {reason}{hint}"),
            };
            return Err(GridError { file: self.file.clone(), problems: vec![problem], more: 0 });
        }
        let strict = ParseOptions {
            allow_comments: false,
            allow_loose_object_property_names: false,
            allow_trailing_commas: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let collect = CollectOptions { comments: CommentCollectionStrategy::Off, tokens: false };
        let parsed = parse_to_ast(&self.text, &collect, &strict).map_err(|error| {
            self.error(error.range().start, "", format!("not valid JSON: {}", error.kind()))
        })?;
        let mut problems = Vec::new();
        let root = parsed.value.as_ref().map(|value| self.node(value, "", &mut problems));
        match root {
            Some(root) if problems.is_empty() => Ok(root),
            _ => Err(self.errors(problems)),
        }
    }

    fn node(&self, value: &ast::Value, path: &str, problems: &mut Vec<Problem>) -> Node {
        let node_value = match value {
            ast::Value::Object(object) => {
                let mut first_at = BTreeMap::new();
                let members = object.properties.iter().map(|property| {
                    let (key, key_at) = (property.name.as_str().to_string(), property.name.start());
                    let path = join(path, &key);
                    if let Some(first) = first_at.insert(key.clone(), key_at) {
                        let line = self.position(first).0;
                        problems.push(self.problem(
                            key_at,
                            &path,
                            format!("`{key}` found twice, first in line {line}, expected once"),
                        ));
                    }
                    Member { node: self.node(&property.value, &path, problems), key, key_at }
                });
                NodeValue::Object(members.collect())
            }
            ast::Value::Array(array) => {
                let nodes = array
                    .elements
                    .iter()
                    .enumerate()
                    .map(|(i, element)| self.node(element, &format!("{path}[{i}]"), problems));
                NodeValue::List(nodes.collect())
            }
            ast::Value::StringLit(text) => NodeValue::Scalar(Value::String(text.value.to_string())),
            ast::Value::BooleanLit(boolean) => NodeValue::Scalar(Value::Bool(boolean.value)),
            ast::Value::NullKeyword(_) => NodeValue::Scalar(Value::Null),
            // The whole text has passed serde_json, so each of its numbers does.
            ast::Value::NumberLit(number) => {
                NodeValue::Scalar(serde_json::from_str(number.value).unwrap_or(Value::Null))
            }
        };
        Node { at: value.start(), value: node_value }
    }

    /// Line and column of a byte, from 1; columns count characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    pub fn problem(&self, at: usize, path: &str, message: impl Into<String>) -> Problem {
        let (line, column) = self.position(at);
        Problem { line, column, path: path.into(), message: message.into() }
    }

    pub fn error(&self, at: usize, path: &str, message: impl Into<String>) -> GridError {
        self.errors(vec![self.problem(at, path, message)])
    }

    /// Each problem once, in the order of the file.
    pub fn errors(&self, mut problems: Vec<Problem>) -> GridError {
        problems.sort();
        problems.dedup();
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        GridError { file: self.file.clone(), problems, more }
    }
}

/// `path.key`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// One thing wrong with a grid file: where it stands, which setting it is, what was found and what was
/// expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1; 0 if the file as a whole is meant.
    pub line: usize,
    pub column: usize,
    /// Such as `autoscalers[1].inferline.look_back`.
    pub path: String,
    pub message: String,
}

/// Everything found wrong with a grid file, a line each: `file:line:column: path: message`.
#[derive(Debug, Clone, PartialEq)]
pub struct GridError {
    pub file: String,
    pub problems: Vec<Problem>,
    /// Problems beyond those shown.
    pub more: usize,
}

impl GridError {
    /// A problem with the file as a whole.
    pub fn of_file(path: &Path, message: String) -> Self {
        let problem = Problem { line: 0, column: 0, path: String::new(), message };
        Self { file: path.display().to_string(), problems: vec![problem], more: 0 }
    }
}

impl fmt::Display for GridError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if problem.line > 0 {
                write!(f, ":{}:{}", problem.line, problem.column)?;
            }
            if !problem.path.is_empty() {
                write!(f, ": {}", problem.path)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        if self.more > 0 {
            write!(f, "\n... and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for GridError {}

/// A message of serde in words of the file's format and not of Rust's, with "did you mean" where it lists
/// what is known.
pub fn in_words(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => {
            let expected = match expected {
                "f64" => "a number",
                "u32" => "a whole number from 0 to 4294967295",
                "u64" | "usize" => "a whole number of at least 0",
                "a sequence" => "a list",
                "a map" => "an object",
                "string or map" => "a name or an object",
                other if other.starts_with("struct ") => "an object of settings",
                other => other,
            };
            format!("{found}, expected {expected}")
        }
        _ => with_suggestion(message),
    }
}

/// Adds "did you mean" to a message of serde that lists the known names in backticks after "expected".
fn with_suggestion(message: &str) -> String {
    let Some((found, known)) =
        message.strip_prefix("unknown ").and_then(|rest| rest.split_once(", expected "))
    else {
        return message.into();
    };
    let found = found.split('`').nth(1).unwrap_or_default();
    let known = || known.split('`').skip(1).step_by(2);
    match synonym(found, known()).or_else(|| closest(found, known())) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.into(),
    }
}
