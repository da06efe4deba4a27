//! Chiron's global autoscaler for interactive requests: interactive backpressure.
//!
//! Rule, at every decision: IBP = replicas that run interactive requests / replicas that may. Above
//! `backpressure_threshold` one more, otherwise one less; after a change nothing until its overhead has
//! passed. The policy keeps a share of replicas idle for bursts and so moves around its threshold for ever.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `backpressure_threshold` | 0.6 | SageServe's re-implementation, `arbiter.py`, `ChironArbiter` |
//! | `hold_after_up_s`, `hold_after_down_s` | the cluster's delays | the same: its overheads |
//! | `tick_interval_s` | 1 | the same: at every request |
//!
//! Source: Chiron (arXiv 2501.08090, abstract) and SageServe's re-implementation, the only code of it found.
//! All requests are interactive here: the queue of batch requests and its scaling to zero, mixed replicas,
//! and the local autoscaler of batch sizes have no counterpart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sageserve::OneAtATime;
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChironSettings {
    /// Share of replicas that may be running requests.
    pub backpressure_threshold: f64,
    /// By default the cluster's `scale_up_delay_s`.
    pub hold_after_up_s: Option<f64>,
    /// By default the cluster's `scale_down_delay_s`.
    pub hold_after_down_s: Option<f64>,
    /// How often the policy decides.
    pub tick_interval_s: f64,
}

impl Default for ChironSettings {
    fn default() -> Self {
        Self {
            backpressure_threshold: 0.6,
            hold_after_up_s: None,
            hold_after_down_s: None,
            tick_interval_s: 1.0,
        }
    }
}

impl PolicySettings for ChironSettings {
    fn check(&self, faults: &mut Faults) {
        faults.fraction("backpressure_threshold", self.backpressure_threshold);
        for (field, hold_s) in
            [("hold_after_up_s", self.hold_after_up_s), ("hold_after_down_s", self.hold_after_down_s)]
        {
            if let Some(hold_s) = hold_s {
                faults.not_negative(field, hold_s);
            }
        }
        faults.interval_s("tick_interval_s", self.tick_interval_s);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Chiron's global autoscaler, interactive part",
            version: "SageServe's re-implementation of arXiv 2501.08090",
            checked: Checked::Ported,
            left_out: "batch requests, the local autoscaler of batch sizes",
            knob: "backpressure_threshold",
            signals: "which replicas are busy, of this instant",
            blind_to: "how busy they are, rates, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Chiron {
            settings: self.clone(),
            hold: OneAtATime::new(
                self.hold_after_up_s.unwrap_or(context.scale_up_delay_s),
                self.hold_after_down_s.unwrap_or(context.scale_down_delay_s),
            ),
            backpressure: 0.0,
        }))
    }
}

#[derive(Debug)]
struct Chiron {
    settings: ChironSettings,
    hold: OneAtATime,
    backpressure: f64,
}

impl Autoscaler for Chiron {
    fn observes(&self) -> Observes {
        Observes { replicas: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.tick_interval_s)
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let serving = || snapshot.replicas.iter().filter(|replica| !replica.draining);
        let busy = serving().filter(|replica| replica.running_requests > 0).count();
        let all = serving().count();
        if all == 0 || !self.hold.is_free(now_s) {
            return Decision::Hold;
        }
        self.backpressure = busy as f64 / all as f64;
        if self.backpressure > self.settings.backpressure_threshold {
            self.hold.up(now_s)
        } else {
            self.hold.down(now_s, snapshot.committed())
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("interactive_backpressure", self.backpressure)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReplicaSignals;
    use super::*;

    /// Hand-computed: three of five busy is the threshold itself, four are more.
    #[test]
    fn backpressure_is_the_share_of_busy_replicas() {
        let mut chiron = Chiron {
            settings: ChironSettings::default(),
            hold: OneAtATime::new(10.0, 0.0),
            backpressure: 0.0,
        };
        let mut with_busy = |now_s, busy: u32| {
            let replicas: Vec<ReplicaSignals> = (0..5)
                .map(|id| ReplicaSignals {
                    id,
                    draining: false,
                    queued_requests: 0,
                    queued_prefill_tokens: 0,
                    running_requests: u32::from(id < busy),
                    kv_used_blocks: 0,
                    kv_total_blocks: 100,
                    ..ReplicaSignals::default()
                })
                .collect();
            let snapshot = Snapshot {
                serving: 5,
                draining: 0,
                starting: 0,
                stopping: 0,
                outstanding_requests: busy,
                unrouted_requests: 0,
                replicas: &replicas,
            };
            chiron.decide(now_s, &snapshot).signed()
        };
        assert_eq!(with_busy(0.0, 4), 1);
        assert_eq!(with_busy(5.0, 0), 0, "the replica is starting");
        assert_eq!(with_busy(10.0, 3), -1);
        assert_eq!(with_busy(10.0, 0), -1, "scaling down takes no time");
    }
}
