//! How one replica forms batches: one file a scheduler; adding one is that file and a line in each of the
//! lists below.
//!
//! A scheduler owns no requests: it moves their [`Slot`]s between a replica's queue, its waiting list and the
//! batch being formed, and accounts for KV blocks. The rules are those of the reference implementation
//! (microsoft/vidur), odd as some look; those of `vllm_v1` are vLLM's own. What only one scheduler keeps of a
//! replica or a request is a type of its own ([`VllmV1State`], [`Held`]).

#[macro_use]
mod settings;
#[cfg(test)]
mod bench;
mod faster_transformer;
mod ids;
mod lightllm;
mod orca;
mod prefix_cache;
mod queue;
mod request;
mod rule;
mod sarathi;
mod sglang;
mod state;
mod vllm;
mod vllm_v1;

pub use faster_transformer::{FasterTransformer, FasterTransformerSettings};
pub use ids::{Lane, ReplicaId};
pub use lightllm::{Lightllm, LightllmSettings};
pub use orca::{Orca, OrcaSettings};
pub use prefix_cache::Held;
pub use queue::Queue;
pub use request::{Handover, Request, Requests, Slot};
pub use rule::Rule;
pub use sarathi::{Sarathi, SarathiSettings};
pub use settings::{Common, ReplicaShape, SchedulerSettings};
pub use sglang::{Policy as SglangPolicy, Sglang, SglangSettings};
pub use state::{Batch, KvBlocks, ReplicaState};
pub use vllm::{Vllm, VllmSettings};
pub use vllm_v1::{Reserved, State as VllmV1State, VllmV1, VllmV1Settings};

use crate::choice;
use crate::hardware::catalog::Device;
use crate::hardware::memory::VllmDefaults;
use crate::settings::Faults;

/// The largest KV block: engines have 1 to some hundred tokens.
const MAX_BLOCK_SIZE_TOKENS: u64 = 65_536;

choice! {
    /// How a replica forms batches.
    pub enum ReplicaSchedulerSettings: SchedulerSettings {
        "vllm" => Vllm(VllmSettings),
        "sarathi" => Sarathi(SarathiSettings),
        "orca" => Orca(OrcaSettings),
        "lightllm" => Lightllm(LightllmSettings),
        "faster_transformer" => FasterTransformer(FasterTransformerSettings),
        "vllm_v1" => VllmV1(VllmV1Settings),
        "sglang" => Sglang(SglangSettings),
    }
}

impl Default for ReplicaSchedulerSettings {
    fn default() -> Self {
        Self::Vllm(VllmSettings::default())
    }
}

impl ReplicaSchedulerSettings {
    pub fn common(&self) -> Common {
        self.settings().common()
    }

    /// Whether a prompt may be prefilled in parts.
    pub fn chunks_prefills(&self) -> bool {
        self.settings().chunks_prefills()
    }

    /// Whether prompts that begin alike may share what was computed of them.
    pub fn caches_prefixes(&self) -> bool {
        self.settings().caches_prefixes()
    }

    /// Whether a replica's queue, waiting list and KV blocks are all that its scheduler remembers of it.
    pub fn keeps_nothing_of_its_own(&self) -> bool {
        matches!(self, Self::Vllm(_) | Self::Sarathi(_) | Self::Orca(_) | Self::Lightllm(_))
    }

    /// Whether a decoding request may be given more tokens than it yields.
    pub fn drafts_tokens(&self) -> bool {
        matches!(self, Self::VllmV1(settings) if settings.speculative.is_some())
    }

    /// What the engine has that bears on its memory, if that is known.
    pub fn vllm_defaults(&self) -> Option<VllmDefaults> {
        match self {
            Self::VllmV1(settings) => Some(settings.memory_defaults()),
            _ => None,
        }
    }

    /// The same with everything said that depends on the device.
    #[must_use]
    pub fn on_device(&self, device: &Device) -> Self {
        self.settings().on_device(device).unwrap_or_else(|| self.clone())
    }

    /// Whether the engine sorts logits to sample by top-k or top-p: vLLM before 0.17 does.
    pub fn sorts_logits(&self) -> bool {
        match self {
            Self::Vllm(_) => true,
            Self::VllmV1(settings) => settings.sorts_logits(),
            _ => false,
        }
    }

    /// Checks the settings for replicas of `pipeline_parallel` stages.
    pub fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        let common = self.common();
        faults.within(self.name(), |faults| {
            faults.at_least("batch_size_cap", common.batch_size_cap.into(), 1);
            faults.at_least("block_size_tokens", common.block_size_tokens.into(), 1);
            faults.at_most("block_size_tokens", common.block_size_tokens.into(), MAX_BLOCK_SIZE_TOKENS);
            faults.fraction("watermark_blocks_fraction", common.watermark_blocks_fraction);
            if let Some(num_blocks) = common.num_blocks {
                faults.at_least("num_blocks", num_blocks.into(), 1);
            }
            self.settings().check(pipeline_parallel, faults);
        });
    }

    /// The rule itself.
    pub fn build(&self, replica: &ReplicaShape) -> Rule {
        match self {
            Self::Vllm(settings) => Rule::Vllm(Vllm::new(settings, replica.pipeline_parallel)),
            _ => Rule::Other(self.settings().build(replica)),
        }
    }
}

/// The rule by which a replica forms batches.
///
/// [`Self::would_admit`] and the methods after it, up to [`Self::reserves_ahead`], let the engine advance many
/// decode iterations at once; they only concern replicas of one stage, while all requests in memory are in one
/// batch of decodes.
pub trait ReplicaScheduler: Send + Sync {
    /// Moves requests from queue and waiting list into an empty `batch`; leaves it empty if there is nothing
    /// to do.
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch);

    /// A batch has run that started at `started_at_s`; its tokens are about to be counted. A scheduler that
    /// works a step ahead puts the next one together now, and leaves 0 tokens to a request that it takes out
    /// of memory meanwhile.
    fn look_ahead(
        &self,
        _replica: &mut ReplicaState,
        _requests: &mut Requests,
        _batch: &mut Batch,
        _started_at_s: f64,
    ) {
    }

    /// Takes back the requests of an ended batch, after they were advanced.
    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        replica.end_batch(requests, batch);
    }

    /// Whether a request could be admitted by a replica that is otherwise empty, and then finish. What could
    /// not is rejected: waiting for it would never end.
    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool;

    /// Whether [`Self::lets_in`] is to be asked.
    fn limits_queues(&self) -> bool {
        false
    }

    /// Whether a request that is routed to a replica is let in. One that is not is rejected, as by a server
    /// that is busy.
    fn lets_in(&self, _replica: &ReplicaState, _requests: &Requests) -> bool {
        true
    }

    /// Whether the head of the queue might be taken (or rejected) when the next batch is formed. May err
    /// towards true.
    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool;

    /// Asked right after a batch of decodes was formed: how many batches of just these requests will follow,
    /// as long as none of them finishes, blocks suffice and no request arrives that [`Self::would_admit`].
    /// May err downwards.
    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        if replica.waiting.is_empty() && !self.would_admit(replica, requests) { u32::MAX } else { 0 }
    }

    /// That many repeats were formed without asking [`Self::form_batch`].
    fn skipped_decodes(&self, _replica: &mut ReplicaState, _repeats: u32) {}

    /// Asked of a batch of decodes that repeats itself, of which the step under way started at `started_at_s`: whether
    /// the next one goes without whoever is first in the queue, since it has been put together before. May err
    /// towards false.
    fn overlooks_first(&self, _replica: &ReplicaState, _requests: &Requests, _started_at_s: f64) -> bool {
        false
    }

    /// Whether requests may come to a batch of decodes and go while all others go on as they are: then the
    /// engine asks [`Self::may_change_run`], and calls the two methods after it.
    fn changes_runs(&self) -> bool {
        false
    }

    /// Asked where a step ends that all others decode in, beside so many `others` with their tokens: whether
    /// [`Self::end_iteration`] and [`Self::form_iteration`] do what [`Self::end_batch`] and
    /// [`Self::form_batch`] would. May err towards false.
    fn may_change_run(&self, _replica: &ReplicaState, _requests: &Requests, _others: &[(Slot, u32)]) -> bool {
        false
    }

    /// Takes back those that a step has `finished`, after they were advanced. Whoever has a part of its
    /// prompt yet to be computed is on the waiting list; whoever is not there decodes.
    fn end_iteration(&self, _replica: &mut ReplicaState, _requests: &mut Requests, _finished: &[Slot]) {}

    /// Moves requests from waiting list and queue into a `batch` of all that decode.
    fn form_iteration(&self, _replica: &mut ReplicaState, _requests: &mut Requests, _batch: &mut Batch) {}

    /// Whether decodes may be skipped where a replica can be lost in their midst: not if the peak of KV use
    /// would then count what was taken for steps that never ran.
    fn may_be_lost(&self) -> bool {
        true
    }

    /// Whether admission reserves all blocks a request will ever need, so that decodes need none.
    fn reserves_ahead(&self) -> bool {
        false
    }

    /// The next of the prompts whose KV caches come from elsewhere and that the latest batch gave room. These
    /// methods concern schedulers that hand KV caches over; see [`Handover`].
    fn take_reserved(&self, _replica: &mut ReplicaState) -> Option<Reserved> {
        None
    }

    /// The KV cache of a prompt that was given room has arrived.
    fn receive_kv(&self, _replica: &mut ReplicaState, _slot: Slot, _now_s: f64) {}

    /// The KV cache of a prompt computed here, by its number, has been read elsewhere, while a batch runs
    /// here or not.
    fn kv_was_read(&self, _replica: &mut ReplicaState, _requests: &Requests, _id: u32, _runs: bool) {}

    /// Prompts computed here whose KV caches have not been read, by their numbers.
    fn unread(&self, _replica: &ReplicaState) -> Vec<u32> {
        Vec::new()
    }

    /// Tokens of a prompt that are cached, of a request that is not there.
    fn cached_tokens(
        &self,
        _replica: &mut ReplicaState,
        _requests: &Requests,
        _id: u32,
        _prefill_tokens: u32,
    ) -> u32 {
        0
    }

    /// Takes away a request that waits for room, or for its KV cache; whether it waited for room.
    fn withdraw(&self, replica: &mut ReplicaState, _requests: &mut Requests, slot: Slot) -> bool {
        let place = replica.queue.iter().position(|&other| other == slot);
        place.map(|place| replica.queue.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(settings: &str, pipeline_parallel: u32) -> Vec<String> {
        let mut faults = Faults::default();
        serde_json::from_str::<ReplicaSchedulerSettings>(settings)
            .unwrap()
            .check(pipeline_parallel, &mut faults);
        faults.found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn bare_names_work() {
        for name in ReplicaSchedulerSettings::NAMES {
            assert_eq!(faults(&format!("\"{name}\""), 1), [""; 0]);
        }
    }

    #[test]
    fn faults_say_what_to_do() {
        let found = faults(r#"{"lightllm": {"block_size_tokens": 16, "num_blocks": 0}}"#, 2);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("lightllm.num_blocks: 0 found, expected at least 1"), "{found:?}");
        assert!(found[1].starts_with("lightllm.block_size_tokens: 16 found, expected 1"), "{found:?}");
        assert!(
            found[2].starts_with("lightllm: ") && found[2].contains("`pipeline_parallel` is 2; set it to 1"),
            "{found:?}"
        );
        for name in ["vllm", "sarathi", "vllm_v1"] {
            let found = faults(&format!(r#"{{"{name}": {{"batch_size_cap": 3}}}}"#), 4);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("expected at least `pipeline_parallel` (4)"), "{found:?}");
        }
        assert_eq!(faults(r#"{"sarathi": {"chunk_size_tokens": 0}}"#, 1).len(), 1);
    }
}
