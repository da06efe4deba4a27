//! Formulas over named values: what KEDA's `scalingModifiers` may say, as far as autoscaling needs it.
//!
//! `a ? b : c`, `??`, `||`, `&&`, comparisons, `+ - * /`, `**` or `^`, unary `-` and `!`, lists, `nil`,
//! `true`, `false`, and the functions `min max sum mean abs ceil floor round int float`, of arguments or of
//! one list. A name whose trigger failed is `nil`; arithmetic with `nil` has no result. Source: the
//! expression language that KEDA names (expr-lang), read in its documentation.

use std::fmt;

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    root: Node,
    /// The names it uses, in order of appearance.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Constant(Value),
    /// Index into the names.
    Name(usize),
    List(Vec<Node>),
    Call(Function, Vec<Node>),
    Unary(Operator, Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Truth(bool),
    Number(f64),
    List(Vec<Value>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Else,
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    Plus,
    Minus,
    Times,
    Over,
    Power,
    Not,
}

/// Left-associative operators by how tightly they bind, loosest first; longer spellings before their
/// prefixes.
const LEVELS: [&[(&str, Operator)]; 7] = [
    &[("??", Operator::Else)],
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::Unequal)],
    &[("<=", Operator::AtMost), (">=", Operator::AtLeast), ("<", Operator::Less), (">", Operator::More)],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
    &[("*", Operator::Times), ("/", Operator::Over)],
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Min,
    Max,
    Sum,
    Mean,
    Abs,
    Ceil,
    Floor,
    Round,
    Same,
    Int,
}

const FUNCTIONS: [(&str, Function); 10] = [
    ("min", Function::Min),
    ("max", Function::Max),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("abs", Function::Abs),
    ("ceil", Function::Ceil),
    ("floor", Function::Floor),
    ("round", Function::Round),
    ("float", Function::Same),
    ("int", Function::Int),
];

/// Deeper nesting is no formula that someone wrote.
const DEEPEST: usize = 100;

/// What is wrong with a formula, and at which character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormulaError {
    at: usize,
    expected: String,
    found: String,
}

impl fmt::Display for FormulaError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} found at character {}, expected {}", self.found, self.at + 1, self.expected)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: Vec<String>,
}

impl Formula {
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        let mut parser = Parser { text, at: 0, depth: 0, names: Vec::new() };
        let root = parser.expression()?;
        parser.spaces();
        if parser.at < text.len() {
            Err(parser.error("an operator or the end"))
        } else {
            Ok(Self { root, names: parser.names })
        }
    }

    /// The number it comes to, with `value` giving each name's; `None` for no result.
    pub fn evaluate(&self, value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let values: Vec<Value> =
            self.names.iter().map(|name| value(name).map_or(Value::Nil, Value::Number)).collect();
        match evaluate(&self.root, &values)? {
            Value::Number(number) if number.is_finite() => Some(number),
            _ => None,
        }
    }
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn error(&self, expected: &str) -> FormulaError {
        let found = self.rest().chars().next().map_or("the end".into(), |c| format!("`{c}`"));
        FormulaError { at: self.text[..self.at].chars().count(), expected: expected.into(), found }
    }

    fn take(&mut self, token: &str) -> bool {
        self.spaces();
        let taken = self.rest().starts_with(token);
        self.at += if taken { token.len() } else { 0 };
        taken
    }

    fn require(&mut self, token: &str) -> Result<(), FormulaError> {
        if self.take(token) { Ok(()) } else { Err(self.error(&format!("`{token}`"))) }
    }

    fn expression(&mut self) -> Result<Node, FormulaError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("less nesting"));
        }
        let condition = self.level(0)?;
        self.spaces();
        // `??` is an operator of its own.
        let node = if !self.rest().starts_with("??") && self.take("?") {
            let then = self.expression()?;
            self.require(":")?;
            Node::Choice(condition.into(), then.into(), self.expression()?.into())
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn level(&mut self, level: usize) -> Result<Node, FormulaError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        loop {
            self.spaces();
            let power = self.rest().starts_with("**");
            let Some(&(token, operator)) = operators
                .iter()
                .find(|(token, _)| self.rest().starts_with(token) && !(power && *token == "*"))
            else {
                return Ok(left);
            };
            self.at += token.len();
            left = Node::Binary(operator, left.into(), self.level(level + 1)?.into());
        }
    }

    fn unary(&mut self) -> Result<Node, FormulaError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("less nesting"));
        }
        let node = if self.take("-") {
            Node::Unary(Operator::Minus, self.unary()?.into())
        } else if self.take("!") {
            Node::Unary(Operator::Not, self.unary()?.into())
        } else {
            let base = self.atom()?;
            if self.take("**") || self.take("^") {
                Node::Binary(Operator::Power, base.into(), self.unary()?.into())
            } else {
                base
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn atom(&mut self) -> Result<Node, FormulaError> {
        if self.take("(") {
            let inner = self.expression()?;
            self.require(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return Ok(Node::List(self.arguments("]")?));
        }
        let length = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(self.rest().len());
        let word = self.rest()[..length].to_owned();
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let number = word.parse().map_err(|_| self.error("a number"))?;
            self.at += length;
            return Ok(Node::Constant(Value::Number(number)));
        }
        if word.is_empty() || word.contains('.') {
            return Err(self.error("a number, a trigger's name, a function or a bracket"));
        }
        self.at += length;
        match word.as_str() {
            "nil" => return Ok(Node::Constant(Value::Nil)),
            "true" => return Ok(Node::Constant(Value::Truth(true))),
            "false" => return Ok(Node::Constant(Value::Truth(false))),
            _ => {}
        }
        if self.take("(") {
            let Some(&(_, function)) = FUNCTIONS.iter().find(|(name, _)| *name == word) else {
                self.at -= 1;
                let known = FUNCTIONS.map(|(name, _)| format!("`{name}`")).join(", ");
                return Err(FormulaError {
                    found: format!("the function `{word}`"),
                    ..self.error(&format!("one of {known}"))
                });
            };
            return Ok(Node::Call(function, self.arguments(")")?));
        }
        let index = self.names.iter().position(|name| *name == word).unwrap_or_else(|| {
            self.names.push(word);
            self.names.len() - 1
        });
        Ok(Node::Name(index))
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Node>, FormulaError> {
        let mut arguments = Vec::new();
        while !self.take(end) {
            if !arguments.is_empty() {
                self.require(",")?;
            }
            arguments.push(self.expression()?);
        }
        Ok(arguments)
    }
}

fn number(value: Value) -> Option<f64> {
    if let Value::Number(number) = value { Some(number) } else { None }
}

fn truth(value: Value) -> Option<bool> {
    if let Value::Truth(truth) = value { Some(truth) } else { None }
}

fn evaluate(node: &Node, names: &[Value]) -> Option<Value> {
    let of = |node: &Node| evaluate(node, names);
    Some(match node {
        Node::Constant(value) => value.clone(),
        Node::Name(index) => names[*index].clone(),
        Node::List(items) => Value::List(items.iter().map(of).collect::<Option<_>>()?),
        Node::Choice(condition, then, other) => {
            if truth(of(condition)?)? {
                of(then)?
            } else {
                of(other)?
            }
        }
        Node::Unary(Operator::Not, inner) => Value::Truth(!truth(of(inner)?)?),
        Node::Unary(_, inner) => Value::Number(-number(of(inner)?)?),
        Node::Binary(Operator::Else, left, right) => match of(left)? {
            Value::Nil => of(right)?,
            value => value,
        },
        Node::Binary(Operator::Or, left, right) => Value::Truth(truth(of(left)?)? || truth(of(right)?)?),
        Node::Binary(Operator::And, left, right) => Value::Truth(truth(of(left)?)? && truth(of(right)?)?),
        Node::Binary(Operator::Equal, left, right) => Value::Truth(of(left)? == of(right)?),
        Node::Binary(Operator::Unequal, left, right) => Value::Truth(of(left)? != of(right)?),
        Node::Binary(operator, left, right) => {
            let (left, right) = (number(of(left)?)?, number(of(right)?)?);
            match operator {
                Operator::Less => Value::Truth(left < right),
                Operator::AtMost => Value::Truth(left <= right),
                Operator::More => Value::Truth(left > right),
                Operator::AtLeast => Value::Truth(left >= right),
                Operator::Plus => Value::Number(left + right),
                Operator::Minus => Value::Number(left - right),
                Operator::Times => Value::Number(left * right),
                Operator::Over => Value::Number(left / right),
                _ => Value::Number(libm::pow(left, right)),
            }
        }
        Node::Call(function, arguments) => {
            let mut values = Vec::new();
            for argument in arguments {
                match of(argument)? {
                    Value::List(items) => values.extend(items),
                    value => values.push(value),
                }
            }
            let values: Vec<f64> = values.into_iter().map(number).collect::<Option<_>>()?;
            let first = *values.first()?;
            let sum = || values.iter().sum::<f64>();
            Value::Number(match function {
                Function::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
                Function::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Function::Sum => sum(),
                Function::Mean => sum() / values.len() as f64,
                Function::Abs => first.abs(),
                Function::Ceil => first.ceil(),
                Function::Floor => first.floor(),
                Function::Round => first.round(),
                Function::Same => first,
                Function::Int => first.trunc(),
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        let formula = Formula::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        formula.evaluate(|name| match name {
            "a" => Some(7.0),
            "b" => Some(2.0),
            _ => None,
        })
    }

    #[test]
    fn formulas_come_to_numbers() {
        for (text, expected) in [
            ("a + b * 3", 13.0),
            ("(a + b) * 3 - 1", 26.0),
            ("a / b - 1.5", 2.0),
            ("-a + 10", 3.0),
            ("2 ** 3 ** 2", 512.0),
            ("a > b ? a : b", 7.0),
            ("a < b || b == 2 && !false ? 1 : 0", 1.0),
            ("max(a, b, 9)", 9.0),
            ("min([a, b]) + sum([1, 2, 3]) + mean(a, 1)", 12.0),
            ("gone ?? a", 7.0),
            ("gone == nil ? b : gone", 2.0),
            ("int(7.9) + ceil(0.1) + floor(1.9) + abs(-1) + float(b)", 12.0),
        ] {
            assert_eq!(value(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_failed_has_no_result() {
        for text in ["gone + 1", "max(a, gone)", "gone ? 1 : 2", "nil", "a / 0", "a > b", "max()"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        let error = |text| Formula::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("a +"),
            "the end found at character 4, expected a number, a trigger's name, a function or a bracket"
        );
        assert_eq!(error("(a + b"), "the end found at character 7, expected `)`");
        assert_eq!(error("a b"), "`b` found at character 3, expected an operator or the end");
        assert!(
            error("log(a)").starts_with("the function `log` found at character 4, expected one of `min`"),
            "{}",
            error("log(a)")
        );
        assert!(error(&"(".repeat(1000)).ends_with("expected less nesting"));
        assert_eq!(Formula::parse("max(a, b) + a").unwrap().names, ["a", "b"]);
    }
}
