//! Axes: settings that take several values, and the cells they multiply to.
//!
//! A list where one value is expected is an axis; so is a range, `{"from": 1, "to": 9, "step": 2}` or
//! `{"from": 1, "to": 100, "points": 5, "scale": "log"}`, both ends included. `from` and `to` are therefore
//! no names of settings. Axes multiply in the order of the file, the last one fastest; an axis within one
//! alternative of another axis multiplies that alternative only. Cells are counted and found by arithmetic
//! (mixed radix), so a grid of millions costs no memory.
//!
//! Values of a range are computed by index, never by repeated addition, and rounded to 12 significant digits,
//! so that 0.1 to 0.5 by 0.1 contains 0.3. Those that come out whole are integers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::source::{Member, Node, NodeValue, Problem, Source, join};
use crate::settings::{closest, quoted};

/// Fields that are lists by nature: a list there is one value, and a range the list it stands for. The tests
/// hold this table against the schema of every settings struct.
pub const LISTS: &[&str] = &[
    "workloads",
    "seeds",
    "autoscalers",
    "group_by",
    "drawn_from",
    "phases",
    "policies",
    "steps",
    "command",
    "also",
    "outages",
    "bounds",
    "days",
    "priorities",
    "spares",
    "stalls",
    "pools",
    "mix",
];

/// An axis of a grid: where it stands, and what it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AxisSummary {
    pub path: String,
    pub values: Vec<Value>,
}

const RANGE_KEYS: &[&str] = &["from", "to", "step", "points", "scale"];

/// A part of a grid file, some of whose values may vary.
#[derive(Debug, Clone)]
pub struct Template {
    at: usize,
    /// Where it stands in the file, such as `autoscalers[1].inferline`.
    path: String,
    /// Number of different values; at most `u64::MAX`.
    count: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Scalar(Value),
    /// A list by nature.
    List(Vec<Template>),
    Object(Vec<(Key, Template)>),
    Axis(Vec<Template>),
    Range(Range),
}

#[derive(Debug, Clone)]
struct Key {
    name: String,
    at: usize,
}

/// A step of a path: a field or an index.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    Field(String),
    Index(usize),
}

impl Segment {
    /// Splits `phases[2].rate_per_s`.
    pub fn parse(path: &str) -> Vec<Self> {
        let mut segments = Vec::new();
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let mut pieces = part.split('[');
            segments
                .extend(pieces.next().filter(|name| !name.is_empty()).map(|name| Self::Field(name.into())));
            segments
                .extend(pieces.filter_map(|piece| piece.strip_suffix(']')?.parse().ok()).map(Self::Index));
        }
        segments
    }
}

impl Template {
    /// Finds the axes of `node`, which stands at `path` under the field `name`.
    pub fn new(source: &Source, node: &Node, path: &str, name: &str, problems: &mut Vec<Problem>) -> Self {
        let kind = match &node.value {
            NodeValue::Scalar(value) => Kind::Scalar(value.clone()),
            NodeValue::List(nodes) => {
                let templates = nodes
                    .iter()
                    .enumerate()
                    .map(|(i, node)| Self::new(source, node, &format!("{path}[{i}]"), "", problems));
                let templates: Vec<_> = templates.collect();
                if LISTS.contains(&name) {
                    Kind::List(templates)
                } else {
                    if templates.is_empty() {
                        problems.push(source.problem(
                            node.at,
                            path,
                            "an empty list found, expected a value, or an axis of at least one value",
                        ));
                    }
                    Kind::Axis(templates)
                }
            }
            NodeValue::Object(members)
                if members.iter().any(|member| matches!(member.key.as_str(), "from" | "to")) =>
            {
                match Range::new(source, node, members, path) {
                    Ok(range) if LISTS.contains(&name) && range.count <= MAX_LISTED => Kind::List(
                        (0..range.count)
                            .map(|i| Self {
                                at: node.at,
                                path: path.into(),
                                count: 1,
                                kind: Kind::Scalar(range.nth(i)),
                            })
                            .collect(),
                    ),
                    Ok(range) if LISTS.contains(&name) => {
                        problems.push(source.problem(
                            node.at,
                            path,
                            format!("{} values found, expected at most {MAX_LISTED}", range.count),
                        ));
                        Kind::Scalar(Value::Null)
                    }
                    Ok(range) => Kind::Range(range),
                    Err(problem) => {
                        problems.push(problem);
                        Kind::Scalar(Value::Null)
                    }
                }
            }
            NodeValue::Object(members) => {
                let member = |m: &Member| {
                    (
                        Key { name: m.key.clone(), at: m.key_at },
                        Self::new(source, &m.node, &join(path, &m.key), &m.key, problems),
                    )
                };
                Kind::Object(members.iter().map(member).collect())
            }
        };
        let count = match &kind {
            Kind::Scalar(_) => 1,
            Kind::List(templates) => {
                templates.iter().fold(1, |product: u64, template| product.saturating_mul(template.count))
            }
            Kind::Object(members) => {
                members.iter().fold(1, |product: u64, (_, template)| product.saturating_mul(template.count))
            }
            Kind::Axis(templates) => {
                templates.iter().fold(0, |sum: u64, template| sum.saturating_add(template.count))
            }
            Kind::Range(range) => range.count,
        };
        Self { at: node.at, path: path.into(), count, kind }
    }

    /// An empty object, for a section that the file leaves out.
    pub fn absent(path: &str) -> Self {
        Self { at: 0, path: path.into(), count: 1, kind: Kind::Object(Vec::new()) }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The elements of a list by nature.
    pub fn elements(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(templates) => Some(templates),
            _ => None,
        }
    }

    /// The values that an element of a list by nature stands for: those of a range, or the one that is there.
    /// A list in it is one.
    pub fn listed(&self) -> impl Iterator<Item = Value> {
        let count = if matches!(self.kind, Kind::Range(_)) { self.count.min(MAX_LISTED) } else { 1 };
        (0..count)
            .map(|index| if matches!(self.kind, Kind::Axis(_)) { self.as_written() } else { self.nth(index) })
    }

    /// Value number `index`, below [`count`](Self::count).
    pub fn nth(&self, mut index: u64) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Range(range) => range.nth(index),
            Kind::Axis(_) => {
                let (template, index) = self.alternative(index);
                template.nth(index)
            }
            Kind::List(templates) => {
                let mut values = templates
                    .iter()
                    .rev()
                    .map(|template| template.nth(digit(&mut index, template.count)))
                    .collect::<Vec<_>>();
                values.reverse();
                Value::Array(values)
            }
            Kind::Object(members) => {
                let value = |(key, template): &(Key, Self)| {
                    (key.name.clone(), template.nth(digit(&mut index, template.count)))
                };
                let mut values = members.iter().rev().map(value).collect::<Vec<_>>();
                values.reverse();
                Value::Object(Map::from_iter(values))
            }
        }
    }

    /// The alternative of an axis that holds value number `index`, and the number within.
    fn alternative(&self, mut index: u64) -> (&Self, u64) {
        let Kind::Axis(templates) = &self.kind else { return (self, index) };
        for template in templates {
            if index < template.count {
                return template.alternative(index);
            }
            index -= template.count;
        }
        unreachable!("index beyond the count of {}", self.path)
    }

    /// Where `segments` of value number `index` stand in the file: byte and path. What the file leaves out
    /// stands where its parent does; of a field that stands there, `keys` asks for the key's place rather
    /// than the value's.
    pub fn locate(&self, index: u64, segments: &[Segment], keys: bool) -> (usize, String) {
        let (template, mut index) = self.alternative(index);
        let rest = || {
            segments.iter().fold(template.path.clone(), |path, segment| match segment {
                Segment::Field(name) => join(&path, name),
                Segment::Index(i) => format!("{path}[{i}]"),
            })
        };
        match (&template.kind, segments.first()) {
            (Kind::Object(members), Some(Segment::Field(name))) => {
                for (key, member) in members.iter().rev() {
                    let digit = digit(&mut index, member.count);
                    if key.name == *name {
                        return match keys && segments.len() == 1 {
                            true => (key.at, member.path.clone()),
                            false => member.locate(digit, &segments[1..], keys),
                        };
                    }
                }
                (template.at, rest())
            }
            (Kind::List(templates), Some(Segment::Index(i))) => {
                for (j, element) in templates.iter().enumerate().rev() {
                    let digit = digit(&mut index, element.count);
                    if j == *i {
                        return element.locate(digit, &segments[1..], keys);
                    }
                }
                (template.at, rest())
            }
            _ => (template.at, rest()),
        }
    }

    /// Every axis, in the order of the file.
    pub fn axes(&self) -> Vec<AxisSummary> {
        let mut axes = Vec::new();
        self.collect_axes(&mut axes);
        axes
    }

    fn collect_axes(&self, axes: &mut Vec<AxisSummary>) {
        match &self.kind {
            Kind::Scalar(_) => {}
            Kind::List(templates) => templates.iter().for_each(|template| template.collect_axes(axes)),
            Kind::Object(members) => members.iter().for_each(|(_, template)| template.collect_axes(axes)),
            Kind::Range(range) => axes.push(AxisSummary {
                path: self.path.clone(),
                values: (0..range.count).map(|i| range.nth(i)).collect(),
            }),
            Kind::Axis(templates) => {
                axes.push(AxisSummary {
                    path: self.path.clone(),
                    values: templates.iter().map(Self::as_written).collect(),
                });
                templates.iter().for_each(|template| template.collect_axes(axes));
            }
        }
    }

    pub fn first_axis(&self) -> Option<&Self> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::List(templates) => templates.iter().find_map(Self::first_axis),
            Kind::Object(members) => members.iter().find_map(|(_, template)| template.first_axis()),
            Kind::Axis(_) | Kind::Range(_) => Some(self),
        }
    }

    /// Path and number of values of every axis; for a range of any size.
    pub fn axis_sizes(&self) -> Vec<(String, u64)> {
        match &self.kind {
            Kind::Scalar(_) => Vec::new(),
            Kind::Range(range) => vec![(self.path.clone(), range.count)],
            Kind::List(templates) => templates.iter().flat_map(Self::axis_sizes).collect(),
            Kind::Object(members) => members.iter().flat_map(|(_, template)| template.axis_sizes()).collect(),
            Kind::Axis(templates) => {
                let own = (self.path.clone(), templates.len() as u64);
                std::iter::once(own).chain(templates.iter().flat_map(Self::axis_sizes)).collect()
            }
        }
    }

    /// The values that the axes of this template take in value number `index`: path below this template, and
    /// value.
    pub fn varying(&self, index: u64) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        self.collect_varying(index, "", &mut found);
        found
    }

    fn collect_varying(&self, mut index: u64, below: &str, found: &mut Vec<(String, Value)>) {
        if matches!(self.kind, Kind::Axis(_) | Kind::Range(_)) {
            found.push((below.into(), self.nth(index)));
            return;
        }
        let mut digits = Vec::new();
        match &self.kind {
            Kind::Object(members) => {
                for (key, template) in members.iter().rev() {
                    digits.push((template, digit(&mut index, template.count), join(below, &key.name)));
                }
            }
            Kind::List(templates) => {
                for (i, template) in templates.iter().enumerate().rev() {
                    digits.push((template, digit(&mut index, template.count), format!("{below}[{i}]")));
                }
            }
            _ => {}
        }
        for (template, index, below) in digits.into_iter().rev() {
            template.collect_varying(index, &below, found);
        }
    }

    fn as_written(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(templates) | Kind::Axis(templates) => {
                Value::Array(templates.iter().map(Self::as_written).collect())
            }
            Kind::Object(members) => Value::Object(
                members.iter().map(|(key, template)| (key.name.clone(), template.as_written())).collect(),
            ),
            Kind::Range(range) => Value::Array((0..range.count).map(|i| range.nth(i)).collect()),
        }
    }
}

/// Takes the last digit off a mixed-radix number.
fn digit(index: &mut u64, radix: u64) -> u64 {
    let digit = *index % radix.max(1);
    *index /= radix.max(1);
    digit
}

/// The most values of a range that stands for a list.
const MAX_LISTED: u64 = 1_000_000;

/// Values at equal distances, or equal ratios.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    from: Value,
    to: Value,
    count: u64,
    spacing: Spacing,
}

#[derive(Debug, Clone, PartialEq)]
enum Spacing {
    /// From `from`, by this much; `to` is reached where the step lands on it.
    Step(Value),
    /// From `from` to `to`.
    Linear,
    Log,
}

impl Range {
    fn new(source: &Source, node: &Node, members: &[Member], path: &str) -> Result<Self, Problem> {
        let member = |name: &str| members.iter().find(|member| member.key == name).map(|member| &member.node);
        let at = |name: &str| member(name).map_or(node.at, |node| node.at);
        let fault = |name: &str, message: String| source.problem(at(name), &join(path, name), message);
        if let Some(unknown) = members.iter().find(|member| !RANGE_KEYS.contains(&member.key.as_str())) {
            let mut message =
                format!("unknown field `{}` in a range, expected {}", unknown.key, quoted(RANGE_KEYS));
            if let Some(name) = closest(&unknown.key, RANGE_KEYS.iter().copied()) {
                message += &format!("; did you mean `{name}`?");
            }
            return Err(source.problem(unknown.key_at, &join(path, &unknown.key), message));
        }
        let number = |name: &str| match member(name).map(Node::to_value) {
            Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => Ok(number),
            Some(other) => Err(fault(name, format!("{other} found, expected a number"))),
            None => Err(source.problem(
                node.at,
                path,
                format!("a range without `{name}` found, expected `from`, `to`, and `step` or `points`"),
            )),
        };
        let (from, to) = (number("from")?, number("to")?);
        let (from_f64, to_f64) = (float(&from), float(&to));
        let scale = match member("scale").map(Node::to_value) {
            None => "linear".to_string(),
            Some(Value::String(scale)) if scale == "linear" || scale == "log" => scale,
            Some(other) => {
                return Err(fault("scale", format!("{other} found, expected \"linear\" or \"log\"")));
            }
        };
        let (count, spacing) = match (member("step"), member("points")) {
            (Some(_), None) => {
                let step = number("step")?;
                if scale == "log" {
                    return Err(fault(
                        "scale",
                        "\"log\" found with `step`, expected `points` instead of `step`".into(),
                    ));
                }
                let steps = (to_f64 - from_f64) / float(&step);
                if !steps.is_finite() || steps < 0.0 {
                    return Err(fault(
                        "step",
                        format!("{step} found, expected a step that leads from {from} to {to}"),
                    ));
                }
                // A step that misses `to` by rounding alone lands on it.
                let steps = if (steps - steps.round()).abs() <= 1e-9 * steps.max(1.0) {
                    steps.round()
                } else {
                    steps.floor()
                };
                (steps as u64 + 1, Spacing::Step(Value::Number(step)))
            }
            (None, Some(_)) => {
                let points = number("points")?;
                let least = if from_f64 == to_f64 { 1 } else { 2 };
                let Some(points) = points.as_u64().filter(|points| *points >= least) else {
                    return Err(fault(
                        "points",
                        format!("{points} found, expected a whole number of at least {least}"),
                    ));
                };
                if scale == "log" && (from_f64 <= 0.0 || to_f64 <= 0.0) {
                    return Err(fault(
                        if from_f64 <= 0.0 { "from" } else { "to" },
                        "a number above 0 expected on a logarithmic scale".into(),
                    ));
                }
                (points, if scale == "log" { Spacing::Log } else { Spacing::Linear })
            }
            (None, None) => {
                return Err(source.problem(
                    node.at,
                    path,
                    "a range without `step` and `points` found, expected one of them",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(source.problem(
                    node.at,
                    path,
                    "a range with both `step` and `points` found, expected one of them",
                ));
            }
        };
        Ok(Self { from: Value::Number(from), to: Value::Number(to), count, spacing })
    }

    fn nth(&self, i: u64) -> Value {
        if i == 0 {
            return self.from.clone();
        }
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let (from, to) = (number(&self.from), number(&self.to));
        let share = || i as f64 / (self.count - 1) as f64;
        match &self.spacing {
            Spacing::Step(step) => match (self.from.as_i64(), step.as_i64()) {
                (Some(from), Some(step)) => {
                    i64::try_from(i128::from(from) + i128::from(step) * i128::from(i))
                        .map_or(Value::Null, Value::from)
                }
                _ => rounded(from + number(step) * i as f64),
            },
            _ if i == self.count - 1 => self.to.clone(),
            Spacing::Linear => rounded(from + (to - from) * share()),
            Spacing::Log => rounded(libm::exp(libm::log(from) + (libm::log(to) - libm::log(from)) * share())),
        }
    }
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

/// Rounded to 12 significant digits; an integer if whole.
fn rounded(value: f64) -> Value {
    let value: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    if value == value.trunc() && value.abs() < 1e15 { Value::from(value as i64) } else { Value::from(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn template(text: &str) -> Result<Template, String> {
        let source = Source { file: "grid.json".into(), text: text.into() };
        let mut problems = Vec::new();
        let template =
            Template::new(&source, &source.parse().map_err(|e| e.to_string())?, "", "", &mut problems);
        if problems.is_empty() { Ok(template) } else { Err(source.errors(problems).to_string()) }
    }

    fn values(text: &str) -> Vec<Value> {
        let template = template(text).unwrap();
        (0..template.count()).map(|i| template.nth(i)).collect()
    }

    #[test]
    fn ranges() {
        assert_eq!(values(r#"{"from": 1, "to": 9, "step": 2}"#), [1, 3, 5, 7, 9].map(Value::from));
        assert_eq!(values(r#"{"from": 1, "to": 10, "step": 2}"#), [1, 3, 5, 7, 9].map(Value::from));
        assert_eq!(values(r#"{"from": 9, "to": 1, "step": -4}"#), [9, 5, 1].map(Value::from));
        assert_eq!(
            values(r#"{"from": 0.1, "to": 0.5, "step": 0.1}"#),
            [0.1, 0.2, 0.3, 0.4, 0.5].map(Value::from)
        );
        assert_eq!(
            values(r#"{"from": 1, "to": 64, "points": 7, "scale": "log"}"#),
            [1, 2, 4, 8, 16, 32, 64].map(Value::from)
        );
        assert_eq!(
            values(r#"{"from": 1, "to": 100, "points": 3, "scale": "log"}"#),
            [1, 10, 100].map(Value::from)
        );
        assert_eq!(values(r#"{"from": 0, "to": 1, "points": 3}"#), [json!(0), json!(0.5), json!(1)]);
        assert_eq!(values(r#"{"from": 3, "to": 3, "points": 1}"#), [json!(3)]);
    }

    #[test]
    fn broken_ranges() {
        let error = |text: &str| template(text).unwrap_err();
        assert_eq!(
            error(r#"{"a": {"from": 1, "to": 9, "stop": 2}}"#),
            "grid.json:1:28: a.stop: unknown field `stop` in a range, expected `from`, `to`, `step`, `points`, `scale`; did you mean `step`?"
        );
        assert_eq!(
            error(r#"{"from": 1, "to": 9, "step": 0}"#),
            "grid.json:1:30: step: 0 found, expected a step that leads from 1 to 9"
        );
        assert_eq!(
            error(r#"{"from": 1, "to": 9, "step": -1}"#),
            "grid.json:1:30: step: -1 found, expected a step that leads from 1 to 9"
        );
        assert_eq!(
            error(r#"{"a": {"from": 1, "step": 1}}"#),
            "grid.json:1:7: a: a range without `to` found, expected `from`, `to`, and `step` or `points`"
        );
        assert_eq!(
            error(r#"{"from": 0, "to": 9, "points": 4, "scale": "log"}"#),
            "grid.json:1:10: from: a number above 0 expected on a logarithmic scale"
        );
        assert_eq!(
            error(r#"{"from": 0, "to": 9, "points": 1}"#),
            "grid.json:1:32: points: 1 found, expected a whole number of at least 2"
        );
        assert_eq!(
            error(r#"{"a": []}"#),
            "grid.json:1:7: a: an empty list found, expected a value, or an axis of at least one value"
        );
    }

    #[test]
    fn axes_multiply_last_fastest_and_nested_ones_add() {
        let text = r#"{"a": [1, 2], "phases": [{"r": [3, 4]}], "c": ["x", {"y": {"z": [5, 6]}}]}"#;
        let cells = values(text);
        assert_eq!(cells.len(), 2 * 2 * 3);
        assert_eq!(cells[0], json!({"a": 1, "phases": [{"r": 3}], "c": "x"}));
        assert_eq!(cells[1], json!({"a": 1, "phases": [{"r": 3}], "c": {"y": {"z": 5}}}));
        assert_eq!(cells[3], json!({"a": 1, "phases": [{"r": 4}], "c": "x"}));
        assert_eq!(cells[11], json!({"a": 2, "phases": [{"r": 4}], "c": {"y": {"z": 6}}}));
        let template = template(text).unwrap();
        let paths: Vec<_> = template.axes().into_iter().map(|axis| axis.path).collect();
        assert_eq!(paths, ["a", "phases[0].r", "c", "c[1].y.z"]);
        assert_eq!(
            template.varying(11),
            [("a".into(), json!(2)), ("phases[0].r".into(), json!(4)), ("c".into(), json!({"y": {"z": 6}}))]
        );
    }

    #[test]
    fn located_where_written() {
        let template = template(r#"{"a": [1, 2], "c": ["x", {"y": {"z": [5, 6]}}]}"#).unwrap();
        let located = |index, path: &str, keys| template.locate(index, &Segment::parse(path), keys);
        assert_eq!(located(5, "a", false), (10, "a[1]".into()));
        assert_eq!(located(5, "c.y.z", false), (41, "c[1].y.z[1]".into()));
        assert_eq!(located(5, "c.y", true), (26, "c[1].y".into()));
        assert_eq!(located(5, "c.y.w[3]", false), (31, "c[1].y.w[3]".into()));
    }

    #[test]
    fn huge_grids_cost_nothing() {
        let axis = r#"{"from": 1, "to": 1000000, "step": 1}"#;
        let template = template(&format!(r#"{{"a": {axis}, "b": {axis}, "c": {axis}}}"#)).unwrap();
        assert_eq!(template.count(), 10u64.pow(18));
        assert_eq!(template.nth(10u64.pow(18) - 2), json!({"a": 1_000_000, "b": 1_000_000, "c": 999_999}));
    }

    /// Expansion by recursion over plain values: the slow twin.
    fn expand(value: &Value, is_list: bool) -> Vec<Value> {
        match value {
            Value::Array(values) if !is_list => {
                values.iter().flat_map(|value| expand(value, false)).collect()
            }
            Value::Array(values) => values.iter().fold(vec![json!([])], |done, value| {
                let next = expand(value, false);
                let join = |list: &Value, value: &Value| {
                    Value::Array(list.as_array().into_iter().flatten().chain([value]).cloned().collect())
                };
                done.iter().flat_map(|list| next.iter().map(move |value| join(list, value))).collect()
            }),
            Value::Object(members) => members.iter().fold(vec![json!({})], |done, (key, value)| {
                let next = expand(value, LISTS.contains(&key.as_str()));
                let join = |object: &Value, value: &Value| {
                    let mut object = object.clone();
                    object[key] = value.clone();
                    object
                };
                done.iter().flat_map(|object| next.iter().map(move |value| join(object, value))).collect()
            }),
            scalar => vec![scalar.clone()],
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0..9).prop_map(Value::from), "[a-c]{1,2}".prop_map(Value::from)];
        leaf.prop_recursive(4, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(Value::Array),
                prop::collection::vec(("[a-d]|phases", inner), 0..3)
                    .prop_map(|members| Value::Object(Map::from_iter(members))),
            ]
        })
    }

    proptest! {
        #[test]
        fn expands_as_its_slow_twin(value in tree()) {
            let slow = expand(&value, false);
            prop_assume!(slow.len() <= 2000);
            prop_assert_eq!(values(&value.to_string()), slow);
        }
    }
}
