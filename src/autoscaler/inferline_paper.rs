//! InferLine's tuner as its paper has it, for one model: envelopes over many windows at once against what was
//! planned for.
//!
//! Rule, up: windows of length T_s (a request's service time), 2 T_s, 4 T_s, .. up to 60 s; r_i = the most
//! requests in any window of length i within the last 60 s, over its length. Where any r_i exceeds the
//! planned envelope's, k = ceil(r_max / (mu rho)), r_max the largest of those that exceed; never fewer than
//! there are. Down: `down_delay_s` after any change, lambda = the highest rate of 5 s windows within the last
//! 30 s, k = ceil(lambda / (mu rho)), or as many more as keep all windows within their plan (ours: else the
//! longer windows would add again at once). mu = requests per second of a full replica; rho = the share of it
//! the planner uses.
//!
//! The planner's headroom is settings: `planned_utilization` is rho, and the planned envelope is that of
//! Poisson arrivals at the rate the present replicas were planned for, lambda = k mu rho: (lambda w +
//! `burst_sigmas` sqrt(lambda w)) / w requests per second over a window w. mu comes from the hardware model
//! and the mean lengths of requests finished so far, so nothing is decided before the first has finished.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | windows | service time, doubling to 60 s | Crankshaw's thesis |
//! | `down_delay_s`, `down_look_back_s`, `down_window_s` | 15, 30, 5 | the paper (from memory) |
//! | `planned_utilization`, `burst_sigmas` | 0.7, 5 | ours: the paper's planner finds them by simulating a sample |
//! | `tick_interval_s` | 1 | ours |
//!
//! Source: InferLine (Crankshaw et al., SoCC 2020; arXiv 1812.01776), Crankshaw's thesis. The formulas for k
//! and rho are from memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::ReplicaModel;
use super::signals::Signals;
use super::{
    Arrivals, Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings,
    Snapshot, TrafficEnvelope, Upstream,
};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferlinePaperSettings {
    /// Share of a replica's throughput the planner uses.
    pub planned_utilization: f64,
    /// Standard deviations of a Poisson count that the planned envelope allows.
    pub burst_sigmas: f64,
    /// Shortest window; by default a request's service time.
    pub min_window_s: Option<f64>,
    /// Longest window of the envelope.
    pub max_window_s: f64,
    /// No scaling down within this time after the latest change.
    pub down_delay_s: f64,
    /// How far back scaling down looks for the largest rate.
    pub down_look_back_s: f64,
    /// Window over which that rate is taken.
    pub down_window_s: f64,
    /// How often the policy decides.
    pub tick_interval_s: f64,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
}

impl Default for InferlinePaperSettings {
    fn default() -> Self {
        Self {
            planned_utilization: 0.7,
            burst_sigmas: 5.0,
            min_window_s: None,
            max_window_s: 60.0,
            down_delay_s: 15.0,
            down_look_back_s: 30.0,
            down_window_s: 5.0,
            tick_interval_s: 1.0,
            max_num_batched_tokens: 4096,
        }
    }
}

impl PolicySettings for InferlinePaperSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("planned_utilization", self.planned_utilization);
        faults.fraction("planned_utilization", self.planned_utilization);
        faults.not_negative("burst_sigmas", self.burst_sigmas);
        if let Some(window_s) = self.min_window_s {
            faults.positive("min_window_s", window_s);
            faults.require(window_s <= self.max_window_s, "min_window_s", || {
                format!("{window_s} found, expected at most `max_window_s` ({})", self.max_window_s)
            });
        }
        faults.positive("max_window_s", self.max_window_s);
        faults.not_negative("down_delay_s", self.down_delay_s);
        faults.positive("down_look_back_s", self.down_look_back_s);
        faults.positive("down_window_s", self.down_window_s);
        faults.require(self.down_window_s <= self.down_look_back_s, "down_window_s", || {
            format!(
                "{} found, expected at most `down_look_back_s` ({})",
                self.down_window_s, self.down_look_back_s
            )
        });
        faults.interval_s("tick_interval_s", self.tick_interval_s);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "InferLine, SoCC 2020",
            version: "paper",
            checked: Checked::Memory,
            left_out: "the planner, whose headroom is two settings",
            knob: "planned_utilization",
            signals: "arrivals of this instant, mean lengths of finished requests",
            blind_to: "queues, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(InferlinePaper {
            settings: self.clone(),
            model: ReplicaModel::new(context, self.max_num_batched_tokens),
            signals: Signals::new(f64::INFINITY),
            early: Vec::new(),
            windows: Vec::new(),
            down: TrafficEnvelope::new(self.down_look_back_s, self.down_window_s),
            last_change_s: f64::NEG_INFINITY,
            replica_per_s: 0.0,
            rate_per_s: 0.0,
        }))
    }
}

#[derive(Debug)]
struct InferlinePaper {
    settings: InferlinePaperSettings,
    model: ReplicaModel,
    signals: Signals,
    /// Arrivals before the shortest window was known.
    early: Vec<f64>,
    /// Window lengths and their envelopes.
    windows: Vec<(f64, TrafficEnvelope)>,
    down: TrafficEnvelope,
    last_change_s: f64,
    replica_per_s: f64,
    rate_per_s: f64,
}

impl InferlinePaper {
    fn open_windows(&mut self, service_time_s: f64) {
        let longest_s = self.settings.max_window_s;
        let mut window_s = self.settings.min_window_s.unwrap_or(service_time_s).min(longest_s);
        loop {
            self.windows.push((window_s, TrafficEnvelope::new(longest_s, window_s)));
            if window_s >= longest_s {
                break;
            }
            window_s = (window_s * 2.0).min(longest_s);
        }
        for at_s in std::mem::take(&mut self.early) {
            self.windows.iter_mut().for_each(|(_, envelope)| envelope.observe(at_s, 1));
        }
    }

    /// The largest rate that exceeds what `replicas` were planned for; `None` if none does.
    fn exceeding_rate_per_s(&mut self, now_s: f64, replicas: u32) -> Option<f64> {
        let planned_per_s = f64::from(replicas) * self.replica_per_s * self.settings.planned_utilization;
        let mut highest = None;
        for (window_s, envelope) in &mut self.windows {
            let rate = envelope.rate_per_s(now_s);
            let expected = planned_per_s * *window_s;
            if rate > (expected + self.settings.burst_sigmas * expected.sqrt()) / *window_s {
                highest = Some(highest.map_or(rate, |other: f64| other.max(rate)));
            }
        }
        highest
    }

    fn replicas_for(&self, rate_per_s: f64) -> u32 {
        ((rate_per_s / (self.replica_per_s * self.settings.planned_utilization)).ceil() as u32).max(1)
    }
}

impl Autoscaler for InferlinePaper {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.tick_interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        for &at_s in arrivals.arrived_at_s {
            self.down.observe(at_s, 1);
            if self.windows.is_empty() {
                self.early.push(at_s);
            } else {
                self.windows.iter_mut().for_each(|(_, envelope)| envelope.observe(at_s, 1));
            }
        }
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let Some(lengths) = self.signals.lengths_so_far() else {
            return Decision::Hold;
        };
        self.replica_per_s = self.model.requests_per_s(lengths);
        if self.windows.is_empty() {
            self.open_windows(self.model.service_time_s(lengths));
        }
        let current = snapshot.committed();
        if let Some(rate) = self.exceeding_rate_per_s(now_s, current) {
            self.rate_per_s = rate;
            let wanted = self.replicas_for(rate);
            if wanted > current {
                self.last_change_s = now_s;
                return Decision::Up(wanted - current);
            }
        } else if now_s - self.last_change_s >= self.settings.down_delay_s {
            self.rate_per_s = self.down.rate_per_s(now_s);
            // Never to where the windows that look further back would add again at once.
            let fewest = self.replicas_for(self.rate_per_s);
            let wanted = (fewest..current)
                .find(|&fewer| self.exceeding_rate_per_s(now_s, fewer).is_none())
                .unwrap_or(current);
            if wanted < current {
                self.last_change_s = now_s;
                return Decision::Down(current - wanted);
            }
        }
        Decision::Hold
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("rate_per_s", self.rate_per_s), ("replica_requests_per_s", self.replica_per_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    fn tuner(run: impl FnOnce(&mut InferlinePaper)) {
        let settings = InferlinePaperSettings {
            planned_utilization: 0.5,
            burst_sigmas: 2.0,
            ..InferlinePaperSettings::default()
        };
        with_context(|context| {
            let mut tuner = InferlinePaper {
                model: ReplicaModel::new(context, 4096),
                signals: Signals::new(f64::INFINITY),
                early: Vec::new(),
                windows: Vec::new(),
                down: TrafficEnvelope::new(30.0, 5.0),
                last_change_s: f64::NEG_INFINITY,
                replica_per_s: 4.0,
                rate_per_s: 0.0,
                settings,
            };
            run(&mut tuner);
        });
    }

    fn arrive(tuner: &mut InferlinePaper, times: &[f64]) {
        let tokens = vec![1; times.len()];
        tuner.observe_arrivals(Arrivals {
            arrived_at_s: times,
            prefill_tokens: &tokens,
            decode_tokens: &tokens,
        });
    }

    #[test]
    fn windows_double_from_service_time_to_a_minute() {
        tuner(|tuner| {
            tuner.open_windows(0.9);
            let lengths: Vec<f64> = tuner.windows.iter().map(|&(length, _)| length).collect();
            assert_eq!(lengths, [0.9, 1.8, 3.6, 7.2, 14.4, 28.8, 57.6, 60.0]);
        });
    }

    /// Hand-computed: one replica of 4/s at half use was planned for 2/s, so with two sigmas for 2 + 2 sqrt 2
    /// = 4.8 requests in a second and 8 + 2 sqrt 8 = 13.7 in four.
    #[test]
    fn bursts_beyond_the_plan_are_noticed_on_their_time_scale() {
        let times = |count: u32, over_s: f64| {
            (0..count).map(|i| 10.0 + over_s * f64::from(i) / f64::from(count)).collect::<Vec<_>>()
        };
        let exceeding = |count, over_s| {
            let mut found = None;
            tuner(|tuner| {
                tuner.settings.min_window_s = Some(1.0);
                tuner.settings.max_window_s = 4.0;
                arrive(tuner, &times(count, over_s));
                tuner.open_windows(1.0);
                found = tuner.exceeding_rate_per_s(10.0 + over_s, 1);
            });
            found
        };
        assert_eq!(exceeding(4, 0.5), None);
        assert_eq!(exceeding(5, 0.5), Some(5.0));
        assert_eq!(exceeding(13, 3.9), None, "13 in four seconds, never more than 4 in one");
        assert_eq!(exceeding(14, 3.9), Some(3.5));
        tuner(|tuner| assert_eq!((tuner.replicas_for(5.0), tuner.replicas_for(0.0)), (3, 1)));
    }
}
