//! llm-d's workload variant autoscaler (WVA), saturation analyzer V1: spare KV cache and spare queue.
//!
//! Rule, every reconciliation, on each replica's peak KV use and queue of the last minute: a replica is saturated at
//! `kv_cache_threshold` or `queue_length_threshold`. One more replica if the mean spare KV of the others (threshold - use) is below
//! `kv_spare_trigger`, or their mean spare queue below `queue_spare_trigger`, or all are saturated. One less if there are two or more
//! unsaturated ones and their load, spread over one less, leaves both spares. Nothing while a change is under way.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `kv_cache_threshold`, `queue_length_threshold` | 0.80, 5 | `docs/saturation-analyzer.md` |
//! | `kv_spare_trigger`, `queue_spare_trigger` | 0.1, 3 | the same |
//! | `reconcile_interval_s`, `peak_window_s` | 60, 60 | the same |
//! | `scrape_interval_s` | 15 | Prometheus in llm-d's charts (from memory) |
//!
//! Source: llm-d/llm-d-workload-variant-autoscaler `internal/capacity/analyzer.go`. There is one variant here, so the choice of the
//! cheapest and the dearest has no say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, check_intervals};
use super::peaks::{Peak, Peaks};
use super::signals::Signals;
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WvaV1Settings {
    /// KV use at which a replica is saturated, 0 to 1.
    pub kv_cache_threshold: f64,
    /// Queued requests at which a replica is saturated.
    pub queue_length_threshold: f64,
    /// Mean spare KV use below which a replica is added.
    pub kv_spare_trigger: f64,
    /// Mean spare queue, in requests, below which a replica is added.
    pub queue_spare_trigger: f64,
    pub reconcile_interval_s: f64,
    pub scrape_interval_s: f64,
    pub peak_window_s: f64,
}

impl Default for WvaV1Settings {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.8,
            queue_length_threshold: 5.0,
            kv_spare_trigger: 0.1,
            queue_spare_trigger: 3.0,
            reconcile_interval_s: 60.0,
            scrape_interval_s: 15.0,
            peak_window_s: 60.0,
        }
    }
}

impl PolicySettings for WvaV1Settings {
    fn check(&self, faults: &mut Faults) {
        faults.fraction("kv_cache_threshold", self.kv_cache_threshold);
        faults.positive("queue_length_threshold", self.queue_length_threshold);
        faults.require((0.0..=self.kv_cache_threshold).contains(&self.kv_spare_trigger), "kv_spare_trigger", || {
            format!("{} found, expected 0 to `kv_cache_threshold` ({})", self.kv_spare_trigger, self.kv_cache_threshold)
        });
        faults.require((0.0..=self.queue_length_threshold).contains(&self.queue_spare_trigger), "queue_spare_trigger", || {
            format!("{} found, expected 0 to `queue_length_threshold` ({})", self.queue_spare_trigger, self.queue_length_threshold)
        });
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("reconcile_interval_s", self.reconcile_interval_s)]);
        faults.positive("peak_window_s", self.peak_window_s);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "llm-d workload variant autoscaler, saturation analyzer V1",
            version: "b08b1c77 (February 2026)",
            checked: Checked::Ported,
            left_out: "",
            knob: "kv_spare_trigger",
            signals: "each replica's peak KV use and queue of the last minute, sampled every 15 s",
            blind_to: "rates, lengths, latency",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(WvaV1 {
            settings: self.clone(),
            cadence: Cadence::new([self.scrape_interval_s, self.reconcile_interval_s]),
            signals: Signals::new(0.0),
            peaks: Peaks::new(self.peak_window_s),
            spare_kv: 0.0,
            spare_queue: 0.0,
        }))
    }
}

impl WvaV1Settings {
    /// Mean spare KV and queue over unsaturated replicas, and the replicas to add (or, negative, to drain).
    fn analyze(&self, peaks: &[Peak]) -> (f64, f64, i32) {
        let free = |peak: &&Peak| peak.kv_use < self.kv_cache_threshold && peak.queued_requests < self.queue_length_threshold;
        let (mut count, mut kv_load, mut queue_load) = (0_u32, 0.0, 0.0);
        for peak in peaks.iter().filter(free) {
            count += 1;
            kv_load += peak.kv_use;
            queue_load += peak.queued_requests;
        }
        let spare_over = |replicas: u32| {
            let replicas = f64::from(replicas);
            (self.kv_cache_threshold - kv_load / replicas, self.queue_length_threshold - queue_load / replicas)
        };
        let (kv, queue) = if count > 0 { spare_over(count) } else { (0.0, 0.0) };
        if kv < self.kv_spare_trigger || queue < self.queue_spare_trigger {
            return (kv, queue, 1);
        }
        let safe = count >= 2 && {
            let (kv, queue) = spare_over(count - 1);
            kv >= self.kv_spare_trigger && queue >= self.queue_spare_trigger
        };
        (kv, queue, -i32::from(safe))
    }
}

#[derive(Debug)]
struct WvaV1 {
    settings: WvaV1Settings,
    cadence: Cadence<2>,
    signals: Signals,
    peaks: Peaks,
    spare_kv: f64,
    spare_queue: f64,
}

impl Autoscaler for WvaV1 {
    fn observes(&self) -> Observes {
        Observes { replicas: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [scrape, reconcile] = self.cadence.tick();
        if scrape {
            self.signals.scrape(now_s, snapshot);
            self.peaks.push(now_s, &self.signals.replicas);
        }
        if !reconcile || snapshot.serving == 0 || snapshot.starting + snapshot.stopping > 0 {
            return Decision::Hold;
        }
        let peaks: Vec<Peak> = self.peaks.read().collect();
        let (spare_kv, spare_queue, change) = self.settings.analyze(&peaks);
        (self.spare_kv, self.spare_queue) = (spare_kv, spare_queue);
        match change {
            1 => Decision::Up(1),
            -1 => Decision::Down(1),
            _ => Decision::Hold,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("spare_kv", self.spare_kv), ("spare_queue", self.spare_queue)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(replicas: &[(f64, f64)]) -> i32 {
        let peaks: Vec<Peak> = replicas.iter().map(|&(kv_use, queued_requests)| Peak { kv_use, queued_requests }).collect();
        WvaV1Settings::default().analyze(&peaks).2
    }

    /// Hand-computed from `docs/saturation-analyzer.md` with its thresholds.
    #[test]
    fn spare_capacity_decides() {
        assert_eq!(change(&[(0.75, 0.0), (0.72, 0.0)]), 1, "mean spare KV 0.065 is below 0.1");
        assert_eq!(change(&[(0.1, 3.0), (0.1, 2.0)]), 1, "mean spare queue 2.5 is below 3");
        assert_eq!(change(&[(0.9, 0.0), (0.5, 0.0)]), 0, "the unsaturated one has 0.3 to spare, but there is only one");
        assert_eq!(change(&[(0.9, 9.0), (0.95, 0.0)]), 1, "all are saturated");
        assert_eq!(change(&[(0.2, 0.0), (0.2, 0.0), (0.2, 1.0)]), -1, "0.6 over two leaves 0.5, one queued leaves 4.5");
        assert_eq!(change(&[(0.36, 0.0), (0.36, 0.0)]), 0, "0.72 on one would leave 0.08");
        assert_eq!(change(&[(0.1, 1.5), (0.1, 1.5)]), 0, "three queued on one would leave 2");
        assert_eq!(change(&[(0.1, 0.0)]), 0);
    }
}
