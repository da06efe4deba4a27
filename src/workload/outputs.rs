//! How many tokens requests may generate, where that is more than they do, and whether they may end before.
//!
//! An engine that reserves room for what a request may still generate is told its `max_new_tokens` and not
//! what it will generate. Traces seldom say it. Unless told otherwise a request may generate just as many
//! tokens as it does, and could have ended before: the mildest case for such an engine.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAX_TOKENS;
use super::lengths::{LogNormalTokens, TokenRange};
use crate::choice;
use crate::random;
use crate::settings::Faults;

const STREAM: &str = "workload.max_new_tokens";

/// What requests may generate; only `sglang` heeds it. Goes before what a trace says (`max_new_tokens`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSettings {
    /// The most tokens a request may generate, and at least what it does. As many as it does if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<MaxNewTokens>,
    /// Whether end-of-sequence tokens are ignored, as benchmarks do to get the lengths they ask for: then it
    /// is known beforehand that a request generates `max_new_tokens`, which are as many as it does.
    pub ignore_eos: bool,
}

choice! {
    /// How the most tokens that a request may generate are found.
    pub enum MaxNewTokens {
        /// The same for all.
        "fixed" => Fixed(FixedMost),
        /// Every number of a range alike.
        "uniform" => Uniform(TokenRange),
        "lognormal" => LogNormal(LogNormalTokens),
        /// A multiple of what the request generates.
        "scaled" => Scaled(ScaledMost),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedMost {
    pub tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaledMost {
    /// At least 1; products are rounded up.
    pub factor: f64,
}

impl OutputSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        let Some(most) = &self.max_new_tokens else { return };
        faults.require(!self.ignore_eos, "ignore_eos", || {
            "true found beside `max_new_tokens`, expected only one of them: requests that ignore end-of-sequence tokens generate \
             `max_new_tokens`"
                .into()
        });
        faults.within("max_new_tokens", |faults| {
            faults.within(most.name(), |faults| match most {
                MaxNewTokens::Fixed(FixedMost { tokens }) => {
                    faults.at_least("tokens", (*tokens).into(), 1);
                    faults.at_most("tokens", (*tokens).into(), MAX_TOKENS.into());
                }
                MaxNewTokens::Uniform(range) => range.check(faults),
                MaxNewTokens::LogNormal(settings) => settings.check(faults),
                MaxNewTokens::Scaled(ScaledMost { factor }) => {
                    faults.require(factor.is_finite() && *factor >= 1.0, "factor", || {
                        format!("{factor} found, expected at least 1")
                    });
                }
            });
        });
    }

    pub(super) fn depends_on_seed(&self) -> bool {
        matches!(self.max_new_tokens, Some(MaxNewTokens::Uniform(_) | MaxNewTokens::LogNormal(_)))
    }
}

/// What the requests of a workload may generate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    pub settings: OutputSettings,
    /// Of what is drawn.
    pub seed: u64,
}

impl Outputs {
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        if self.settings != OutputSettings::default() {
            let seed = if self.settings.depends_on_seed() { self.seed } else { 0 };
            hasher.update(b"outputs");
            hasher.update(&serde_json::to_vec(&(&self.settings, seed)).expect("settings are plain data"));
        }
    }

    /// The most tokens that one request after the other may generate, told what it does; `None` if just that.
    pub fn limits(&self) -> Option<OutputLimits> {
        let draws: Box<dyn Iterator<Item = u32> + Send + Sync> =
            match self.settings.max_new_tokens.as_ref()? {
                MaxNewTokens::Fixed(FixedMost { tokens }) => Box::new(std::iter::repeat(*tokens)),
                MaxNewTokens::Uniform(range) => {
                    let (mut random, range) = (random::stream(self.seed, STREAM), *range);
                    Box::new(std::iter::repeat_with(move || {
                        random.random_range(range.min_tokens..=range.max_tokens)
                    }))
                }
                MaxNewTokens::LogNormal(settings) => Box::new(settings.draws(self.seed, STREAM)),
                MaxNewTokens::Scaled(ScaledMost { factor }) => return Some(OutputLimits::Scaled(*factor)),
            };
        Some(OutputLimits::Drawn(draws))
    }
}

/// See [`Outputs::limits`].
pub enum OutputLimits {
    Drawn(Box<dyn Iterator<Item = u32> + Send + Sync>),
    Scaled(f64),
}

impl OutputLimits {
    /// The most tokens that the next request may generate, which does generate so many.
    pub fn next(&mut self, decode_tokens: u32) -> u32 {
        match self {
            Self::Drawn(draws) => draws.next().map_or(decode_tokens, |most| most.max(decode_tokens)),
            // The product of a length and a factor beyond any length is still one that is in range.
            Self::Scaled(factor) => {
                (f64::from(decode_tokens) * *factor).ceil().min(f64::from(MAX_TOKENS)) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(settings: &str) -> Outputs {
        Outputs { settings: serde_json::from_str(settings).unwrap(), seed: 3 }
    }

    fn faults(settings: &str) -> Vec<String> {
        let mut faults = Faults::default();
        outputs(settings).settings.check(&mut faults);
        faults.found.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn nobody_may_generate_less_than_they_do() {
        let mut fixed = outputs(r#"{"max_new_tokens": {"fixed": {"tokens": 100}}}"#).limits().unwrap();
        assert_eq!([fixed.next(40), fixed.next(100), fixed.next(300)], [100, 100, 300]);
        let mut scaled = outputs(r#"{"max_new_tokens": {"scaled": {"factor": 1.5}}}"#).limits().unwrap();
        assert_eq!([scaled.next(1), scaled.next(40)], [2, 60]);
        let range = r#"{"max_new_tokens": {"uniform": {"min_tokens": 50, "max_tokens": 70}}}"#;
        let draw = |outputs: Outputs| {
            std::iter::repeat_n(60, 100)
                .scan(outputs.limits().unwrap(), |limits, tokens| Some(limits.next(tokens)))
                .collect::<Vec<_>>()
        };
        let drawn = draw(outputs(range));
        assert!(
            drawn.iter().all(|tokens| (60..=70).contains(tokens))
                && drawn.contains(&60)
                && drawn.iter().any(|&tokens| tokens > 66)
        );
        assert_eq!(drawn, draw(outputs(range)));
        assert_ne!(drawn, draw(Outputs { seed: 4, ..outputs(range) }));
        assert!(outputs("{}").limits().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_a_fault() {
        assert_eq!(faults(r#"{"ignore_eos": true}"#), [""; 0]);
        assert_eq!(
            faults(r#"{"ignore_eos": true, "max_new_tokens": {"fixed": {"tokens": 9}}}"#),
            ["ignore_eos"]
        );
        assert_eq!(
            faults(r#"{"max_new_tokens": {"fixed": {"tokens": 0}}}"#),
            ["max_new_tokens.fixed.tokens"]
        );
        assert_eq!(
            faults(r#"{"max_new_tokens": {"scaled": {"factor": 0.5}}}"#),
            ["max_new_tokens.scaled.factor"]
        );
        assert_eq!(
            faults(r#"{"max_new_tokens": {"uniform": {"min_tokens": 9, "max_tokens": 3}}}"#),
            ["max_new_tokens.uniform.max_tokens"]
        );
    }
}
