//! What numbers of time count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a file's timestamps count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TimeUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}

impl TimeUnit {
    /// Seconds from the decimal text of a number of this unit, bit for bit what its digits say.
    pub(super) fn seconds(self, text: &str) -> Option<f64> {
        let exponent_of_unit = match self {
            Self::Seconds => return text.parse().ok(),
            Self::Milliseconds => 3,
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        format!("{mantissa}e{}", exponent.checked_sub(exponent_of_unit)?).parse().ok()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        }
    }
}
