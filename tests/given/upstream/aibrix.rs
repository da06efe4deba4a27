//! AIBrix's two strategies, really run.

use scalefront::autoscaler::aibrix::{Aibrix, Strategy};
use scalefront::autoscaler::signals::LoadMetric;
use scalefront::autoscaler::{AibrixApaSettings, AibrixKpaSettings, PolicySettings};
use scalefront::settings::{Faults, PerDirection};

use super::{Series, Tally, series};

struct Compared {
    means: Tally,
    recommended: Tally,
    desired: Tally,
}

fn replay<S: Strategy>(series: &Series, mut aibrix: Aibrix<S>, compared: &mut Compared) {
    for row in series.rows() {
        let (now_s, current) = (row.number("time_s"), row.count("current"));
        let at = || format!("{} at {now_s} s", series.name);
        aibrix.record(now_s, 0, row.list("values").map(|value| value.parse::<f64>().unwrap()));
        let desired = aibrix.sync(now_s, current, row.count("starting"));
        compared.recommended.compare(at, aibrix.recommended(), row.count("recommended"));
        compared.desired.compare(at, desired, row.count("desired"));
        let (stable, panic) = aibrix.means();
        // APA has no panic window that matters.
        for (column, value) in [("stable", stable), ("panic", panic)]
            .into_iter()
            .take(if row.text("mode") == "-" { 1 } else { 2 })
        {
            let theirs = row.number(column);
            let close = (value - theirs).abs() <= 1e-5 * theirs.abs().max(1.0);
            compared.means.compare(at, if close { theirs } else { value }, theirs);
        }
    }
}

/// What is not said in the index, series given by hand, is in the name.
fn target(series: &Series) -> (LoadMetric, f64) {
    let kv = series.setting("metric").map_or(series.name.contains("_kv"), |metric| metric.starts_with("kv"));
    let target = series.number("target").unwrap_or_else(|| {
        let named = series
            .name
            .split('_')
            .find_map(|part| part.strip_prefix("requests").or(part.strip_prefix("kv"))?.parse().ok());
        named.unwrap_or(if kv { 0.5 } else { 10.0 })
    });
    (if kv { LoadMetric::KvUse } else { LoadMetric::OutstandingRequests }, target)
}

fn checked<P: PolicySettings>(series: &Series, settings: P) -> P {
    let mut faults = Faults::default();
    settings.check(&mut faults);
    assert_eq!(faults.found, [], "{}", series.name);
    settings
}

pub fn decisions() {
    let mut compared =
        Compared { means: Tally::default(), recommended: Tally::default(), desired: Tally::default() };
    for series in &series("aibrix") {
        let (metric, target_per_replica) = target(series);
        let number = |name: &str, default: f64| series.number(name).unwrap_or(default);
        let tolerance = PerDirection { up: number("up_tolerance", 0.1), down: number("down_tolerance", 0.1) };
        let cooldown_window_s =
            PerDirection { up: number("up_cooldown_s", 0.0), down: number("down_cooldown_s", 300.0) };
        let (observe_window_s, panic_window_s) = (number("window_s", 180.0), number("panic_window_s", 60.0));
        let (max_scale_up_rate, max_scale_down_rate) =
            (number("max_up_rate", 2.0), number("max_down_rate", 2.0));
        let apa =
            series.setting("strategy").map_or(series.name.contains("_apa"), |strategy| strategy == "APA");
        if apa {
            let settings = AibrixApaSettings {
                metric,
                target_per_replica,
                observe_window_s,
                tolerance,
                max_scale_up_rate,
                max_scale_down_rate,
                cooldown_window_s,
                ..AibrixApaSettings::default()
            };
            replay(series, checked(series, settings).controller(1, 20), &mut compared);
        } else {
            let settings = AibrixKpaSettings {
                metric,
                target_per_replica,
                observe_window_s,
                panic_window_s,
                panic_threshold: number("panic_threshold", 2.0),
                tolerance,
                max_scale_up_rate,
                max_scale_down_rate,
                cooldown_window_s,
                ..AibrixKpaSettings::default()
            };
            replay(series, checked(series, settings).controller(1, 20), &mut compared);
        }
    }
    compared.means.conclude("aibrix, means");
    compared.recommended.conclude("aibrix, recommendations");
    compared.desired.conclude("aibrix, after the cooldown");
}
