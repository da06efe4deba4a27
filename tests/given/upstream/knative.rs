//! Knative's pod autoscaler: its windows, rule, delay and scale-to-zero step, really run.

use scalefront::autoscaler::KnativeKpaSettings;
use scalefront::autoscaler::knative_kpa::zero::{Phase, Revision, ToZero, Verdict};
use scalefront::autoscaler::knative_kpa::{KpaAutoscaler, Recommendation};
use scalefront::autoscaler::{KpaMetric, PolicySettings};
use scalefront::settings::Faults;

use super::{Series, Tally, series};

/// The index has target and what a replica takes; series given by hand have the target in their name: `t70`,
/// `rps5`, `t14w` (weighted).
fn settings(series: &Series) -> KnativeKpaSettings {
    let last = series.name.rsplit('_').next().unwrap();
    let rps = series.setting("metric") == Some("rps") || last.starts_with("rps");
    let target = series.number("target").unwrap_or_else(|| {
        let digits = last
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.parse().unwrap_or_else(|_| panic!("no target in {}", series.name))
    });
    let total = series.number("total").unwrap_or(target / 0.7);
    let weighted =
        series.setting("weighted_window").is_some_and(|value| !matches!(value, "0" | "false" | "no"))
            || series.settings.split(';').any(|setting| setting == "weighted_window")
            || last.ends_with('w');
    let settings = KnativeKpaSettings {
        metric: if rps { KpaMetric::RequestsPerS } else { KpaMetric::Concurrency },
        target_per_replica: Some(total),
        target_utilization_percent: target / total * 100.0,
        weighted_window: weighted,
        scale_down_delay_s: series.number("scale_down_delay_s").unwrap_or(0.0),
        ..KnativeKpaSettings::default()
    };
    let mut faults = Faults::default();
    settings.check(&mut faults);
    assert_eq!(faults.found, [], "{}", series.name);
    settings
}

pub fn decisions() {
    let (mut means, mut decided, mut applied) = (Tally::default(), Tally::default(), Tally::default());
    for series in series("knative").iter().filter(|series| !series.name.starts_with("grace")) {
        let settings = settings(series);
        let mut autoscaler = KpaAutoscaler::new(&settings);
        let mut revision = Revision::new(settings.to_zero(true));
        let (mut latest, closed) = (None::<Recommendation>, series.looped == "closed");
        for row in series.rows() {
            let (now_s, ready) = (row.number("time_s"), row.count("ready"));
            let at = || format!("{} at {now_s} s", series.name);
            if !row.text("recorded").is_empty() {
                autoscaler.record(now_s, row.number("recorded"));
            }
            if row.count("tick") == 1 {
                let ours = autoscaler.recommend(now_s, ready);
                let valid = row.count("valid") == 1;
                let theirs = valid
                    .then(|| (row.count("desired"), row.number("excess_burst"), row.count("panicking") == 1));
                decided.compare(
                    at,
                    ours.map(|ours| (ours.desired, ours.excess_burst, ours.panicking)),
                    theirs,
                );
                if let Some(ours) = ours {
                    for (column, value) in [("stable", ours.stable), ("panic", ours.panic)] {
                        // Printed to some digits.
                        let theirs = row.number(column);
                        let close = (value - theirs).abs() <= 1e-5 * theirs.abs().max(1.0);
                        means.compare(at, if close { theirs } else { value }, theirs);
                    }
                }
                latest = ours.or(latest);
            }
            // What reconciled there acted at ticks, up to 20 replicas, and only where the loop was closed.
            if let Some(Recommendation { desired, excess_burst, .. }) = latest
                && row.count("tick") == 1
                && closed
            {
                let target = revision.reconcile(
                    now_s,
                    ready + row.count("starting"),
                    ready,
                    desired.min(20),
                    excess_burst < 0.0,
                );
                applied.compare(|| format!("{}, applied", at()), target, row.count("target_after"));
            }
        }
    }
    means.conclude("knative, means");
    decided.conclude("knative, decisions");
    applied.conclude("knative, replicas applied");
}

pub fn scale_to_zero() {
    let mut tally = Tally::default();
    for series in series("knative").iter().filter(|series| series.name.starts_with("grace")) {
        for (number, row) in series.rows().enumerate() {
            let to_zero = ToZero {
                stable_window_s: row.number("window_s"),
                grace_period_s: 30.0,
                retention_s: row.number("retention_s"),
                enabled: row.count("to_zero_enabled") == 1,
            };
            let phase = match row.text("pa_state") {
                "activating" => Phase::Activating,
                "active" => Phase::Active,
                "inactive" => Phase::Inactive,
                other => panic!("{other}"),
            };
            let (in_path, proxied_s) =
                (row.count("activator_probe") == 1, row.number("proxy_for_s").max(0.0));
            let Verdict { replicas, applied, again_after_s } =
                to_zero.judge(phase, row.number("since_s"), in_path, proxied_s, row.count("desired"));
            let ours = (replicas.map_or(-1, i64::from), applied, again_after_s.unwrap_or(-1.0));
            let theirs =
                (row.number("result") as i64, row.count("applied") == 1, row.number("requeue_after_s"));
            tally.compare(|| format!("{} row {}", series.name, number + 2), ours, theirs);
        }
    }
    tally.conclude("knative, scale to zero");
}
