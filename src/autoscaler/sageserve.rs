//! SageServe's reactive baseline: KV memory of the whole deployment, one replica at a time.
//!
//! Rule, at every decision: use = KV memory used / KV memory there is. Above `scale_up_kv_use` one more;
//! below `scale_down_kv_use` one less. After a change nothing until its overhead has passed.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `scale_up_kv_use`, `scale_down_kv_use` | 0.5, 0.25 | `arbiter.py`, `BasicArbiter.scale` |
//! | `hold_after_up_s`, `hold_after_down_s` | the cluster's delays | there: the overheads `reclaim_spot` or `spin_up`, and `spin_down` |
//! | `tick_interval_s` | 1 | there: at every request |
//!
//! Source: SageServe (arXiv 2502.14617), its simulator. There replicas come from a spot pool, first of the
//! same model, then of others; here from the cluster. Signals are not stale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SageserveSettings {
    /// Above this share of KV memory in use a replica is added.
    pub scale_up_kv_use: f64,
    /// Below this share of KV memory in use a replica is removed.
    pub scale_down_kv_use: f64,
    /// By default the cluster's `scale_up_delay_s`.
    pub hold_after_up_s: Option<f64>,
    /// By default the cluster's `scale_down_delay_s`.
    pub hold_after_down_s: Option<f64>,
    /// How often the policy decides.
    pub tick_interval_s: f64,
}

impl Default for SageserveSettings {
    fn default() -> Self {
        Self {
            scale_up_kv_use: 0.5,
            scale_down_kv_use: 0.25,
            hold_after_up_s: None,
            hold_after_down_s: None,
            tick_interval_s: 1.0,
        }
    }
}

impl PolicySettings for SageserveSettings {
    fn check(&self, faults: &mut Faults) {
        faults.fraction("scale_up_kv_use", self.scale_up_kv_use);
        faults.require(
            (0.0..=self.scale_up_kv_use).contains(&self.scale_down_kv_use),
            "scale_down_kv_use",
            || {
                format!(
                    "{} found, expected 0 to `scale_up_kv_use` ({})",
                    self.scale_down_kv_use, self.scale_up_kv_use
                )
            },
        );
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
            program: "SageServe's reactive baseline",
            version: "simulator of arXiv 2502.14617",
            checked: Checked::Ported,
            left_out: "borrowing of spot replicas from other models",
            knob: "scale_up_kv_use",
            signals: "KV use of this instant",
            blind_to: "queues, rates, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Sageserve {
            settings: self.clone(),
            hold: OneAtATime::new(
                self.hold_after_up_s.unwrap_or(context.scale_up_delay_s),
                self.hold_after_down_s.unwrap_or(context.scale_down_delay_s),
            ),
            kv_use: 0.0,
        }))
    }
}

/// One change at a time: after each, nothing until its overhead has passed.
#[derive(Debug)]
pub struct OneAtATime {
    after_up_s: f64,
    after_down_s: f64,
    free_at_s: f64,
}

impl OneAtATime {
    pub fn new(after_up_s: f64, after_down_s: f64) -> Self {
        Self { after_up_s, after_down_s, free_at_s: 0.0 }
    }

    /// Whether a change may be made.
    pub fn is_free(&self, now_s: f64) -> bool {
        now_s >= self.free_at_s
    }

    pub fn up(&mut self, now_s: f64) -> Decision {
        self.free_at_s = now_s + self.after_up_s;
        Decision::Up(1)
    }

    /// One less, but never none.
    pub fn down(&mut self, now_s: f64, current: u32) -> Decision {
        if current <= 1 {
            return Decision::Hold;
        }
        self.free_at_s = now_s + self.after_down_s;
        Decision::Down(1)
    }
}

#[derive(Debug)]
struct Sageserve {
    settings: SageserveSettings,
    hold: OneAtATime,
    kv_use: f64,
}

impl Autoscaler for Sageserve {
    fn observes(&self) -> Observes {
        Observes { replicas: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.tick_interval_s)
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let serving = || snapshot.replicas.iter().filter(|replica| !replica.draining);
        let used: u64 = serving().map(|replica| u64::from(replica.kv_used_blocks)).sum();
        let total: u64 = serving().map(|replica| u64::from(replica.kv_total_blocks)).sum();
        if total == 0 || !self.hold.is_free(now_s) {
            return Decision::Hold;
        }
        self.kv_use = used as f64 / total as f64;
        if self.kv_use > self.settings.scale_up_kv_use {
            self.hold.up(now_s)
        } else if self.kv_use < self.settings.scale_down_kv_use {
            self.hold.down(now_s, snapshot.committed())
        } else {
            Decision::Hold
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("kv_use", self.kv_use)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReplicaSignals;
    use super::*;

    /// Hand-computed: thresholds are exclusive, and a change holds the next one back for its overhead.
    #[test]
    fn one_at_a_time() {
        let mut policy = Sageserve {
            settings: SageserveSettings::default(),
            hold: OneAtATime::new(10.0, 5.0),
            kv_use: 0.0,
        };
        let mut at = |now_s, used: [u32; 2]| {
            let replica = |id: u32| ReplicaSignals {
                id,
                draining: false,
                queued_requests: 0,
                queued_prefill_tokens: 0,
                running_requests: 1,
                kv_used_blocks: used[id as usize],
                kv_total_blocks: 100,
                ..ReplicaSignals::default()
            };
            let replicas = [replica(0), replica(1)];
            let (starting, stopping, draining) = (0, 0, 0);
            let snapshot = Snapshot {
                serving: 2,
                draining,
                starting,
                stopping,
                outstanding_requests: 2,
                unrouted_requests: 0,
                replicas: &replicas,
            };
            policy.decide(now_s, &snapshot).signed()
        };
        assert_eq!(at(0.0, [40, 60]), 0, "exactly half");
        assert_eq!(at(1.0, [41, 60]), 1);
        assert_eq!(at(10.9, [90, 90]), 0);
        assert_eq!(at(11.0, [20, 29]), -1);
        assert_eq!(at(15.9, [0, 0]), 0);
        assert_eq!(at(16.0, [25, 25]), 0, "exactly a quarter");
    }
}
