//! When requests arrive: one file a process. Adding one touches its own file and the tables here.

mod phases;
mod poisson;

use std::path::PathBuf;

pub use self::phases::Phase;
pub use self::poisson::Poisson;
use super::error::WorkloadError;
use crate::choice;
use crate::settings::Faults;

/// The random stream that spacings are drawn from.
const STREAM: &str = "workload.arrivals";

choice! {
    /// The arrival processes.
    pub enum Arrivals {
        "poisson" => Poisson(Poisson),
    }
}

impl Arrivals {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Poisson(settings) => settings.check(faults),
        });
    }

    pub fn depends_on_seed(&self) -> bool {
        match self {
            Self::Poisson(_) => true,
        }
    }

    /// Arrival times in seconds, in order.
    pub(super) fn generate(&self, seed: u64, _base_dirs: &[PathBuf]) -> Result<Vec<f64>, WorkloadError> {
        Ok(match self {
            Self::Poisson(settings) => settings.generate(seed),
        })
    }
}
