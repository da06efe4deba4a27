//! The HorizontalPodAutoscaler, `autoscaling/v2`.

use serde_json::{Value, json};

use super::reading::{Fields, Imported, Refusal, behavior, quantity};
use super::{Notes, Subject, object, plain, signals};
use crate::autoscaler::HpaSettings;
use crate::autoscaler::behavior::{BehaviorSettings, RateUnit, ScalingRules, SelectPolicy};
use crate::autoscaler::horizontal::{HpaLoop, MetricSource, MetricTarget, StartingPods};
use crate::autoscaler::proportional::KubernetesVersion;
use crate::settings::PerDirection;

/// Longest window and period that the API takes.
const LONGEST_WINDOW_S: i64 = 3600;
const LONGEST_PERIOD_S: i64 = 1800;

pub(super) fn export(settings: &HpaSettings, subject: &Subject, notes: &mut Notes) -> Result<Value, String> {
    let targets = settings.targets();
    let mut metrics = Vec::new();
    for target in &targets {
        metrics.push(metric(target, settings.rate_window_s, subject.cluster.min_replicas == 0, notes)?);
    }
    let own_loop = settings.own_loop();
    let behavior = behavior_of(&own_loop, "", notes);
    notes.elsewhere(
        "scrape_interval_s",
        settings.scrape_interval_s,
        15.0,
        "how often Prometheus scrapes and the adapter asks",
    );
    match settings.starting_pods {
        StartingPods::Pending => notes.cannot_say(
            "`starting_pods` pending: a pod has to be unready or without a node while it starts, as one with a readiness probe is",
        ),
        StartingPods::Running => {
            notes.cannot_say("`starting_pods` running: a pod has to run and be without a metric while it loads its model")
        }
    }
    Ok(json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": subject.name},
        "spec": object([
            ("scaleTargetRef", Some(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": subject.name}))),
            ("minReplicas", Some(least(&targets, subject.cluster.min_replicas, notes))),
            ("maxReplicas", Some(subject.cluster.max_replicas.into())),
            ("metrics", Some(Value::Array(metrics))),
            ("behavior", behavior),
        ]),
    }))
}

/// Zero takes a metric that is there without pods; the policy keeps one otherwise.
fn least(targets: &[MetricTarget], min_replicas: u32, notes: &mut Notes) -> Value {
    let external = targets.iter().any(|target| target.source() == MetricSource::External);
    match (min_replicas, external) {
        (0, true) => {
            notes.need(
                "minReplicas 0 from Kubernetes 1.37 on by default, before by the feature gate HPAScaleToZero",
            );
            0.into()
        }
        (0, false) => 1.into(),
        (least, _) => least.into(),
    }
}

fn metric(
    target: &MetricTarget,
    rate_window_s: f64,
    from_zero: bool,
    notes: &mut Notes,
) -> Result<Value, String> {
    let metric = target.metric;
    signals::check(metric)?;
    let name = signals::adapter_name(metric);
    notes.need(signals::provenance(metric));
    let value = |field: &str, value: f64, notes: &mut Notes| {
        let milli = (value * 1000.0).round();
        if (milli / 1000.0 - value).abs() > 1e-12 * value {
            notes.cannot_say(format!(
                "`{field}` {value}: Kubernetes counts in thousandths; {} stands there",
                milli / 1000.0
            ));
        }
        if milli % 1000.0 == 0.0 { plain(milli / 1000.0) } else { format!("{milli}m") }
    };
    if target.source() == MetricSource::Pods {
        notes.need(format!(
            "a rule of prometheus-adapter that names the metric of each pod `{name}`:\n\
             {{seriesQuery: '{}', resources: {{overrides: {{namespace: {{resource: namespace}}, pod: {{resource: pod}}}}}},\n \
             name: {{as: {name}}}, metricsQuery: '{}'}}",
            signals::series(metric)[0],
            signals::pod_query(metric)
        ));
        let average = value("target_per_replica", target.target_per_replica, notes);
        let target = json!({"type": "AverageValue", "averageValue": average});
        return Ok(json!({"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}));
    }
    notes.need(format!(
        "an external rule of prometheus-adapter that names the metric of the cluster `{name}`:\n\
         {{seriesQuery: '{}', name: {{as: {name}}}, metricsQuery: '{}'}}",
        signals::series(metric)[0],
        signals::cluster_query(metric, rate_window_s, from_zero)
    ));
    let target = match target.target_value {
        Some(of_all) => json!({"type": "Value", "value": value("target_value", of_all, notes)}),
        None => {
            json!({"type": "AverageValue", "averageValue": value("target_per_replica", target.target_per_replica, notes)})
        }
    };
    Ok(json!({"type": "External", "external": {"metric": {"name": name}, "target": target}}))
}

/// The manifest's `behavior`, and what of the loop is the controller's own. `within` is the path of the
/// loop's settings.
pub(super) fn behavior_of(own_loop: &HpaLoop, within: &str, notes: &mut Notes) -> Option<Value> {
    let HpaLoop { sync_interval_s, tolerance, behavior, version } = own_loop;
    let flag = "kube-controller-manager's --horizontal-pod-autoscaler-sync-period";
    notes.elsewhere(&format!("{within}sync_interval_s"), *sync_interval_s, 15.0, flag);
    if *version == KubernetesVersion::V1_20 {
        notes.cannot_say(format!(
            "`{within}version` 1.20: the release of the cluster; a later one has other edges"
        ));
    }
    let usual = PerDirection::both(0.1);
    match behavior {
        None if *tolerance != usual => notes.cannot_say(format!(
            "`{within}tolerance` {} up, {} down: kube-controller-manager's --horizontal-pod-autoscaler-tolerance, one for both, as a \
             manifest without `behavior` has no place for it",
            tolerance.up, tolerance.down
        )),
        Some(_) if *tolerance != usual => {
            notes.need("`tolerance` from Kubernetes 1.33 on (feature gate HPAConfigurableTolerance, by default since 1.35)");
        }
        _ => {}
    }
    let behavior = behavior.as_ref()?;
    let BehaviorSettings { scale_up, scale_down } = behavior;
    let own = |tolerance: f64| (tolerance != 0.1).then_some(tolerance);
    let up = rules(scale_up, own(tolerance.up), &format!("{within}behavior.scale_up"), notes);
    let down = rules(scale_down, own(tolerance.down), &format!("{within}behavior.scale_down"), notes);
    Some(json!({"scaleUp": up, "scaleDown": down}))
}

fn rules(rules: &ScalingRules, tolerance: Option<f64>, path: &str, notes: &mut Notes) -> Value {
    let window = rules.stabilization_window_s;
    let select = match rules.select_policy {
        SelectPolicy::Max => None,
        SelectPolicy::Min => Some("Min"),
        SelectPolicy::Disabled => Some("Disabled"),
    };
    let policies = rules.policies.as_ref().map(|policies| {
        let policy = |(i, policy): (usize, &crate::autoscaler::behavior::RatePolicy)| {
            let unit = match policy.unit {
                RateUnit::Pods => "Pods",
                RateUnit::Percent => "Percent",
            };
            let period =
                notes.whole(&format!("{path}.policies[{i}].period_s"), policy.period_s, 1, LONGEST_PERIOD_S);
            json!({"type": unit, "value": policy.value, "periodSeconds": period})
        };
        Value::Array(policies.iter().enumerate().map(policy).collect())
    });
    let window = window.map(|window_s| {
        notes.whole(&format!("{path}.stabilization_window_s"), window_s, 0, LONGEST_WINDOW_S)
    });
    object([
        ("stabilizationWindowSeconds", window),
        ("selectPolicy", select.map(Value::from)),
        ("policies", policies),
        ("tolerance", tolerance.map(|tolerance| format!("{}m", (tolerance * 1000.0).round()).into())),
    ])
}

/// Reads a HorizontalPodAutoscaler.
pub(super) fn import(root: &Value) -> Result<Imported, Refusal> {
    let mut root = Fields::of(root, "")?;
    root.ignore(&["kind", "metadata", "status"]);
    let version = root.text("apiVersion")?.unwrap_or_default();
    if version != "autoscaling/v2" {
        return Err(Refusal::at("apiVersion", format!("`{version}` found, expected `autoscaling/v2`")));
    }
    let mut spec = root.object("spec")?.ok_or_else(|| Refusal::at("spec", "missing"))?;
    root.finish()?;
    spec.ignore(&["scaleTargetRef"]);
    let min_replicas = spec.count("minReplicas")?.or(Some(1));
    let max_replicas = spec.count("maxReplicas")?;
    let metrics = spec.list("metrics")?;
    let (behavior, tolerance) =
        spec.object("behavior")?.map_or(Ok((None, PerDirection::both(0.1))), behavior)?;
    spec.finish()?;
    let mut targets = Vec::new();
    for metric in metrics {
        targets.push(target(metric)?);
    }
    if targets.is_empty() {
        return Err(Refusal::at(
            "spec.metrics",
            "none found: without them the controller goes by CPU, which is not simulated",
        ));
    }
    let mut targets = targets.into_iter();
    let MetricTarget { metric, source, target_per_replica, target_value } =
        targets.next().expect("one at least");
    let settings = HpaSettings {
        metric,
        source,
        target_per_replica,
        target_value,
        also: targets.collect(),
        behavior,
        tolerance,
        ..HpaSettings::default()
    };
    Ok(Imported {
        policy: "hpa",
        settings: json!(settings),
        min_replicas,
        max_replicas,
        initial_replicas: None,
    })
}

fn target(mut metric: Fields) -> Result<MetricTarget, Refusal> {
    let kind = metric.text("type")?.unwrap_or_default();
    let (key, source) = match kind.as_str() {
        "Pods" => ("pods", MetricSource::Pods),
        "External" => ("external", MetricSource::External),
        other => {
            let what =
                "expected `Pods` or `External`: CPU, memory and metrics of other objects are not simulated";
            return Err(Refusal::at(&metric.path("type"), format!("`{other}` found, {what}")));
        }
    };
    let mut of = metric.object(key)?.ok_or_else(|| Refusal::at(&metric.path(key), "missing"))?;
    metric.finish()?;
    let mut named = of.object("metric")?.ok_or_else(|| Refusal::at(&of.path("metric"), "missing"))?;
    // Which pods: those of this workload.
    named.ignore(&["selector"]);
    let name = named.text("name")?.unwrap_or_default();
    let known = signals::by_adapter_name(&name).ok_or_else(|| {
        let names = crate::settings::quoted(&signals::adapter_names());
        Refusal::at(
            &named.path("name"),
            format!("`{name}` found, which is not simulated; expected one of {names}"),
        )
    })?;
    named.finish()?;
    let mut target = of.object("target")?.ok_or_else(|| Refusal::at(&of.path("target"), "missing"))?;
    of.finish()?;
    target.ignore(&["type"]);
    let average = target
        .take("averageValue")
        .map(|value| quantity(&value, &target.path("averageValue")))
        .transpose()?;
    let value = target.take("value").map(|value| quantity(&value, &target.path("value"))).transpose()?;
    target.finish()?;
    let default = MetricTarget::default();
    let implied = MetricTarget { metric: known, ..default.clone() };
    let source = (implied.source() != source).then_some(source);
    match (average, value) {
        (Some(average), None) => {
            Ok(MetricTarget { metric: known, source, target_per_replica: average, target_value: None })
        }
        (None, Some(value)) => Ok(MetricTarget {
            metric: known,
            source,
            target_per_replica: default.target_per_replica,
            target_value: Some(value),
        }),
        _ => Err(Refusal::at(&target.path(""), "expected either `averageValue` or `value`")),
    }
}
