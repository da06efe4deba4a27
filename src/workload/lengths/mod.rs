//! How many tokens requests have: one file a distribution. Adding one touches its own file and the tables here.

mod fixed;

use std::path::PathBuf;

pub use self::fixed::Fixed;
use super::MAX_TOKENS;
use super::error::WorkloadError;
use crate::choice;
use crate::settings::Faults;

choice! {
    /// The length distributions.
    pub enum Lengths {
        "fixed" => Fixed(Fixed),
    }
}

/// Prefill and decode tokens, a column each.
pub(super) type Columns = (Vec<u32>, Vec<u32>);

impl Lengths {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Fixed(settings) => settings.check(faults),
        });
    }

    pub fn depends_on_seed(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
        }
    }

    pub(super) fn generate(&self, requests: usize, _seed: u64, _base_dirs: &[PathBuf]) -> Result<Columns, WorkloadError> {
        Ok(match self {
            Self::Fixed(settings) => settings.generate(requests),
        })
    }
}

/// A number of tokens a request may have.
fn check_tokens(field: &str, tokens: u32, faults: &mut Faults) {
    faults.require((1..=MAX_TOKENS).contains(&tokens), field, || format!("{tokens} found, expected 1 to {MAX_TOKENS} tokens"));
}
