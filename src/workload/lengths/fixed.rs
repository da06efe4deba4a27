//! Every request alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_tokens;
use crate::settings::Faults;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    /// Prompt tokens of every request.
    pub prefill_tokens: u32,
    /// Output tokens of every request.
    pub decode_tokens: u32,
}

impl Fixed {
    pub(super) fn check(&self, faults: &mut Faults) {
        check_tokens("prefill_tokens", self.prefill_tokens, faults);
        check_tokens("decode_tokens", self.decode_tokens, faults);
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        std::iter::repeat((self.prefill_tokens, self.decode_tokens))
    }
}
