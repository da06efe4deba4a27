//! Settings of `vllm_v1`, their defaults by version and device, and what vLLM refuses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VllmV1;
use super::offloading::KvOffloading;
use super::speculative::{Drafting, Speculative};
use crate::hardware::catalog::Device;
use crate::hardware::memory::VllmDefaults;
use crate::replica_scheduler::settings::check_shared_cap;
use crate::replica_scheduler::{
    Common, ReplicaScheduler, ReplicaSchedulerSettings, ReplicaShape, SchedulerSettings,
};
use crate::settings::Faults;

/// vLLM's scheduler since version 1. What is absent is as `vllm serve` has it in that version, on that
/// device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmV1Settings {
    /// The version whose rules and defaults these are, `"0.8"` to `"0.33"`; numbers after the second do not
    /// matter. 0.33, 0.22 and 0.18 were run beside this one step by step; what others did otherwise is known
    /// by its switches and the version that brought each.
    pub version: String,
    /// Most requests in memory at once: vLLM's `max_num_seqs`. If absent 1,024 on devices of 70 GiB and more,
    /// but 256 on A100 and smaller ones; no more than `max_tokens_in_batch`.
    pub batch_size_cap: Option<u32>,
    /// Most of these requests that run at once, where that is fewer: vLLM's `max_num_active_seqs`.
    pub max_num_active_seqs: Option<u32>,
    /// Tokens of a batch, prefills and decodes together: vLLM's `max_num_batched_tokens`. If absent 8,192 on
    /// devices of 70 GiB and more, but 2,048 on A100 and smaller ones; since 0.28 16,384 from 160 GiB on.
    pub max_tokens_in_batch: Option<u32>,
    /// `"throughput"` doubles the two defaults.
    pub performance_mode: PerformanceMode,
    pub block_size_tokens: u32,
    /// KV blocks of a replica; the memory planner's figure if absent.
    pub num_blocks: Option<u32>,
    /// Whether blocks are kept after use and what is found in them is not computed again: beginnings of
    /// prompts, where the workload says which are alike, and what a preempted request had computed.
    pub prefix_caching: bool,
    /// Whether a step is scheduled while the one before it runs; since 0.14 if absent.
    pub async_scheduling: Option<bool>,
    /// Whether a request is admitted only if all of it that is known fits the free blocks, and not its first
    /// chunk: vLLM's `scheduler_reserve_full_isl`; since 0.19 if absent.
    pub reserve_full_prompt: Option<bool>,
    /// Whether freed blocks that cache nothing are taken before those that do; since 0.23 if absent.
    pub unhashed_blocks_first: Option<bool>,
    /// Share of all KV blocks that admission leaves free while other requests run; since 0.24.
    #[serde(alias = "watermark_blocks_fraction")]
    pub watermark: f64,
    /// Most tokens of one prompt in a step, 0 for no limit. Since 0.32 not applied to a request that is
    /// alone.
    pub long_prefill_token_threshold: u32,
    /// Most requests of a replica, waiting and running, beyond which new ones are rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_queued_reqs: Option<u32>,
    /// Prompt tokens of requests without a first token from which on new requests are rejected, each counted
    /// whole until it comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_num_queued_tokens: Option<u64>,
    /// Who comes first, and who is preempted last.
    #[serde(skip_serializing_if = "Policy::is_fcfs")]
    pub policy: Policy,
    /// Speculative decoding, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative: Option<Speculative>,
    /// A second tier of the prefix cache in the host's memory, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_offloading: Option<KvOffloading>,
    /// Prompts are computed in one step of so many, while others decode and no prompt is left waiting; since 0.33.
    pub prefill_schedule_interval: u32,
}

impl Default for VllmV1Settings {
    fn default() -> Self {
        Self {
            version: format!("{}.{}", LATEST.0, LATEST.1),
            batch_size_cap: None,
            max_num_active_seqs: None,
            max_tokens_in_batch: None,
            performance_mode: PerformanceMode::default(),
            block_size_tokens: 16,
            num_blocks: None,
            prefix_caching: true,
            async_scheduling: None,
            reserve_full_prompt: None,
            unhashed_blocks_first: None,
            watermark: 0.0,
            long_prefill_token_threshold: 0,
            max_num_queued_reqs: None,
            max_num_queued_tokens: None,
            policy: Policy::default(),
            speculative: None,
            kv_offloading: None,
            prefill_schedule_interval: 1,
        }
    }
}

/// Who comes first among waiting requests, and who is preempted last: vLLM's `scheduling_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VllmPolicy")]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// First come, first served; the request admitted last is preempted.
    #[default]
    Fcfs,
    /// Requests of higher priority (a workload's `priorities`) first, those alike in order of arrival; the
    /// last in this order is preempted, even if it was scheduled in the same step. Waiting requests preempt
    /// nobody. (vLLM's own numbers are the other way round: lower first.)
    Priority,
}

impl Policy {
    fn is_fcfs(&self) -> bool {
        *self == Self::Fcfs
    }
}

/// What the defaults are for: vLLM's `--performance-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PerformanceMode {
    #[default]
    Balanced,
    /// Of no effect on scheduling.
    Interactivity,
    /// Twice the default batch.
    Throughput,
}

/// The first two numbers of a version.
type Version = (u32, u32);

const OLDEST: Version = (0, 8);
const LATEST: Version = (0, 33);
const ASYNC_SCHEDULING: Version = (0, 14);
/// From here on sampling by top-k and top-p does not sort; measured runs show no such cost.
const SAMPLES_WITHOUT_SORTING: Version = (0, 17);
const RESERVE_FULL_PROMPT: Version = (0, 19);
const MORE_MEMORY: Version = (0, 20);
const UNHASHED_BLOCKS_FIRST: Version = (0, 23);
const WATERMARK: Version = (0, 24);
const LARGE_DEVICES: Version = (0, 28);
const LONE_PREFILLS_UNLIMITED: Version = (0, 32);
const PREFILL_SCHEDULE_INTERVAL: Version = (0, 33);

fn version(text: &str) -> Option<Version> {
    let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(|number| number.parse().ok());
    let version = (numbers.next()??, numbers.next()??);
    numbers.all(|number| number.is_some()).then_some(version)
}

impl VllmV1Settings {
    /// The version nearest to another one whose rules are known; the latest of one that is not.
    pub fn nearest_version(other: Option<(u32, u32)>) -> String {
        let (major, minor) = other.unwrap_or(LATEST).clamp(OLDEST, LATEST);
        format!("{major}.{minor}")
    }

    pub(crate) fn sorts_logits(&self) -> bool {
        self.version() < SAMPLES_WITHOUT_SORTING
    }

    /// The version; the latest of one that is faulty.
    fn version(&self) -> Version {
        version(&self.version).unwrap_or(LATEST)
    }

    /// These settings with everything said that depends on version and device.
    pub fn on(&self, device: &Device) -> Self {
        let version = self.version();
        let is_large = device.memory_gib >= 70.0 && !device.name.contains("a100");
        let (tokens, requests) = match () {
            () if device.memory_gib >= 160.0 && version >= LARGE_DEVICES => (16_384, 1024),
            () if is_large => (8192, 1024),
            () => (2048, 256),
        };
        let factor = if self.performance_mode == PerformanceMode::Throughput { 2 } else { 1 };
        let max_tokens_in_batch = self.max_tokens_in_batch.unwrap_or(factor * tokens);
        Self {
            max_tokens_in_batch: Some(max_tokens_in_batch),
            batch_size_cap: Some(self.batch_size_cap.unwrap_or((factor * requests).min(max_tokens_in_batch))),
            async_scheduling: Some(self.async_scheduling.unwrap_or(version >= ASYNC_SCHEDULING)),
            reserve_full_prompt: Some(self.reserve_full_prompt.unwrap_or(version >= RESERVE_FULL_PROMPT)),
            unhashed_blocks_first: Some(
                self.unhashed_blocks_first.unwrap_or(version >= UNHASHED_BLOCKS_FIRST),
            ),
            ..self.clone()
        }
    }

    /// What bears on memory: the share of it that is used, and the largest batch.
    pub fn memory_defaults(&self) -> VllmDefaults {
        let gpu_memory_utilization = if self.version() >= MORE_MEMORY { 0.92 } else { 0.9 };
        VllmDefaults { gpu_memory_utilization, max_batched_tokens: self.limits().0 }
    }

    /// What `on` sets; that of the smallest devices where it was not asked.
    fn limits(&self) -> (u32, u32) {
        let tokens = self.max_tokens_in_batch.unwrap_or(2048);
        (tokens, self.batch_size_cap.unwrap_or(tokens.min(256)))
    }
}

impl SchedulerSettings for VllmV1Settings {
    fn common(&self) -> Common {
        Common {
            batch_size_cap: self.limits().1,
            block_size_tokens: self.block_size_tokens,
            watermark_blocks_fraction: 0.0,
            num_blocks: self.num_blocks,
        }
    }

    fn on_device(&self, device: &Device) -> Option<ReplicaSchedulerSettings> {
        Some(ReplicaSchedulerSettings::VllmV1(self.on(device)))
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        let known = version(&self.version).is_some_and(|version| (OLDEST..=LATEST).contains(&version));
        faults.require(known, "version", || {
            let ((a, b), (c, d)) = (OLDEST, LATEST);
            format!(
                "`{}` found, expected \"{a}.{b}\" to \"{c}.{d}\", the versions whose rules are known",
                self.version
            )
        });
        let (tokens, requests) = self.limits();
        check_shared_cap(requests, pipeline_parallel, faults);
        faults.at_least("max_tokens_in_batch", tokens.into(), 1);
        faults.require(tokens == 0 || tokens >= requests, "max_tokens_in_batch", || {
            format!("{tokens} found, expected at least `batch_size_cap` ({requests}): vLLM refuses fewer tokens than requests in a batch")
        });
        if let Some(active) = self.max_num_active_seqs {
            faults.at_least("max_num_active_seqs", active.into(), 1);
            faults.at_most("max_num_active_seqs", active.into(), requests.into());
        }
        if let Some(speculative) = &self.speculative {
            faults.within("speculative", |faults| speculative.check(faults));
            // `vllm/config/vllm.py` refuses most of these, and `schedule` would wait for ever in the rest: a
            // prompt that is cached but for its last token is only scheduled with as many drafted ones behind
            // it.
            let drafting = speculative.drafting();
            let least = 1 + drafting.drafts + drafting.slots;
            faults.require(tokens == 0 || tokens >= least, "max_tokens_in_batch", || {
                let drafts = drafting.drafts;
                format!("{tokens} found, expected at least {least}: a step has to hold one token and the {drafts} drafted behind it")
            });
        }
        if let Some(offloading) = &self.kv_offloading {
            faults.within("kv_offloading", |faults| offloading.check(faults));
            faults.require(self.prefix_caching, "kv_offloading", || {
                "found with `prefix_caching` false, expected true: what is kept is found as a cached prefix".into()
            });
        }
        faults.require(self.policy == Policy::Fcfs || pipeline_parallel == 1, "policy", || {
            format!(
                "`priority` found with `pipeline_parallel` {pipeline_parallel}, expected `fcfs`, or 1 stage"
            )
        });
        faults.at_least("prefill_schedule_interval", self.prefill_schedule_interval.into(), 1);
        faults.require((0.0..1.0).contains(&self.watermark), "watermark", || {
            format!("{} found, expected a share of at least 0 and below 1", self.watermark)
        });
        if known {
            let mut since = |field: &str, is_set: bool, first: Version| {
                faults.require(!is_set || self.version() >= first, field, || {
                    format!(
                        "set, but vLLM {} has no such setting: it came with {}.{}",
                        self.version, first.0, first.1
                    )
                });
            };
            since("watermark", self.watermark > 0.0, WATERMARK);
            since("prefill_schedule_interval", self.prefill_schedule_interval > 1, PREFILL_SCHEDULE_INTERVAL);
        }
    }

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        let (max_tokens_in_batch, batch_size_cap) = self.limits();
        let version = self.version();
        Box::new(VllmV1 {
            most_running: self.max_num_active_seqs.unwrap_or(batch_size_cap),
            micro_batch_size: batch_size_cap / replica.pipeline_parallel,
            pipelined: replica.pipeline_parallel > 1,
            max_tokens_in_batch,
            prefix_caching: self.prefix_caching,
            async_scheduling: self.async_scheduling.unwrap_or(version >= ASYNC_SCHEDULING),
            reserve_full_prompt: self.reserve_full_prompt.unwrap_or(version >= RESERVE_FULL_PROMPT),
            unhashed_blocks_first: self.unhashed_blocks_first.unwrap_or(version >= UNHASHED_BLOCKS_FIRST),
            watermark: self.watermark,
            long_prefill_token_threshold: self.long_prefill_token_threshold,
            limits_lone_prefills: version < LONE_PREFILLS_UNLIMITED,
            prefill_schedule_interval: self.prefill_schedule_interval,
            most_queued: self.max_num_queued_reqs.unwrap_or(u32::MAX),
            most_queued_tokens: self.max_num_queued_tokens,
            tier: self.kv_offloading.map(|offloading| offloading.on(replica, self.block_size_tokens)),
            drafting: self.speculative.map_or(Drafting::default(), |speculative| speculative.drafting()),
            by_priority: self.policy == Policy::Priority,
        })
    }

    fn chunks_prefills(&self) -> bool {
        true
    }

    fn caches_prefixes(&self) -> bool {
        self.prefix_caching
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::catalog;

    fn settings(text: &str) -> VllmV1Settings {
        serde_json::from_str(text).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        settings(text).on(catalog::device("h100").unwrap()).check(1, &mut faults);
        faults.found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn limits_follow_the_device() {
        for (device, version, expected) in [
            ("a100", "0.33", (2048, 256)),
            ("l40s", "0.33", (2048, 256)),
            ("h100", "0.33", (8192, 1024)),
            ("h200", "0.18", (8192, 1024)),
            ("b200", "0.33", (16_384, 1024)),
            ("b200", "0.27", (8192, 1024)),
        ] {
            let on = settings(&format!(r#"{{"version": "{version}"}}"#)).on(catalog::device(device).unwrap());
            assert_eq!(
                (on.max_tokens_in_batch, on.batch_size_cap),
                (Some(expected.0), Some(expected.1)),
                "{device} {version}"
            );
        }
        let on = |text: &str| settings(text).on(catalog::device("a100").unwrap()).limits();
        assert_eq!(on(r#"{"performance_mode": "throughput"}"#), (4096, 512));
        assert_eq!(on(r#"{"performance_mode": "throughput", "max_tokens_in_batch": 300}"#), (300, 300));
    }

    #[test]
    fn memory_follows_version_and_device() {
        let memory = |text: &str, device: &str| {
            let defaults = settings(text).on(catalog::device(device).unwrap()).memory_defaults();
            (defaults.gpu_memory_utilization, defaults.max_batched_tokens)
        };
        assert_eq!(memory("{}", "h100"), (0.92, 8192));
        assert_eq!(memory("{}", "a100"), (0.92, 2048));
        assert_eq!(memory(r#"{"version": "0.19"}"#, "h100"), (0.9, 8192));
        assert_eq!(memory(r#"{"max_tokens_in_batch": 4096}"#, "h100"), (0.92, 4096));
    }

    #[test]
    fn versions_tell_the_rules() {
        let rules = |text: &str| {
            let on = settings(text).on(catalog::device("h100").unwrap());
            [on.async_scheduling, on.reserve_full_prompt, on.unhashed_blocks_first].map(Option::unwrap)
        };
        assert_eq!(rules("{}"), [true; 3]);
        assert_eq!(rules(r#"{"version": "0.22.1"}"#), [true, true, false]);
        assert_eq!(rules(r#"{"version": "0.18"}"#), [true, false, false]);
        assert_eq!(rules(r#"{"version": "v0.13"}"#), [false; 3]);
        assert_eq!(rules(r#"{"version": "0.18", "reserve_full_prompt": true}"#), [true, true, false]);
    }

    #[test]
    fn what_vllm_refuses_is_refused() {
        assert_eq!(faults("{}"), [""; 0]);
        assert!(
            faults(r#"{"max_tokens_in_batch": 100, "batch_size_cap": 128}"#)[0]
                .starts_with("max_tokens_in_batch: 100 found")
        );
        assert!(
            faults(r#"{"version": "0.7"}"#)[0]
                .starts_with("version: `0.7` found, expected \"0.8\" to \"0.33\"")
        );
        assert!(faults(r#"{"version": "0.23", "watermark": 0.1}"#)[0].contains("it came with 0.24"));
        assert!(faults(r#"{"max_num_active_seqs": 2000}"#)[0].starts_with("max_num_active_seqs: 2000 found"));
        assert_eq!(faults(r#"{"watermark": 1, "prefill_schedule_interval": 0}"#).len(), 2);
    }
}
