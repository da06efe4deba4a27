//! Settings of generated sessions.

use std::fmt;

use rand::RngExt;
use rand_distr::{Exp1, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::super::arrivals::{Arrivals, Bursts, Diurnal, Gamma, Poisson, Static, Weibull};
use super::super::lengths::Lengths;
use super::super::sessions::MOST_TURNS;
use super::super::trace_spec::TraceSpec;
use super::super::{MAX_ARRIVAL_S, MAX_REQUESTS, MAX_TOKENS};
use crate::choice;
use crate::settings::Faults;

/// Sessions drawn from distributions: each a number of turns, one after the answer to the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// When sessions start: any arrivals (of first turns), or `concurrency`.
    pub starts: Starts,
    /// How many turns a session has.
    pub turns: Turns,
    /// Tokens of a turn: those that are new in its prompt, and those of its answer.
    pub lengths: Lengths,
    /// The same of first turns, where they are of another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lengths: Option<Lengths>,
    /// From the last token of an answer to the next turn: seconds, or a distribution of them.
    #[serde(default)]
    pub think_time_s: ThinkTime,
    /// What a turn's prompt has beside what is new in it.
    #[serde(default)]
    pub history: History,
    /// What many sessions begin with, such as a system prompt: before what is new in a first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_prefix: Option<SharedPrefix>,
    /// Agents: other sessions that a turn starts, and that a later turn waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagents: Option<Subagents>,
    /// Whether turns wait for answers.
    #[serde(default, rename = "loop")]
    pub closing: Loop,
    /// How long a user waits for the first token of an answer: whoever waited longer does not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_s: Option<f64>,
    /// A session ends before a turn whose prompt and answer would be longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_tokens: Option<u32>,
}

choice! {
    /// When sessions start.
    pub enum Starts {
        "poisson" => Poisson(Poisson),
        "gamma" => Gamma(Gamma),
        "weibull" => Weibull(Weibull),
        "static" => Static(Static),
        "diurnal" => Diurnal(Diurnal),
        "bursts" => Bursts(Bursts),
        /// The arrival times of a trace.
        "trace" => Trace(TraceSpec),
        /// So many at a time.
        "concurrency" => Concurrency(Concurrency),
    }
}

/// A closed loop: each lane has one session after the other, the next one starting with the last token of the
/// one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Sessions at a time, such as users.
    pub lanes: u32,
    /// Sessions in all.
    pub sessions: u32,
    /// The lanes begin at equal distances within this time, and all at once if it is 0.
    #[serde(default)]
    pub ramp_s: f64,
}

choice! {
    /// How many turns sessions have.
    pub enum Turns {
        /// All as many.
        "fixed" => Fixed(FixedTurns),
        /// After each turn another one follows with the same probability.
        "geometric" => Geometric(GeometricTurns),
        /// Drawn from a list.
        "empirical" => Empirical(EmpiricalTurns),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedTurns {
    pub turns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeometricTurns {
    /// At least 1, before `max` cuts.
    pub mean: f64,
    /// The most turns.
    #[serde(default = "most_turns")]
    pub max: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmpiricalTurns {
    /// Numbers of turns, all as likely: a list by nature, and so no axis.
    pub drawn_from: Vec<u32>,
}

fn most_turns() -> u32 {
    1000
}

choice! {
    /// How long users think.
    pub enum Thinking {
        "fixed" => Fixed(FixedTime),
        "exponential" => Exponential(ExponentialTime),
        "lognormal" => LogNormal(LogNormalTime),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedTime {
    pub s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExponentialTime {
    pub mean_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogNormalTime {
    pub mean_s: f64,
    /// Standard deviation over mean.
    pub cv: f64,
}

/// A number of seconds, or a distribution of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ThinkTime(pub Thinking);

impl Default for ThinkTime {
    fn default() -> Self {
        Self(Thinking::Fixed(FixedTime::default()))
    }
}

impl Serialize for ThinkTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Thinking::Fixed(FixedTime { s }) => serializer.serialize_f64(*s),
            other => other.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ThinkTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ThinkTimeVisitor;
        impl<'de> Visitor<'de> for ThinkTimeVisitor {
            type Value = ThinkTime;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(
                    f,
                    "a number of seconds, or {{\"name\": {{settings}}}} with one of {}",
                    crate::settings::quoted(Thinking::NAMES)
                )
            }

            fn visit_f64<E>(self, s: f64) -> Result<ThinkTime, E> {
                Ok(ThinkTime(Thinking::Fixed(FixedTime { s })))
            }

            fn visit_u64<E>(self, s: u64) -> Result<ThinkTime, E> {
                Ok(ThinkTime(Thinking::Fixed(FixedTime { s: s as f64 })))
            }

            fn visit_i64<E>(self, s: i64) -> Result<ThinkTime, E> {
                Ok(ThinkTime(Thinking::Fixed(FixedTime { s: s as f64 })))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ThinkTime, A::Error> {
                Thinking::deserialize(MapAccessDeserializer::new(map)).map(ThinkTime)
            }
        }
        deserializer.deserialize_any(ThinkTimeVisitor)
    }
}

impl JsonSchema for ThinkTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ThinkTime".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let distribution = generator.subschema_for::<Thinking>();
        json_schema!({ "anyOf": [{ "type": "number" }, distribution] })
    }
}

/// What a prompt has beside what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// All that was said in the session before, answers included.
    #[default]
    Accumulate,
    /// Nothing but what many sessions begin with.
    None,
}

/// Tokens that sessions of a group begin with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedPrefix {
    /// Sessions belong to the groups in turn.
    #[serde(default = "one_group")]
    pub groups: u32,
    pub tokens: u32,
}

fn one_group() -> u32 {
    1
}

/// Agents that a turn starts side by side. Each begins anew with a task of its own, behind the shared prefix
/// of its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subagents {
    /// The answers that start agents: every so many turns of the main session, if another turn follows.
    pub every_turns: u32,
    /// Agents that each of them starts. The next turn waits for all of them.
    pub number: u32,
    /// How many turns an agent has.
    pub turns: Turns,
    /// Tokens of its turns, as those of the session; its first turn is its task.
    pub lengths: Lengths,
    /// From its answers to its next turns, and from the answer that starts it to its first: tools at work.
    #[serde(default)]
    pub tool_time_s: ThinkTime,
}

choice! {
    /// Whether turns wait for the answers before them.
    pub enum Loop {
        /// They do.
        "closed" => Closed(ClosedLoop),
        /// They come at times of their own, as when arrivals are replayed as if they were independent.
        "open" => Open(OpenLoop),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosedLoop {}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenLoop {
    /// How long each answer is taken to last, whatever it does.
    pub answer_s: f64,
}

impl Default for Loop {
    fn default() -> Self {
        Self::Closed(ClosedLoop {})
    }
}

impl SessionSpec {
    pub fn check(&self, faults: &mut Faults) {
        faults.within("starts", |faults| self.starts.check(faults));
        faults.within("turns", |faults| self.turns.check(faults));
        faults.within("lengths", |faults| self.lengths.check(faults));
        if let Some(lengths) = &self.first_lengths {
            faults.within("first_lengths", |faults| lengths.check(faults));
        }
        faults.within("think_time_s", |faults| self.think_time_s.check(faults));
        if let Some(SharedPrefix { groups, tokens }) = self.shared_prefix {
            faults.within("shared_prefix", |faults| {
                faults.at_least("groups", groups.into(), 1);
                faults.at_most("groups", groups.into(), MAX_REQUESTS as u64);
                faults.at_least("tokens", tokens.into(), 1);
                faults.at_most("tokens", tokens.into(), MAX_TOKENS.into());
            });
        }
        if let Some(subagents) = &self.subagents {
            faults.within("subagents", |faults| subagents.check(faults));
        }
        if let Loop::Open(OpenLoop { answer_s }) = self.closing {
            faults.within("loop.open", |faults| faults.not_negative("answer_s", answer_s));
            faults.require(self.patience_s.is_none(), "patience_s", || {
                "found beside `loop` \"open\", expected only one of them: users whose turns do not wait for answers never leave".into()
            });
            faults.require(self.starts.arrivals().is_some(), "loop", || {
                "\"open\" found beside `starts.concurrency`, which waits for sessions to end; expected \"closed\", or other `starts`".into()
            });
        }
        if let Some(patience_s) = self.patience_s {
            faults.positive("patience_s", patience_s);
        }
        if let Some(most) = self.max_context_tokens {
            faults.at_least("max_context_tokens", most.into(), 2);
            faults.at_most("max_context_tokens", most.into(), MAX_TOKENS.into());
        }
    }

    pub fn depends_on_seed(&self) -> bool {
        let of_lengths = |lengths: &Lengths| lengths.depends_on_seed();
        self.starts.arrivals().is_some_and(|arrivals| arrivals.depends_on_seed())
            || self.turns.depends_on_seed()
            || of_lengths(&self.lengths)
            || self.first_lengths.as_ref().is_some_and(of_lengths)
            || self.think_time_s.depends_on_seed()
            || self.subagents.as_ref().is_some_and(|subagents| {
                subagents.turns.depends_on_seed()
                    || of_lengths(&subagents.lengths)
                    || subagents.tool_time_s.depends_on_seed()
            })
    }
}

impl Starts {
    /// The arrivals of first turns; `None` where sessions start as others end.
    pub fn arrivals(&self) -> Option<Arrivals> {
        Some(match self.clone() {
            Self::Poisson(settings) => Arrivals::Poisson(settings),
            Self::Gamma(settings) => Arrivals::Gamma(settings),
            Self::Weibull(settings) => Arrivals::Weibull(settings),
            Self::Static(settings) => Arrivals::Static(settings),
            Self::Diurnal(settings) => Arrivals::Diurnal(settings),
            Self::Bursts(settings) => Arrivals::Bursts(settings),
            Self::Trace(settings) => Arrivals::Trace(settings),
            Self::Concurrency(_) => return None,
        })
    }

    fn check(&self, faults: &mut Faults) {
        match self {
            Self::Concurrency(Concurrency { lanes, sessions, ramp_s }) => {
                faults.within("concurrency", |faults| {
                    faults.at_least("lanes", (*lanes).into(), 1);
                    faults.at_least("sessions", (*sessions).into(), 1);
                    faults.at_most("sessions", (*sessions).into(), MAX_REQUESTS as u64);
                    faults.not_negative("ramp_s", *ramp_s);
                    faults.require(*ramp_s <= MAX_ARRIVAL_S, "ramp_s", || {
                        format!("{ramp_s} found, expected at most {MAX_ARRIVAL_S} s")
                    });
                })
            }
            _ => self.arrivals().into_iter().for_each(|arrivals| arrivals.check(faults)),
        }
    }
}

impl Turns {
    fn check(&self, faults: &mut Faults) {
        let in_range = |faults: &mut Faults, field: &str, turns: u32| {
            faults.require((1..=MOST_TURNS).contains(&turns), field, || {
                format!("{turns} found, expected 1 to {MOST_TURNS} turns")
            });
        };
        faults.within(self.name(), |faults| match self {
            Self::Fixed(FixedTurns { turns }) => in_range(faults, "turns", *turns),
            Self::Geometric(GeometricTurns { mean, max }) => {
                faults.require(mean.is_finite() && *mean >= 1.0, "mean", || {
                    format!("{mean} found, expected at least 1 turn")
                });
                in_range(faults, "max", *max);
            }
            Self::Empirical(EmpiricalTurns { drawn_from: turns }) => {
                faults.require(!turns.is_empty(), "drawn_from", || {
                    "an empty list found, expected numbers of turns".into()
                });
                turns
                    .iter()
                    .enumerate()
                    .for_each(|(index, &turns)| in_range(faults, &format!("drawn_from[{index}]"), turns));
            }
        });
    }

    fn depends_on_seed(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    pub(super) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> u32 {
        match self {
            Self::Fixed(FixedTurns { turns }) => *turns,
            Self::Geometric(GeometricTurns { mean, max }) => {
                let uniform = 1.0 - random.random::<f64>();
                if *mean <= 1.0 {
                    return 1;
                }
                let more = libm::log(uniform) / libm::log1p(-1.0 / mean);
                (more.floor() + 1.0).min(f64::from(*max)) as u32
            }
            Self::Empirical(EmpiricalTurns { drawn_from: turns }) => {
                turns[random.random_range(0..turns.len())]
            }
        }
    }
}

impl ThinkTime {
    fn check(&self, faults: &mut Faults) {
        match &self.0 {
            Thinking::Fixed(FixedTime { s }) => faults.not_negative("", *s),
            Thinking::Exponential(ExponentialTime { mean_s }) => {
                faults.within("exponential", |faults| faults.positive("mean_s", *mean_s))
            }
            Thinking::LogNormal(LogNormalTime { mean_s, cv }) => faults.within("lognormal", |faults| {
                faults.positive("mean_s", *mean_s);
                faults.not_negative("cv", *cv);
            }),
        }
    }

    fn depends_on_seed(&self) -> bool {
        !matches!(self.0, Thinking::Fixed(_))
    }

    pub(super) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match &self.0 {
            Thinking::Fixed(FixedTime { s }) => *s,
            Thinking::Exponential(ExponentialTime { mean_s }) => mean_s * random.sample::<f64, _>(Exp1),
            Thinking::LogNormal(LogNormalTime { mean_s, cv }) => {
                let variance = libm::log1p(cv * cv);
                libm::exp(
                    libm::log(*mean_s) - 0.5 * variance
                        + libm::sqrt(variance) * random.sample::<f64, _>(StandardNormal),
                )
            }
        }
    }
}

impl Subagents {
    fn check(&self, faults: &mut Faults) {
        faults.at_least("every_turns", self.every_turns.into(), 1);
        faults.at_least("number", self.number.into(), 1);
        faults.at_most("number", self.number.into(), 1000);
        faults.within("turns", |faults| self.turns.check(faults));
        faults.within("lengths", |faults| self.lengths.check(faults));
        faults.within("tool_time_s", |faults| self.tool_time_s.check(faults));
    }
}
