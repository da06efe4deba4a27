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
use super::trace::{self, TraceSpec};
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

    /// Arrival times in seconds, in order.
    pub(super) fn generate(&self, seed: u64, base_dirs: &[PathBuf]) -> Result<Vec<f64>, WorkloadError> {
        Ok(match self {
            Self::Poisson(settings) => settings.generate(seed),
            Self::Gamma(settings) => settings.generate(seed),
            Self::Weibull(settings) => settings.generate(seed),
            Self::Static(settings) => settings.generate(),
            Self::Diurnal(settings) => settings.generate(seed),
            Self::Bursts(settings) => settings.generate(seed),
            Self::Trace(settings) => trace::read(settings, base_dirs)?.0.arrived_at_s,
        })
    }
}
