//! llm-d's workload variant autoscaler (WVA), saturation analyzer V1: spare KV cache and spare queue.
//!
//! Rule, every reconciliation, on each replica's peak KV use and queue of the last minute: a replica is
//! saturated at `kv_cache_threshold` or `queue_length_threshold`. One more replica if the mean spare KV of
//! the others (threshold - use) is below `kv_spare_trigger`, or their mean spare queue below
//! `queue_spare_trigger`, or all are saturated. One less if there are two or more unsaturated ones and their
//! load, spread over one less, leaves both spares. While what it asked for has not happened it asks for that
//! again, and with replicas that are pending (in February: that do not report) for what there is. An HPA
//! carries the number out ([`wva`](super::wva)).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `kv_cache_threshold`, `queue_length_threshold` | 0.80, 5 | `docs/saturation-analyzer.md` |
//! | `kv_spare_trigger`, `queue_spare_trigger` | 0.1, 3 | the same |
//! | `reconcile_interval_s` | 30 | the loop's, whatever is configured |
//! | `peak_window_s` | 60 | the collector's queries |
//! | `scrape_interval_s` | 15 | the collector's queries |
//! | `carrier` | an HPA with 240 s each way | the guide |
//! | `scale_to_zero_after_s` | off; 600 where it is on | the enforcer's retention |
//!
//! Source: llm-d/llm-d-workload-variant-autoscaler `internal/saturationv1/analyzer.go`. There is one variant
//! here, so the choice of the cheapest and the dearest has no say. Checked: run, in February's and August's
//! version; `tests/given/upstream/wva.rs` compares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::check_intervals;
use super::peaks::{Peak, Peaks};
use super::scraped::{Controller, Scraped, Seen};
use super::wva::{Emitted, WvaCarrier, WvaVersion, idle};
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Upstream};
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
    pub version: WvaVersion,
    pub carrier: WvaCarrier,
    /// Time without requests after which no replica is kept; never if absent.
    pub scale_to_zero_after_s: Option<f64>,
}

impl Default for WvaV1Settings {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.8,
            queue_length_threshold: 5.0,
            kv_spare_trigger: 0.1,
            queue_spare_trigger: 3.0,
            reconcile_interval_s: 30.0,
            scrape_interval_s: 15.0,
            peak_window_s: 60.0,
            version: WvaVersion::default(),
            carrier: WvaCarrier::default(),
            scale_to_zero_after_s: None,
        }
    }
}

impl PolicySettings for WvaV1Settings {
    fn check(&self, faults: &mut Faults) {
        faults.fraction("kv_cache_threshold", self.kv_cache_threshold);
        faults.positive("queue_length_threshold", self.queue_length_threshold);
        faults.require(
            (0.0..=self.kv_cache_threshold).contains(&self.kv_spare_trigger),
            "kv_spare_trigger",
            || {
                format!(
                    "{} found, expected 0 to `kv_cache_threshold` ({})",
                    self.kv_spare_trigger, self.kv_cache_threshold
                )
            },
        );
        faults.require(
            (0.0..=self.queue_length_threshold).contains(&self.queue_spare_trigger),
            "queue_spare_trigger",
            || {
                format!(
                    "{} found, expected 0 to `queue_length_threshold` ({})",
                    self.queue_spare_trigger, self.queue_length_threshold
                )
            },
        );
        let sync_s = self.carrier.sync_interval_s(self.reconcile_interval_s);
        check_intervals(
            faults,
            &[
                ("scrape_interval_s", self.scrape_interval_s),
                ("reconcile_interval_s", self.reconcile_interval_s),
                ("carrier.hpa.sync_interval_s", sync_s),
            ],
        );
        faults.positive("peak_window_s", self.peak_window_s);
        self.carrier.check(faults);
        if let Some(after_s) = self.scale_to_zero_after_s {
            faults.positive("scale_to_zero_after_s", after_s);
        }
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "llm-d workload variant autoscaler, saturation analyzer V1",
            version: self.version.name(),
            checked: Checked::Run,
            left_out: "several variants",
            knob: "kv_spare_trigger",
            signals: "each replica's peak KV use and queue of the last minute, sampled every 15 s; every 30 s, then an HPA",
            blind_to: "rates, lengths, latency; how much is missing: one replica at a time",
        }
    }

    fn reaches_zero(&self) -> bool {
        self.scale_to_zero_after_s.is_some()
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let least = context.min_replicas.max(u32::from(self.scale_to_zero_after_s.is_none()));
        let observes = Observes {
            replicas: true,
            arrivals: self.scale_to_zero_after_s.is_some(),
            ..Observes::default()
        };
        let intervals_s = [
            self.scrape_interval_s,
            self.reconcile_interval_s,
            self.carrier.sync_interval_s(self.reconcile_interval_s),
        ];
        let wva = WvaV1 {
            settings: self.clone(),
            peaks: Peaks::new(self.peak_window_s),
            emitted: Emitted::new(&self.carrier, least, context.max_replicas),
            spare_kv: 0.0,
            spare_queue: 0.0,
            most: context.max_replicas,
        };
        Some(Scraped::boxed(observes, self.scale_to_zero_after_s.unwrap_or(0.0), intervals_s, wva))
    }
}

/// What a reconciliation is told of replicas.
#[derive(Debug, Clone, Copy)]
pub struct WvaCounts {
    pub current: u32,
    pub pending: u32,
    /// What was asked for last; 0 if nothing was.
    pub previous_target: u32,
}

impl WvaV1Settings {
    /// Mean spare KV and queue over unsaturated replicas, and the replicas to add (or, negative, to drain).
    fn analyze(&self, peaks: &[Peak]) -> (f64, f64, i32) {
        let free = |peak: &&Peak| {
            peak.kv_use < self.kv_cache_threshold && peak.queued_requests < self.queue_length_threshold
        };
        let (mut count, mut spare_kv, mut spare_queue) = (0_u32, 0.0, 0.0);
        for peak in peaks.iter().filter(free) {
            count += 1;
            spare_kv += self.kv_cache_threshold - peak.kv_use;
            spare_queue += self.queue_length_threshold - peak.queued_requests;
        }
        let replicas = f64::from(count);
        // A mean of the variant, weighted by its replicas, as there: the order of rounding decides at the
        // edges.
        let mean = |sum: f64| sum / replicas * replicas / replicas;
        let (kv, queue) = if count > 0 { (mean(spare_kv), mean(spare_queue)) } else { (0.0, 0.0) };
        if kv < self.kv_spare_trigger || queue < self.queue_spare_trigger {
            return (kv, queue, 1);
        }
        let safe = count >= 2 && {
            let factor = replicas / (replicas - 1.0);
            let after = |threshold: f64, spare: f64| threshold - (threshold - spare) * factor;
            after(self.kv_cache_threshold, kv) >= self.kv_spare_trigger
                && after(self.queue_length_threshold, queue) >= self.queue_spare_trigger
        };
        (kv, queue, -i32::from(safe))
    }

    /// Replicas there should be, with the mean spare KV and queue.
    pub fn target(&self, peaks: &[Peak], counts: WvaCounts) -> (u32, f64, f64) {
        let WvaCounts { current, pending, previous_target } = counts;
        let (spare_kv, spare_queue, change) = self.analyze(peaks);
        let awaited = previous_target != 0 && previous_target != current;
        let moving = match self.version {
            WvaVersion::February => peaks.len() as u32 != current,
            WvaVersion::August => pending > 0,
        };
        let target = match change {
            _ if peaks.is_empty() => current,
            _ if awaited => previous_target,
            _ if moving => current,
            1 => current + 1,
            -1 if current > 1 => current - 1,
            _ => current,
        };
        (target, spare_kv, spare_queue)
    }
}

#[derive(Debug)]
struct WvaV1 {
    settings: WvaV1Settings,
    peaks: Peaks,
    emitted: Emitted,
    spare_kv: f64,
    spare_queue: f64,
    most: u32,
}

impl Controller<3> for WvaV1 {
    fn scraped(&mut self, seen: &Seen) {
        self.peaks.push(seen.now_s, &seen.signals.replicas);
    }

    fn decide(&mut self, [_, reconcile, sync]: [bool; 3], seen: &Seen) -> Decision {
        let (snapshot, current) = (seen.snapshot, seen.snapshot.committed());
        if current == 0 {
            // A loop of its own wakes what requests wait for.
            return if seen.signals.unrouted_requests > 0 { Decision::Up(1) } else { Decision::Hold };
        }
        if reconcile {
            let peaks: Vec<Peak> = self.peaks.read().collect();
            let counts = WvaCounts {
                current,
                pending: snapshot.starting,
                previous_target: self.emitted.target.unwrap_or(0),
            };
            let (target, spare_kv, spare_queue) = self.settings.target(&peaks, counts);
            (self.spare_kv, self.spare_queue) = (spare_kv, spare_queue);
            let idle = idle(seen, self.settings.scale_to_zero_after_s);
            self.emitted.target = Some(if idle { 0 } else { target.min(self.most) });
        }
        self.emitted.carry(seen.now_s, current, reconcile, sync)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let target = self.emitted.target.map(|replicas| ("emitted_replicas", f64::from(replicas)));
        [("spare_kv", self.spare_kv), ("spare_queue", self.spare_queue)].into_iter().chain(target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(replicas: &[(f64, f64)]) -> Vec<Peak> {
        replicas.iter().map(|&(kv_use, queued_requests)| Peak { kv_use, queued_requests }).collect()
    }

    /// Hand-computed from `docs/saturation-analyzer.md` with its thresholds.
    #[test]
    fn spare_capacity_decides() {
        let change = |replicas: &[(f64, f64)]| WvaV1Settings::default().analyze(&peaks(replicas)).2;
        assert_eq!(change(&[(0.75, 0.0), (0.72, 0.0)]), 1, "mean spare KV 0.065 is below 0.1");
        assert_eq!(change(&[(0.1, 3.0), (0.1, 2.0)]), 1, "mean spare queue 2.5 is below 3");
        assert_eq!(
            change(&[(0.9, 0.0), (0.5, 0.0)]),
            0,
            "the unsaturated one has 0.3 to spare, but there is only one"
        );
        assert_eq!(change(&[(0.9, 9.0), (0.95, 0.0)]), 1, "all are saturated");
        assert_eq!(
            change(&[(0.2, 0.0), (0.2, 0.0), (0.2, 1.0)]),
            -1,
            "0.6 over two leaves 0.5, one queued leaves 4.5"
        );
        assert_eq!(change(&[(0.36, 0.0), (0.36, 0.0)]), 0, "0.72 on one would leave 0.08");
        assert_eq!(change(&[(0.1, 1.5), (0.1, 1.5)]), 0, "three queued on one would leave 2");
        assert_eq!(change(&[(0.1, 0.0)]), 0);
    }

    #[test]
    fn what_was_asked_for_is_waited_for() {
        let settings = WvaV1Settings::default();
        let target = |current, pending, previous_target| {
            settings
                .target(&peaks(&[(0.75, 0.0), (0.72, 0.0)]), WvaCounts { current, pending, previous_target })
                .0
        };
        assert_eq!((target(2, 0, 0), target(2, 0, 3), target(3, 1, 3), target(3, 0, 3)), (3, 3, 3, 4));
        let february = WvaV1Settings { version: WvaVersion::February, ..settings.clone() };
        let counts = WvaCounts { current: 3, pending: 0, previous_target: 3 };
        assert_eq!(
            february.target(&peaks(&[(0.75, 0.0), (0.72, 0.0)]), counts).0,
            3,
            "one does not report yet"
        );
    }
}
