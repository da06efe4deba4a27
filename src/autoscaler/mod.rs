//! When to add and drain replicas: one file a policy, one line here.

pub mod aibrix;
mod aibrix_apa;
mod aibrix_kpa;
mod aws;
mod aws_step_scaling;
mod aws_target_tracking;
pub mod behavior;
pub mod bill;
mod cadence;
mod chiron;
mod dynamo;
mod envelope;
pub mod external;
mod formula;
pub(crate) mod frontier;
mod gauges;
mod gcp_mig;
mod holt_winters;
pub mod horizontal;
mod hpa;
mod inferline;
mod inferline_paper;
mod keda;
mod keda_epp;
pub mod knative_kpa;
mod lcp;
mod mpc;
mod newsvendor;
pub mod peaks;
mod pools;
pub mod proportional;
mod ray_serve;
mod replica_model;
mod sageserve;
mod schedule;
pub mod scraped;
mod service_level;
pub mod signals;
mod slo_aware;
mod stable_panic;
mod static_replicas;
pub mod upstream;
mod window;
pub mod wva;
pub mod wva_v1;
pub mod wva_v2;

pub use aibrix_apa::AibrixApaSettings;
pub use aibrix_kpa::{AibrixKpaRule, AibrixKpaSettings};
pub use aws_step_scaling::{AdjustmentType, AwsStepScalingSettings, StepAdjustment, StepPolicy};
pub use aws_target_tracking::AwsTargetTrackingSettings;
pub use chiron::ChironSettings;
pub use dynamo::{
    DynamoCombinedSettings, DynamoLoadSettings, DynamoTarget, DynamoThroughputSettings, EngineKnowledge,
    LoadPredictor,
};
pub use envelope::TrafficEnvelope;
pub use external::{ExternalSettings, Programs};
pub use frontier::FrontierSettings;
pub use gcp_mig::GcpMigSettings;
pub use holt_winters::HoltWintersSettings;
pub use hpa::HpaSettings;
pub use inferline::{InferlineSettings, ThroughputMeasure};
pub use inferline_paper::InferlinePaperSettings;
pub use keda::{Fallback, FallbackBehavior, KedaSettings, ScalingModifiers, Trigger};
pub use keda_epp::{KedaEppBehavior, KedaEppSettings, KedaEppSignal};
pub use knative_kpa::{KnativeKpaSettings, KpaMetric};
pub use lcp::LcpSettings;
pub use mpc::MpcSettings;
pub use newsvendor::NewsvendorSettings;
pub use pools::{
    FleetRule, GlobalPlannerSettings, GreedySettings, IlpSettings, LocalPolicies, PerPoolSettings,
};
pub use ray_serve::{RayAggregation, RayServeSettings};
pub use sageserve::SageserveSettings;
pub use schedule::{ScheduleSettings, ScheduleStep};
pub use service_level::ServiceLevelSettings;
pub use slo_aware::{SloAwareSettings, SloSmoothing};
pub use static_replicas::StaticSettings;
pub use upstream::{Checked, Upstream};
pub use wva_v1::WvaV1Settings;
pub use wva_v2::WvaV2Settings;

use serde::Serialize;

use self::bill::Bill;
use crate::choice;
use crate::hardware::ExecutionTime;
use crate::replica_scheduler::KvBlocks;
use crate::settings::Faults;

choice! {
    /// When replicas are added and drained.
    pub enum AutoscalerSettings: PolicySettings {
        "static" => Static(StaticSettings),
        "inferline" => Inferline(InferlineSettings),
        "inferline_paper" => InferlinePaper(InferlinePaperSettings),
        "service_level" => ServiceLevel(ServiceLevelSettings),
        "frontier" => Frontier(FrontierSettings),
        "schedule" => Schedule(ScheduleSettings),
        "hpa" => Hpa(HpaSettings),
        "keda" => Keda(KedaSettings),
        "keda_epp" => KedaEpp(KedaEppSettings),
        "slo_aware" => SloAware(SloAwareSettings),
        "knative_kpa" => KnativeKpa(KnativeKpaSettings),
        "ray_serve" => RayServe(RayServeSettings),
        "aibrix_apa" => AibrixApa(AibrixApaSettings),
        "aibrix_kpa" => AibrixKpa(AibrixKpaSettings),
        "wva_v1" => WvaV1(WvaV1Settings),
        "wva_v2" => WvaV2(WvaV2Settings),
        "dynamo_throughput" => DynamoThroughput(DynamoThroughputSettings),
        "dynamo_load" => DynamoLoad(DynamoLoadSettings),
        "dynamo_combined" => DynamoCombined(DynamoCombinedSettings),
        "aws_target_tracking" => AwsTargetTracking(AwsTargetTrackingSettings),
        "aws_step_scaling" => AwsStepScaling(AwsStepScalingSettings),
        "gcp_mig" => GcpMig(GcpMigSettings),
        "lcp" => Lcp(LcpSettings),
        "newsvendor" => Newsvendor(NewsvendorSettings),
        "mpc" => Mpc(MpcSettings),
        "sageserve" => Sageserve(SageserveSettings),
        "chiron" => Chiron(ChironSettings),
        "holt_winters" => HoltWinters(HoltWintersSettings),
        "external" => External(ExternalSettings),
        "per_pool" => PerPool(PerPoolSettings),
        "fleet" => Fleet(FleetRule),
    }
}

/// What every policy's settings can do.
pub trait PolicySettings {
    /// Reports values that make no sense.
    fn check(&self, faults: &mut Faults);

    /// The program, paper or idea it stands for, with these settings.
    fn upstream(&self) -> Upstream;

    /// The policy, ready for one run; `None` if nothing is ever decided.
    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>>;

    /// Latencies it promises to keep below, which a replica by itself may be too slow for.
    fn latency_targets(&self) -> Vec<LatencyTarget> {
        Vec::new()
    }

    /// What it can never do with these settings although they make sense, a sentence each without the
    /// policy's name.
    fn doubts(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it can do without any replica: leave none where `min_replicas` is 0, and start one when it is
    /// needed.
    fn reaches_zero(&self) -> bool {
        false
    }

    /// Replicas a run starts with, if not the cluster's `initial_replicas`.
    fn initial_replicas(&self) -> Option<u32> {
        None
    }
}

/// A latency that a policy promises to keep below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyTarget {
    pub field: &'static str,
    pub of: LatencyTargets,
    pub s: f64,
}

/// Which latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyTargets {
    /// Time to first token.
    Ttft,
    /// Time between two output tokens.
    Itl,
}

impl LatencyTarget {
    /// The two that Dynamo's planners take.
    pub fn ttft_and_itl(ttft_s: f64, itl_s: f64) -> Vec<Self> {
        vec![
            Self { field: "ttft_s", of: LatencyTargets::Ttft, s: ttft_s },
            Self { field: "itl_s", of: LatencyTargets::Itl, s: itl_s },
        ]
    }
}

/// What the replicas that a policy decides for do of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    #[default]
    Whole,
    /// Prompts, whose KV caches then go elsewhere.
    Prompts,
    /// Output tokens, after KV caches that come from elsewhere.
    Answers,
}

/// What a policy may know of the cluster before the run starts.
#[derive(Debug, Clone, Copy)]
pub struct PolicyContext<'a> {
    pub execution_time: &'a ExecutionTime,
    pub kv: KvBlocks,
    pub batch_size_cap: u32,
    pub pipeline_parallel: u32,
    pub part: Part,
    /// Most tokens of a request.
    pub max_request_tokens: u32,
    pub bill: Bill,
    pub tune_interval_s: f64,
    pub scale_up_delay_s: f64,
    pub scale_down_delay_s: f64,
    /// Whether a scale-down first calls off replicas that start.
    pub calls_off_starts: bool,
    /// Whether the router looks at what replicas have to do.
    pub router_sees_load: bool,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// Seed of the policy's own random stream.
    pub seed: u64,
    /// Where policies that are programs of their own are run; `None` where they are not.
    pub programs: Option<&'a dyn Programs>,
}

impl AutoscalerSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| {
            self.settings().check(faults);
            let settings = serde_json::to_value(self).expect("settings are plain data");
            gauges::check(&settings[self.name()], faults);
        });
    }
}

/// Requests that arrived since the last decision, as columns of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals<'a> {
    pub arrived_at_s: &'a [f64],
    pub prefill_tokens: &'a [u32],
    /// True output lengths. No real controller knows them on arrival; only the lab's InferLine rule asks for
    /// them.
    pub decode_tokens: &'a [u32],
}

/// A batch that ended since the last decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BatchEnd {
    pub scheduled_at_s: f64,
    pub completed_at_s: f64,
    /// Prefill and decode tokens processed.
    pub tokens: u64,
    pub prefill_tokens: u64,
    pub num_requests: u32,
}

/// What the batches that ended since the last decision come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSums {
    pub batches: u64,
    /// Prefill and decode tokens processed.
    pub tokens: u64,
    pub prefill_tokens: u64,
}

/// A request that got its first token since the last decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FirstToken {
    pub arrived_at_s: f64,
    pub at_s: f64,
}

/// A request that finished since the last decision: now its output length is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Completion {
    pub arrived_at_s: f64,
    pub first_token_at_s: f64,
    pub completed_at_s: f64,
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
}

/// The latest forward pass of a replica, as its engine reports it; all zero while there is nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ForwardPass {
    pub prefill_requests: u32,
    /// Tokens of prompts computed in it, and tokens they found in the cache.
    pub prefill_tokens: u64,
    pub prefill_cached_tokens: u64,
    pub decode_requests: u32,
    /// Tokens in the cache of those that decode.
    pub decode_kv_tokens: u64,
    pub duration_s: f64,
}

/// One replica at the moment of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ReplicaSignals {
    pub id: u32,
    pub draining: bool,
    /// Requests not yet in memory, and their prompts.
    pub queued_requests: u32,
    pub queued_prefill_tokens: u64,
    /// Requests in memory.
    pub running_requests: u32,
    pub kv_used_blocks: u32,
    pub kv_total_blocks: u32,
    /// `None` unless the policy observes passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<ForwardPass>,
}

impl ReplicaSignals {
    /// Share of the KV cache in use.
    pub fn kv_use(&self) -> f64 {
        f64::from(self.kv_used_blocks) / f64::from(self.kv_total_blocks)
    }
}

/// The cluster at the moment of a decision, settled: everything before this instant has happened, nothing is
/// stale. Policies whose real counterparts see stale signals hold them back themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot<'a> {
    /// Replicas that take requests.
    pub serving: u32,
    /// Replicas that finish what they have and then leave.
    pub draining: u32,
    /// Scale-ups decided and not yet serving.
    pub starting: u32,
    /// Scale-downs decided of which no replica has been chosen yet.
    pub stopping: u32,
    /// Requests that have arrived and not finished.
    pub outstanding_requests: u32,
    /// Requests that wait for a replica to exist.
    pub unrouted_requests: u32,
    /// Replicas that exist, in order of ids; empty unless the policy observes something of them.
    pub replicas: &'a [ReplicaSignals],
}

impl Snapshot<'_> {
    /// Replicas that will serve once all pending decisions have taken effect. Decisions are relative to this.
    pub fn committed(&self) -> u32 {
        (self.serving + self.starting).saturating_sub(self.stopping)
    }

    /// For rules that know no queue: a first replica where requests wait with none there or on its way,
    /// otherwise nothing.
    pub fn wake(&self) -> Decision {
        if self.committed() == 0 && self.outstanding_requests > 0 { Decision::Up(1) } else { Decision::Hold }
    }
}

/// What to change. The engine applies delays and limits and keeps count, so a policy that goes by `committed`
/// cannot count twice. Those that serve include those that were told to stop and have not been chosen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Hold,
    Up(u32),
    Down(u32),
}

impl Decision {
    /// From the replicas there will be to those there should be.
    pub fn towards(committed: u32, target: u32) -> Self {
        match target.cmp(&committed) {
            std::cmp::Ordering::Greater => Self::Up(target - committed),
            std::cmp::Ordering::Less => Self::Down(committed - target),
            std::cmp::Ordering::Equal => Self::Hold,
        }
    }

    /// Replicas added (positive) or drained (negative).
    pub fn signed(self) -> i64 {
        match self {
            Self::Hold => 0,
            Self::Up(n) => i64::from(n),
            Self::Down(n) => -i64::from(n),
        }
    }
}

/// A policy. At each tick it is told what has happened since the last, in order of time, and then decides.
pub trait Autoscaler: Send {
    /// What the policy wants to be told.
    fn observes(&self) -> Observes {
        Observes::default()
    }

    /// Seconds between ticks, if not the cluster's `tune_interval_s`.
    fn tick_interval_s(&self) -> Option<f64> {
        None
    }

    fn observe_arrivals(&mut self, _arrivals: Arrivals) {}

    fn observe_batches(&mut self, _batches: &[BatchEnd]) {}

    fn observe_batch_sums(&mut self, _sums: BatchSums) {}

    fn observe_latencies(&mut self, _first_tokens: &[FirstToken], _completions: &[Completion]) {}

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision;

    /// What the latest decision rested on, for records: names and values.
    fn evidence(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Why no further decision can be had. The run ends with it.
    fn failure(&self) -> Option<&str> {
        None
    }
}

/// What a policy wants to be told; the engine saves itself the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observes {
    pub arrivals: bool,
    /// Every batch for itself: of long outputs tens of millions a day.
    pub batches: bool,
    pub batch_sums: bool,
    pub latencies: bool,
    /// Fill [`Snapshot::replicas`], all but passes.
    pub replicas: bool,
    /// Fill the requests alone of [`Snapshot::replicas`], which is cheap enough for fine ticks.
    pub replica_requests: bool,
    /// Fill [`ReplicaSignals::pass`].
    pub passes: bool,
}

impl Observes {
    /// What either wants to be told.
    pub fn and(self, other: Self) -> Self {
        Self {
            arrivals: self.arrivals || other.arrivals,
            batches: self.batches || other.batches,
            batch_sums: self.batch_sums || other.batch_sums,
            latencies: self.latencies || other.latencies,
            replicas: self.replicas || other.replicas,
            replica_requests: self.replica_requests || other.replica_requests,
            passes: self.passes || other.passes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{Deployment, ExecutionTimeSettings, Files};

    /// Llama 3 70B on four A100s with room for 16 requests at once: what unit tests of policies plan with.
    pub(super) fn with_context<T>(run: impl FnOnce(&PolicyContext) -> T) -> T {
        let files = Files::default();
        let deployment =
            Deployment::resolve("meta-llama/Meta-Llama-3-70B", "a100_pairwise_nvlink", 4, 1, &files).unwrap();
        let times = ExecutionTime::load(&ExecutionTimeSettings::default(), &deployment, &files).unwrap();
        run(&PolicyContext {
            execution_time: &times,
            kv: KvBlocks::new(4000, 16, 0.01),
            batch_size_cap: 16,
            pipeline_parallel: 1,
            part: Part::Whole,
            max_request_tokens: 4096,
            bill: bill::tests::LABS,
            tune_interval_s: 5.0,
            scale_up_delay_s: 10.0,
            scale_down_delay_s: 0.0,
            calls_off_starts: true,
            router_sees_load: false,
            min_replicas: 1,
            max_replicas: 64,
            seed: 0,
            programs: None,
        })
    }

    /// Every policy that has defaults passes its own checks with them.
    #[test]
    fn defaults_are_sound() {
        for name in AutoscalerSettings::NAMES
            .iter()
            .filter(|name| !["static", "schedule", "external", "per_pool", "fleet"].contains(name))
        {
            let settings: AutoscalerSettings = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            let mut faults = Faults::default();
            settings.check(&mut faults);
            assert_eq!(faults.found, [], "{name}");
        }
    }
}
