//! When requests arrive: one file a process. Adding one touches its own file and the tables here.

mod bursts;
mod diurnal;
pub mod gamma;
pub mod phases;
mod poisson;
mod static_spacing;
pub mod weibull;

use std::path::PathBuf;

pub use self::bursts::{BurstTiming, Bursts};
pub use self::diurnal::Diurnal;
pub use self::gamma::Gamma;
pub use self::phases::Phase;
pub use self::poisson::Poisson;
pub use self::static_spacing::Static;
pub use self::weibull::Weibull;
use super::error::WorkloadError;
use super::trace::{self, TraceNotes, TraceSpec};
use crate::choice;
use crate::settings::Faults;

/// The random stream that spacings are drawn from.
const STREAM: &str = "workload.arrivals";

choice! {
    /// The arrival processes.
    pub enum Arrivals {
        "poisson" => Poisson(Poisson),
        "gamma" => Gamma(Gamma),
        "weibull" => Weibull(Weibull),
        "static" => Static(Static),
        "diurnal" => Diurnal(Diurnal),
        "bursts" => Bursts(Bursts),
        /// The arrival times of a trace.
        "trace" => Trace(TraceSpec),
    }
}

impl Arrivals {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Poisson(settings) => settings.check(faults),
            Self::Gamma(settings) => settings.check(faults),
            Self::Weibull(settings) => settings.check(faults),
            Self::Static(settings) => settings.check(faults),
            Self::Diurnal(settings) => settings.check(faults),
            Self::Bursts(settings) => settings.check(faults),
            Self::Trace(settings) => settings.check(faults),
        });
    }

    pub fn depends_on_seed(&self) -> bool {
        !matches!(self, Self::Static(_) | Self::Trace(_))
    }

    /// Arrival times in seconds, in order, one at a time; `None` for those of a file.
    pub(super) fn times(&self, seed: u64) -> Option<Box<dyn Iterator<Item = f64> + Send>> {
        Some(match self {
            Self::Poisson(settings) => Box::new(settings.times(seed)),
            Self::Gamma(settings) => Box::new(settings.times(seed)),
            Self::Weibull(settings) => Box::new(settings.times(seed)),
            Self::Static(settings) => Box::new(settings.times()),
            Self::Diurnal(settings) => Box::new(settings.times(seed)),
            Self::Bursts(settings) => Box::new(settings.times(seed)),
            Self::Trace(_) => return None,
        })
    }

    /// How long the process goes on, whether or not a request comes at its end; `None` for the arrivals of a
    /// file, which say so themselves.
    pub(super) fn duration_s(&self) -> Option<f64> {
        match self {
            Self::Poisson(Poisson { phases, duration_s, .. })
            | Self::Gamma(Gamma { phases, duration_s, .. })
            | Self::Weibull(Weibull { phases, duration_s, .. })
            | Self::Static(Static { phases, duration_s, .. }) => {
                Some(duration_s.unwrap_or_else(|| phases.iter().map(|phase| phase.duration_s).sum()))
            }
            Self::Diurnal(settings) => Some(settings.duration_s),
            Self::Bursts(settings) => Some(settings.duration_s),
            Self::Trace(_) => None,
        }
    }

    /// All arrival times, and how long the process goes on.
    pub(super) fn generate(
        &self,
        seed: u64,
        base_dirs: &[PathBuf],
        notes: &mut Vec<TraceNotes>,
    ) -> Result<(Vec<f64>, Option<f64>), WorkloadError> {
        Ok(match self {
            Self::Trace(settings) => {
                let (trace, of_trace) = trace::read(settings, base_dirs)?;
                notes.push(of_trace);
                (trace.arrived_at_s, trace.duration_s)
            }
            _ => (self.times(seed).into_iter().flatten().collect(), self.duration_s()),
        })
    }
}
