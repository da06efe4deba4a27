//! Exported files against what their controllers take: the fields of KEDA's ScaledObject as its CRD of 2.20.2
//! has them (`config/crd/bases/keda.sh_scaledobjects.yaml`), and the annotations of Knative Serving 1.23.0 as
//! its own check reads them (`pkg/apis/autoscaling/annotation_validation.go`); both read, and said here in
//! our words. `tests/manifests/check.sh` validates files against the published CRDs themselves.

use proptest::prelude::*;
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::controllers::{Controller, Subject, export};
use scalefront::simulation::ClusterSettings;
use serde_json::{Value, json};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Is {
    Text,
    /// A whole number of 32 bits, at least so much.
    Whole(i64),
    OneOf(&'static [&'static str]),
    /// A number in text.
    Number,
    /// As Kubernetes spells quantities: `50m` is 0.05.
    Quantity,
}

/// The fields of a ScaledObject that exports may use, of those that the CRD has.
const SCALED_OBJECT: &[(&str, Is)] = &[
    ("apiVersion", Is::OneOf(&["keda.sh/v1alpha1"])),
    ("kind", Is::OneOf(&["ScaledObject"])),
    ("metadata.name", Is::Text),
    ("spec.scaleTargetRef.name", Is::Text),
    ("spec.pollingInterval", Is::Whole(1)),
    ("spec.cooldownPeriod", Is::Whole(0)),
    ("spec.initialCooldownPeriod", Is::Whole(0)),
    ("spec.idleReplicaCount", Is::Whole(0)),
    ("spec.minReplicaCount", Is::Whole(0)),
    ("spec.maxReplicaCount", Is::Whole(1)),
    ("spec.fallback.failureThreshold", Is::Whole(0)),
    ("spec.fallback.replicas", Is::Whole(0)),
    (
        "spec.fallback.behavior",
        Is::OneOf(&[
            "static",
            "currentReplicas",
            "currentReplicasIfHigher",
            "currentReplicasIfLower",
            "scalingModifiers",
        ]),
    ),
    ("spec.advanced.scalingModifiers.formula", Is::Text),
    ("spec.advanced.scalingModifiers.target", Is::Text),
    ("spec.advanced.scalingModifiers.activationTarget", Is::Text),
    ("spec.advanced.scalingModifiers.metricType", Is::OneOf(&["AverageValue", "Value"])),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds", Is::Whole(0)),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.selectPolicy",
        Is::OneOf(&["Max", "Min", "Disabled"]),
    ),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.tolerance", Is::Quantity),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies[].type",
        Is::OneOf(&["Pods", "Percent"]),
    ),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies[].value", Is::Whole(1)),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies[].periodSeconds", Is::Whole(1)),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
        Is::Whole(0),
    ),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.selectPolicy",
        Is::OneOf(&["Max", "Min", "Disabled"]),
    ),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.tolerance", Is::Quantity),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[].type",
        Is::OneOf(&["Pods", "Percent"]),
    ),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[].value", Is::Whole(1)),
    ("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[].periodSeconds", Is::Whole(1)),
    ("spec.triggers[].type", Is::OneOf(&["prometheus", "cron"])),
    ("spec.triggers[].name", Is::Text),
    ("spec.triggers[].metricType", Is::OneOf(&["AverageValue", "Value"])),
    // Of the prometheus and the cron scaler; a trigger's metadata are texts whatever they are called.
    ("spec.triggers[].metadata.serverAddress", Is::Text),
    ("spec.triggers[].metadata.query", Is::Text),
    ("spec.triggers[].metadata.threshold", Is::Number),
    ("spec.triggers[].metadata.activationThreshold", Is::Number),
    ("spec.triggers[].metadata.timezone", Is::Text),
    ("spec.triggers[].metadata.start", Is::Text),
    ("spec.triggers[].metadata.end", Is::Text),
    ("spec.triggers[].metadata.desiredReplicas", Is::Number),
];

/// Values with their paths, places in lists left out.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(member, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
            }
        }
        Value::Array(members) => {
            members.iter().for_each(|member| leaves(member, &format!("{path}[]"), found))
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

fn fits(value: &Value, is: Is) -> bool {
    match is {
        Is::Text => value.is_string(),
        Is::Whole(least) => {
            value.as_i64().is_some_and(|number| (least..=i64::from(i32::MAX)).contains(&number))
        }
        Is::OneOf(names) => value.as_str().is_some_and(|text| names.contains(&text)),
        Is::Number => value.as_str().is_some_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite)),
        Is::Quantity => {
            fits(&json!(value.as_str().map(|text| text.strip_suffix('m').unwrap_or(text))), Is::Number)
        }
    }
}

fn faults_of_scaled_object(root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    leaves(root, "", &mut found);
    let fault = |(path, value): (String, Value)| match SCALED_OBJECT.iter().find(|(known, _)| *known == path)
    {
        None => Some(format!("{path} is no field")),
        Some((_, is)) => (!fits(&value, *is)).then(|| format!("{path}: {value} is not {is:?}")),
    };
    let mut faults: Vec<String> = found.into_iter().filter_map(fault).collect();
    for required in ["/spec/scaleTargetRef/name", "/spec/triggers/0/type", "/spec/triggers/0/metadata"] {
        faults.extend(root.pointer(required).is_none().then(|| format!("{required} is missing")));
    }
    faults
}

/// A duration of Go as the exports spell it.
fn duration_s(text: &str) -> Option<f64> {
    text.strip_suffix('s')?.parse().ok()
}

/// Annotations as `ValidateAnnotations` reads them; the cluster allows an initial scale of 0, which exports
/// name as a need.
fn faults_of_annotations(annotations: &Value) -> Vec<String> {
    let of = |name: &str| annotations[format!("autoscaling.knative.dev/{name}")].as_str();
    let scale =
        |name: &str| of(name).map_or(Some(0), |text| text.parse::<i32>().ok().filter(|scale| *scale >= 0));
    let (min, max) = (scale("min-scale"), scale("max-scale"));
    let number = |name: &str, from: f64, to: f64| {
        of(name).is_none_or(|text| text.parse::<f64>().is_ok_and(|n| (from..=to).contains(&n)))
    };
    let seconds = |name: &str, least: f64, whole: bool| {
        of(name).is_none_or(|text| {
            duration_s(text).is_some_and(|s| (least..=3600.0).contains(&s) && (!whole || s.fract() == 0.0))
        })
    };
    let activation = of("activation-scale").is_none_or(|text| {
        let bounds = min.zip(max);
        text.parse::<i32>()
            .is_ok_and(|n| n >= 2 && bounds.is_some_and(|(min, max)| n >= min && (max == 0 || n <= max)))
    });
    let rules = [
        ("class", of("class") == Some("kpa.autoscaling.knative.dev")),
        ("metric", ["concurrency", "rps"].map(Some).contains(&of("metric"))),
        ("min-scale, max-scale", min.zip(max).is_some_and(|(min, max)| max == 0 || max >= min)),
        ("panic-window-percentage", number("panic-window-percentage", 1.0, 100.0)),
        ("panic-threshold-percentage", number("panic-threshold-percentage", 110.0, 1000.0)),
        ("target", number("target", 0.01, f64::INFINITY)),
        ("target-utilization-percentage", number("target-utilization-percentage", 1.0, 100.0)),
        (
            "target-burst-capacity",
            number("target-burst-capacity", 0.0, f64::INFINITY) || of("target-burst-capacity") == Some("-1"),
        ),
        ("window", seconds("window", 6.0, true)),
        ("scale-down-delay", seconds("scale-down-delay", 0.0, true)),
        ("scale-to-zero-pod-retention-period", seconds("scale-to-zero-pod-retention-period", 0.0, false)),
        ("initial-scale", scale("initial-scale").is_some()),
        ("activation-scale", activation),
    ];
    let known: Vec<String> = rules
        .iter()
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| format!("autoscaling.knative.dev/{name}"))
        .collect();
    let unknown = annotations
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !known.contains(name))
        .map(|name| format!("{name} is no annotation"));
    rules
        .iter()
        .filter(|(_, kept)| !kept)
        .map(|(name, _)| format!("{name}: {annotations}"))
        .chain(unknown)
        .collect()
}

fn exported(policy: &Value, cluster: &Value, to: Controller) -> Value {
    let settings: AutoscalerSettings = serde_json::from_value(policy.clone()).unwrap();
    let cluster: ClusterSettings = serde_json::from_value(cluster.clone()).unwrap();
    export(&Subject { settings: &settings, cluster: &cluster, name: "llm" }, to).unwrap().body
}

fn times() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..10.0f64, (1u32..7200).prop_map(f64::from), 3600.0..90_000.0f64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a grid may ask of KEDA, the file has fields that KEDA has.
    #[test]
    fn scaled_objects_hold_fields_of_the_crd(
        (target, threshold, rate_window_s) in (0.001..1e4f64, 0.0..5.0f64, 1.0..600.0f64),
        (polling_s, cooldown_s, initial_s) in (0.01..600.0f64, times(), times()),
        (whole, modifiers, idle, fallback, rules) in any::<(bool, bool, bool, bool, bool)>(),
        (min, more) in (1u32..8, 0u32..9),
    ) {
        let mut keda = json!({"metric": "tokens_per_s", "rate_window_s": rate_window_s, "target_per_replica": target,
            "activation_threshold": threshold, "polling_interval_s": polling_s, "cooldown_period_s": cooldown_s,
            "initial_cooldown_period_s": initial_s, "also": [{"metric": "kv_use", "target_per_replica": 0.8, "trigger": "kv"}]});
        if whole {
            keda["target_value"] = json!(10.0 * target);
        }
        if idle {
            keda["idle_replicas"] = json!(0);
            keda["min_replicas"] = json!(min);
        }
        if fallback {
            keda["fallback"] = json!({"failure_threshold": 3, "replicas": more, "behavior": "current_replicas_if_lower"});
        }
        if modifiers {
            keda["scaling_modifiers"] = json!({"formula": "max(t1, kv * 10)", "target_per_replica": target, "activation_threshold": threshold});
        }
        if rules {
            let rules = json!({"stabilization_window_s": cooldown_s.min(3600.0), "select_policy": "min",
                "policies": [{"type": "pods", "value": min, "period_s": 30.5}, {"type": "percent", "value": 50, "period_s": 60.0}]});
            keda["hpa"] = json!({"behavior": {"scale_up": rules, "scale_down": {"select_policy": "disabled"}}, "tolerance": {"up": 0.05, "down": 0.2}});
        }
        let on = json!({"min_replicas": if idle { 0 } else { min }, "max_replicas": min + more, "initial_replicas": min});
        let file = exported(&json!({"keda": keda}), &on, Controller::Keda);
        prop_assert_eq!(faults_of_scaled_object(&file), Vec::<String>::new(), "{:#}", file);
    }

    /// Whatever a grid may ask of Knative, the annotations are ones that its webhook lets pass.
    #[test]
    fn annotations_pass_the_programs_own_check(
        (target, utilization, burst) in (prop::option::of(1e-4..1e4f64), 1.0..100.0f64, prop_oneof![Just(-1.0), 0.0..500.0f64]),
        (window_s, panic_window, panic_threshold) in (1.0..86_400.0f64, 1.0..100.0f64, 100.0..2000.0f64),
        (delay_s, retention_s, activation) in (times(), times(), 1u32..12),
        (min, more, rps) in (0u32..6, 0u32..6, any::<bool>()),
    ) {
        let mut kpa = json!({"metric": if rps { "requests_per_s" } else { "concurrency" }, "target_utilization_percent": utilization,
            "target_burst_capacity": burst, "stable_window_s": window_s, "panic_window_percent": panic_window,
            "panic_threshold_percent": panic_threshold, "scale_down_delay_s": delay_s, "scale_to_zero_retention_s": retention_s,
            "activation_scale": activation});
        if let Some(target) = target {
            kpa["target_per_replica"] = json!(target);
        }
        let on = json!({"min_replicas": min, "max_replicas": (min + more).max(1), "initial_replicas": min.max(1)});
        let file = exported(&json!({"knative_kpa": kpa}), &on, Controller::Knative);
        let annotations = &file["spec"]["template"]["metadata"]["annotations"];
        prop_assert_eq!(faults_of_annotations(annotations), Vec::<String>::new());
    }
}

#[test]
fn schedules_hold_fields_of_the_crd() {
    let steps = json!({"schedule": {"steps": [{"at_s": 0, "replicas": 3}, {"at_s": 28_800, "replicas": 6}, {"at_s": 72_000, "replicas": 4}]}});
    let file = exported(
        &steps,
        &json!({"min_replicas": 2, "max_replicas": 9, "initial_replicas": 2}),
        Controller::Schedule,
    );
    assert_eq!(faults_of_scaled_object(&file), Vec::<String>::new(), "{file:#}");
}

/// A check that lets everything pass would prove nothing.
#[test]
fn slips_are_found() {
    let on = json!({"min_replicas": 2, "max_replicas": 9, "initial_replicas": 2});
    let good = exported(&json!({"keda": {"target_per_replica": 40.0}}), &on, Controller::Keda);
    assert_eq!(faults_of_scaled_object(&good), Vec::<String>::new());
    for (pointer, value) in [
        ("/spec/pollingInterval", json!(2.5)),
        ("/spec/maxReplicaCount", json!(0)),
        ("/spec/triggers/0/metadata/threshold", json!(40)),
        ("/spec/triggers/0/metricType", json!("Utilization")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(faults_of_scaled_object(&bad).len(), 1, "{pointer}");
    }
    let mut bad = good;
    bad["spec"]["pollInterval"] = json!(30);
    assert_eq!(faults_of_scaled_object(&bad), ["spec.pollInterval is no field"]);
    let file = exported(&json!({"knative_kpa": {}}), &on, Controller::Knative);
    let good = &file["spec"]["template"]["metadata"]["annotations"];
    for (name, value) in [
        ("window", "7.5s"),
        ("window", "2h"),
        ("panic-threshold-percentage", "100"),
        ("activation-scale", "1"),
        ("min", "1"),
    ] {
        let mut bad = good.clone();
        bad[format!("autoscaling.knative.dev/{name}")] = json!(value);
        assert_eq!(faults_of_annotations(&bad).len(), 1, "{name}: {value}");
    }
}
