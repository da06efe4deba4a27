//! llm-d's recommended autoscaling since September 2026: KEDA on the metrics of its gateway, the endpoint
//! picker (EPP).
//!
//! Rule: KEDA ([`keda`](super::keda)) with two triggers, the larger proposal wins. `signal` chooses the
//! overlay:
//!
//! | `signal` | first trigger, target | second trigger, target | replicas | damping |
//! |---|---|---|---|---|
//! | `queue` | requests held by the gateway, 1 | running requests, 16 | 1 to 8 | both ways 100 % in 15 s after 300 s |
//! | `saturation` | saturation of the pool, 0.7 | running requests, 16 | 1 to 10 | the same |
//! | `queue_guard` | max(queue / 1, running / 16) as one metric, 1 | | 1 to 8 | up at once, less what is starting |
//! | `prefill_backlog` | prompt tokens that wait for their prefill / 15,928 per second, 1.5 s | KV use summed, 0.8 | 1 to 10 | up 1 in 180 s, down 1 in 300 s after 300 s |
//!
//! The guard: if more is wanted than there is, the replicas that start are taken off, but never below what
//! there is. Upper bounds are the cluster's `max_replicas`; the overlays' own are given above. `behavior:
//! earlier` is the base before the 300 s window upwards.
//!
//! With prefill and decode in pools of their own, `prefill_backlog` has one trigger in each: seconds of
//! waiting prefill where prompts are computed, KV use where they are answered.
//!
//! What the simulator can show of a gateway: requests wait in replicas and not in a gateway, so those that
//! wait anywhere are its queue, and its saturation is the mean over replicas of max(queue / 5, KV use / 0.8).
//! Prompt tokens count until their request is admitted, not until they are computed. A fallback of one
//! replica after three failures (`queue_guard`) has nothing to act on here.
//!
//! Source: llm-d/llm-d `guides/workload-autoscaling`, keda-epp (1890658a, overlays 057abb4a, 321a7e8c,
//! b06ec635) and keda-epp-token-aware (04c0115b). Read, not run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::{BehaviorSettings, RatePolicy, RateUnit, ScalingRules, SelectPolicy};
use super::cadence::check_intervals;
use super::horizontal::{HpaLoop, check_milli};
use super::keda::{Composite, Keda, KedaSettings, Rule, Trigger};
use super::signals::LoadMetric;
use super::{Autoscaler, Checked, Part, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

/// Which overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KedaEppSignal {
    /// Requests that the gateway holds back.
    #[default]
    Queue,
    /// How full the pool is to the gateway.
    Saturation,
    /// The queue, with a guard against overshooting.
    QueueGuard,
    /// Seconds of prefill that wait: the token-aware guide.
    PrefillBacklog,
}

/// Which release of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KedaEppBehavior {
    /// With a window of 300 s upwards.
    #[default]
    Current,
    /// Upwards at once (b0d6a794).
    Earlier,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KedaEppSettings {
    pub signal: KedaEppSignal,
    /// Value per replica of the overlay's first trigger; by default the overlay's.
    pub target_per_replica: Option<f64>,
    /// Running requests per replica, or with `prefill_backlog` KV use; by default 16, or 0.8.
    pub second_target_per_replica: Option<f64>,
    /// Prompt tokens that a replica prefills per second; Qwen3-32B on two H100 in the guide.
    pub prefill_tokens_per_s: f64,
    pub behavior: KedaEppBehavior,
    pub polling_interval_s: f64,
    pub cooldown_period_s: f64,
    pub sync_interval_s: f64,
}

impl Default for KedaEppSettings {
    fn default() -> Self {
        Self {
            signal: KedaEppSignal::default(),
            target_per_replica: None,
            second_target_per_replica: None,
            prefill_tokens_per_s: 15_928.0,
            behavior: KedaEppBehavior::default(),
            polling_interval_s: 15.0,
            cooldown_period_s: 300.0,
            sync_interval_s: 15.0,
        }
    }
}

fn rules(unit: RateUnit, value: u32, period_s: f64, window_s: f64) -> ScalingRules {
    ScalingRules {
        stabilization_window_s: Some(window_s),
        select_policy: SelectPolicy::Max,
        policies: Some(vec![RatePolicy { unit, value, period_s }]),
    }
}

impl KedaEppSettings {
    /// Both targets, in their metrics' units.
    fn targets(&self) -> (f64, f64) {
        let (first, second) = match self.signal {
            KedaEppSignal::Queue | KedaEppSignal::QueueGuard => (1.0, 16.0),
            KedaEppSignal::Saturation => (0.7, 16.0),
            KedaEppSignal::PrefillBacklog => (1.5, 0.8),
        };
        (self.target_per_replica.unwrap_or(first), self.second_target_per_replica.unwrap_or(second))
    }

    fn behavior(&self) -> BehaviorSettings {
        let down = rules(RateUnit::Percent, 100, 15.0, 300.0);
        let up = |window_s| rules(RateUnit::Percent, 100, 15.0, window_s);
        match (self.signal, self.behavior) {
            (KedaEppSignal::PrefillBacklog, _) => BehaviorSettings {
                scale_up: rules(RateUnit::Pods, 1, 180.0, 0.0),
                scale_down: rules(RateUnit::Pods, 1, 300.0, 300.0),
            },
            (KedaEppSignal::QueueGuard, _) | (_, KedaEppBehavior::Earlier) => {
                BehaviorSettings { scale_up: up(0.0), scale_down: down }
            }
            (_, KedaEppBehavior::Current) => BehaviorSettings { scale_up: up(300.0), scale_down: down },
        }
    }

    /// The ScaledObject that the overlay makes; `None` where it is more than triggers side by side.
    pub fn as_keda(&self) -> Option<KedaSettings> {
        (self.signal != KedaEppSignal::QueueGuard).then(|| self.scaled_object())
    }

    /// The ScaledObject that the overlay makes.
    fn scaled_object(&self) -> KedaSettings {
        let (first, second) = self.targets();
        let (metric, target_per_replica, second_metric) = match self.signal {
            KedaEppSignal::Queue | KedaEppSignal::QueueGuard => {
                (LoadMetric::QueuedRequests, first, LoadMetric::RunningRequests)
            }
            KedaEppSignal::Saturation => (LoadMetric::PoolSaturation, first, LoadMetric::RunningRequests),
            KedaEppSignal::PrefillBacklog => {
                (LoadMetric::QueuedPrefillTokens, first * self.prefill_tokens_per_s, LoadMetric::KvUse)
            }
        };
        KedaSettings {
            metric,
            target_per_replica,
            also: vec![Trigger { metric: second_metric, target_per_replica: second, ..Trigger::default() }],
            polling_interval_s: self.polling_interval_s,
            cooldown_period_s: self.cooldown_period_s,
            hpa: HpaLoop {
                sync_interval_s: self.sync_interval_s,
                behavior: Some(self.behavior()),
                ..HpaLoop::default()
            },
            ..KedaSettings::default()
        }
    }
}

/// Of the two triggers of the token-aware guide the one that a pool of its own has.
fn one_trigger(both: KedaSettings, part: Part) -> KedaSettings {
    match (part, &both.also[..]) {
        (Part::Prompts, _) => KedaSettings { also: Vec::new(), ..both },
        (Part::Answers, [kv]) => {
            let &Trigger { metric, target_per_replica, .. } = kv;
            KedaSettings { metric, target_per_replica, also: Vec::new(), ..both }
        }
        _ => both,
    }
}

impl PolicySettings for KedaEppSettings {
    fn check(&self, faults: &mut Faults) {
        let (first, second) = self.targets();
        check_milli(faults, "target_per_replica", first);
        check_milli(faults, "second_target_per_replica", second);
        faults.positive("prefill_tokens_per_s", self.prefill_tokens_per_s);
        check_intervals(
            faults,
            &[("polling_interval_s", self.polling_interval_s), ("sync_interval_s", self.sync_interval_s)],
        );
        faults.not_negative("cooldown_period_s", self.cooldown_period_s);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "llm-d on KEDA with metrics of its gateway",
            version: "guides of September 2026",
            checked: Checked::Read,
            left_out: "a queue in the gateway: requests that wait in replicas stand for it",
            knob: "target_per_replica",
            signals: "queue, running requests, KV use of the cluster, read afresh every 15 s",
            blind_to: "single pods, lengths, latency",
        }
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let guard = || Composite {
            rule: Rule::OvershootGuard,
            target_per_replica: 1.0,
            target_value: None,
            activation_threshold: 0.0,
        };
        let composite = (self.signal == KedaEppSignal::QueueGuard).then(guard);
        let mut scaled_object = self.scaled_object();
        if self.signal == KedaEppSignal::PrefillBacklog {
            scaled_object = one_trigger(scaled_object, context.part);
        }
        Some(Keda::boxed(&scaled_object, composite, context))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::super::{ReplicaSignals, Snapshot};
    use super::*;

    /// Targets at the first sync, for a cluster of `serving` and `starting` replicas that each hold so much.
    fn first_target(
        settings: &KedaEppSettings,
        serving: u32,
        starting: u32,
        queued: u32,
        running: u32,
        kv_used_blocks: u32,
    ) -> u32 {
        let mut faults = Faults::default();
        settings.check(&mut faults);
        assert_eq!(faults.found, []);
        let mut policy = with_context(|context| settings.build(context)).unwrap();
        let gauges = |id| ReplicaSignals {
            id,
            draining: false,
            queued_requests: queued,
            queued_prefill_tokens: u64::from(queued) * 5000,
            running_requests: running,
            kv_used_blocks,
            kv_total_blocks: 100,
            ..ReplicaSignals::default()
        };
        let gauges: Vec<ReplicaSignals> = (0..serving).map(gauges).collect();
        let snapshot = Snapshot {
            serving,
            draining: 0,
            starting,
            stopping: 0,
            outstanding_requests: serving * (queued + running),
            unrouted_requests: 0,
            replicas: &gauges,
        };
        (i64::from(serving + starting) + policy.decide(0.0, &snapshot).signed()) as u32
    }

    fn overlay(signal: KedaEppSignal) -> KedaEppSettings {
        KedaEppSettings { signal, behavior: KedaEppBehavior::Earlier, ..KedaEppSettings::default() }
    }

    #[test]
    fn the_larger_of_both_triggers_wins() {
        assert_eq!(first_target(&overlay(KedaEppSignal::Queue), 2, 0, 2, 5, 10), 4, "four queued");
        assert_eq!(first_target(&overlay(KedaEppSignal::Queue), 2, 0, 0, 20, 10), 3, "forty running");
        assert_eq!(
            first_target(&overlay(KedaEppSignal::Saturation), 2, 0, 7, 16, 10),
            2,
            "1.4 over 0.7, a mean and no sum"
        );
        assert_eq!(first_target(&overlay(KedaEppSignal::Saturation), 2, 0, 8, 16, 10), 3, "1.6 over 0.7");
        let current = KedaEppSettings { signal: KedaEppSignal::Queue, ..KedaEppSettings::default() };
        assert_eq!(
            first_target(&current, 2, 0, 2, 5, 10),
            2,
            "the lowest of 300 s, and what there was counts"
        );
    }

    #[test]
    fn each_phase_has_its_own_trigger() {
        let targets = |part: Part, queued: u32, kv_used_blocks: u32| {
            let settings = overlay(KedaEppSignal::PrefillBacklog);
            let mut policy =
                with_context(|context| settings.build(&PolicyContext { part, ..*context })).unwrap();
            let gauges = [0, 1].map(|id| ReplicaSignals {
                id,
                queued_requests: queued,
                queued_prefill_tokens: u64::from(queued) * 5000,
                running_requests: 5,
                kv_used_blocks,
                kv_total_blocks: 100,
                ..ReplicaSignals::default()
            });
            let snapshot = Snapshot {
                serving: 2,
                outstanding_requests: 2 * (queued + 5),
                replicas: &gauges,
                ..Snapshot::default()
            };
            2 + policy.decide(0.0, &snapshot).signed()
        };
        assert_eq!(
            [Part::Whole, Part::Prompts, Part::Answers].map(|part| targets(part, 6, 10)),
            [3, 3, 2],
            "3.8 s of prefill"
        );
        assert_eq!(
            [Part::Whole, Part::Prompts, Part::Answers].map(|part| targets(part, 0, 100)),
            [3, 2, 3],
            "a full cache"
        );
    }

    #[test]
    fn the_guard_takes_off_what_is_starting() {
        let guard = overlay(KedaEppSignal::QueueGuard);
        assert_eq!(first_target(&guard, 2, 2, 3, 5, 10), 4, "six wanted, two under way, four there");
        assert_eq!(first_target(&guard, 2, 0, 2, 5, 10), 4, "nothing under way");
        assert_eq!(first_target(&overlay(KedaEppSignal::Queue), 2, 2, 3, 5, 10), 6, "unguarded");
    }

    /// 2 x 6 x 5000 tokens are 3.8 s of prefill: three replicas, and one at a time.
    #[test]
    fn waiting_prefill_counts_in_seconds() {
        assert_eq!(first_target(&overlay(KedaEppSignal::PrefillBacklog), 2, 0, 6, 5, 10), 3);
        assert_eq!(
            first_target(&overlay(KedaEppSignal::PrefillBacklog), 2, 0, 50, 5, 10),
            3,
            "one pod in 180 s"
        );
        assert_eq!(
            first_target(&overlay(KedaEppSignal::PrefillBacklog), 2, 0, 0, 5, 100),
            3,
            "KV use 2 over 0.8"
        );
    }
}
