//! The Kubernetes HPA: functions of 1.20.2 that were run, and a port of 1.33.

use scalefront::autoscaler::behavior::{BehaviorSettings, RatePolicy, RateUnit, ScalingRules, SelectPolicy};
use scalefront::autoscaler::horizontal::{Horizontal, HpaLoop};
use scalefront::autoscaler::proportional::{KubernetesVersion, PodMetrics, Proportion};
use scalefront::settings::PerDirection;

use super::{Row, Series, Tally, series};

/// `2 pods/60s,50%/30s window 120s`, `100%/15s no window`.
fn rules(text: &str, select_policy: SelectPolicy) -> ScalingRules {
    let (policies, window) = match text.split_once("window") {
        Some((policies, window)) => (policies.trim().strip_suffix("no").unwrap_or(policies), window.trim()),
        None => (text, ""),
    };
    let policy = |text: &str| {
        let (amount, period) = text.trim().split_once('/').unwrap_or_else(|| panic!("no rate: {text}"));
        let value = amount.trim_end_matches(|c: char| !c.is_ascii_digit());
        RatePolicy {
            unit: if amount.ends_with('%') { RateUnit::Percent } else { RateUnit::Pods },
            value: value.parse().unwrap(),
            period_s: period.trim().trim_end_matches('s').parse().unwrap(),
        }
    };
    // A direction without a window of its own has none here, but for the defaults.
    let window_s = window.trim_end_matches(['s', ';', ',']).parse().ok();
    ScalingRules {
        stabilization_window_s: window_s,
        select_policy,
        policies: Some(policies.trim().trim_end_matches([';', ',']).split(',').map(policy).collect()),
    }
}

fn behavior(text: &str) -> Option<BehaviorSettings> {
    match text {
        "no" => return None,
        "defaults" => return Some(BehaviorSettings::default()),
        _ => {}
    }
    let (select, rates) = text.split_once(": ").unwrap_or(("select Max both ways", text));
    let select = match select {
        "select Min both ways" => SelectPolicy::Min,
        "select Max both ways" => SelectPolicy::Max,
        other => panic!("unknown selection: {other}"),
    };
    let (up, down) = rates
        .strip_prefix("up ")
        .and_then(|rates| rates.split_once("down "))
        .unwrap_or_else(|| panic!("no rates: {text}"));
    let up = up.trim_end_matches([' ', ';', ',']);
    let mut scale_up = rules(up, select);
    scale_up.stabilization_window_s = scale_up.stabilization_window_s.or(Some(0.0));
    Some(BehaviorSettings { scale_up, scale_down: rules(down, select) })
}

/// Settings as the index or, where that says nothing, the name has them.
struct Setup {
    version: KubernetesVersion,
    behavior: Option<BehaviorSettings>,
    target_milli: i64,
    external: bool,
    most: u32,
}

impl Setup {
    fn of(series: &Series) -> Self {
        let version = match series.setting("code") {
            Some("port") => KubernetesVersion::V1_33,
            _ => KubernetesVersion::V1_20,
        };
        // Series of loads given by hand have no bound that matters.
        let most =
            series.number("max").unwrap_or(if series.settings.is_empty() { 1000.0 } else { 20.0 }) as u32;
        if let Some(metric) = series.setting("metric") {
            let from = series.settings.find("behavior=").unwrap() + "behavior=".len();
            let until = series.settings.find(";metric=").unwrap();
            let behavior = behavior(&series.settings[from..until]);
            let target_milli = series.number("target_milli").unwrap() as i64;
            return Self { version, behavior, target_milli, external: metric == "external average", most };
        }
        let parts: Vec<&str> = series.name.split('_').collect();
        let target =
            parts.iter().find_map(|part| part.strip_prefix("external")).expect("a target in the name");
        let behavior = parts.contains(&"behavior").then(BehaviorSettings::default);
        Self { version, behavior, target_milli: target.parse::<i64>().unwrap() * 1000, external: true, most }
    }
}

fn values_milli(row: Row) -> Vec<i64> {
    row.list("values_milli").map(|value| value.parse().unwrap()).collect()
}

fn proposal(
    rule: Proportion,
    row: Row,
    values_milli: &[i64],
    external_milli: Option<i64>,
    target_milli: i64,
) -> Option<u32> {
    let current = row.count("current");
    match external_milli {
        Some(total) => Some(rule.by_average(total, current, target_milli)),
        None => {
            let pods =
                PodMetrics { values_milli, pending: row.count("pending"), missing: row.count("missing") };
            rule.by_pods(pods, current, target_milli)
        }
    }
}

pub fn single_calculations() {
    let mut tally = Tally::default();
    for series in series("hpa").iter().filter(|series| series.name.starts_with("milli_units")) {
        for (version, column) in
            [(KubernetesVersion::V1_20, "desired_k1.20"), (KubernetesVersion::V1_33, "desired_port")]
        {
            let rule = Proportion { version, tolerance: PerDirection::both(0.1) };
            for row in series.rows() {
                let values = values_milli(row);
                let external = (row.text("kind") == "external").then(|| values[0]);
                let ours = proposal(rule, row, &values, external, row.number("target_milli") as i64);
                tally.compare(
                    || format!("{} row {} {column}", series.name, row.text("row")),
                    ours,
                    Some(row.count(column)),
                );
            }
        }
    }
    tally.conclude("hpa, single calculations");
}

pub fn decisions() {
    let (mut metric, mut decided) = (Tally::default(), Tally::default());
    for series in series("hpa").iter().filter(|series| !series.name.starts_with("milli_units")) {
        let setup = Setup::of(series);
        let own_loop =
            HpaLoop { behavior: setup.behavior.clone(), version: setup.version, ..HpaLoop::default() };
        let mut horizontal = Horizontal::new(&own_loop, 1, setup.most);
        for row in series.rows() {
            let values = values_milli(row);
            let external = setup.external.then(|| row.number("external_total_milli") as i64);
            let proposed = proposal(horizontal.proportion, row, &values, external, setup.target_milli);
            let at = || format!("{} at {} s", series.name, row.text("time_s"));
            metric.compare(at, proposed.map_or(-1, i64::from), row.number("metric_desired") as i64);
            let desired = horizontal.sync(row.number("time_s"), row.count("current"), [proposed]);
            decided.compare(at, desired, row.count("desired"));
        }
    }
    metric.conclude("hpa, metric");
    decided.conclude("hpa, after stabilisation and limits");
}
