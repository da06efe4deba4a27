//! How many tokens requests have: one file a distribution. Adding one touches its own file and the tables
//! here.

mod empirical;
mod fixed;
mod lognormal;
mod uniform;
mod zipf;

use std::path::PathBuf;

pub use self::empirical::Empirical;
pub use self::fixed::Fixed;
pub use self::lognormal::{LogNormal, LogNormalTokens};
pub use self::uniform::{TokenRange, Uniform};
pub use self::zipf::Zipf;
use super::MAX_TOKENS;
use super::error::WorkloadError;
use super::trace::{self, TraceNotes, TraceSpec};
use crate::choice;
use crate::settings::Faults;

/// The random streams of lengths; the first also serves distributions that draw both at once.
const PREFILL_STREAM: &str = "workload.lengths.prefill";
const DECODE_STREAM: &str = "workload.lengths.decode";

choice! {
    /// The length distributions.
    pub enum Lengths {
        "fixed" => Fixed(Fixed),
        "uniform" => Uniform(Uniform),
        "zipf" => Zipf(Zipf),
        "lognormal" => LogNormal(LogNormal),
        "empirical" => Empirical(Empirical),
        /// The lengths of a trace in its order, from the beginning again when it ends.
        "trace" => Trace(TraceSpec),
    }
}

/// Prefill and decode tokens, a column each.
pub(super) type Columns = (Vec<u32>, Vec<u32>);

impl Lengths {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Fixed(settings) => settings.check(faults),
            Self::Uniform(settings) => settings.check(faults),
            Self::Zipf(settings) => settings.check(faults),
            Self::LogNormal(settings) => settings.check(faults),
            Self::Empirical(settings) => settings.check(faults),
            Self::Trace(settings) => settings.check(faults),
        });
    }

    pub fn depends_on_seed(&self) -> bool {
        !matches!(self, Self::Fixed(_) | Self::Trace(_))
    }

    /// Prefill and decode tokens of one request after the other, without end; `None` for those of a file.
    pub(super) fn pairs(&self, seed: u64) -> Option<Box<dyn Iterator<Item = (u32, u32)> + Send>> {
        Some(match self {
            Self::Fixed(settings) => Box::new(settings.pairs()),
            Self::Uniform(settings) => Box::new(settings.pairs(seed)),
            Self::Zipf(settings) => Box::new(settings.pairs(seed)),
            Self::LogNormal(settings) => Box::new(settings.pairs(seed)),
            Self::Empirical(_) | Self::Trace(_) => return None,
        })
    }

    /// The same of so many requests, all at once.
    pub(super) fn generate(
        &self,
        requests: usize,
        seed: u64,
        base_dirs: &[PathBuf],
        notes: &mut Vec<TraceNotes>,
    ) -> Result<Columns, WorkloadError> {
        Ok(match self {
            Self::Empirical(settings) => settings.generate(requests, seed, base_dirs)?,
            Self::Trace(settings) => {
                let (trace, of_trace) = trace::read(settings, base_dirs)?;
                notes.push(of_trace);
                let around = |column: Vec<u32>| column.into_iter().cycle().take(requests).collect();
                (around(trace.prefill_tokens), around(trace.decode_tokens))
            }
            _ => self.pairs(seed).into_iter().flatten().take(requests).unzip(),
        })
    }
}

/// A number of tokens a request may have.
fn check_tokens(field: &str, tokens: u32, faults: &mut Faults) {
    faults.require((1..=MAX_TOKENS).contains(&tokens), field, || {
        format!("{tokens} found, expected 1 to {MAX_TOKENS} tokens")
    });
}
