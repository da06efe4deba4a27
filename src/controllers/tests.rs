use serde_json::json;

use super::*;

fn cluster(settings: Value) -> ClusterSettings {
    serde_json::from_value(settings).unwrap()
}

fn settings(settings: Value) -> AutoscalerSettings {
    serde_json::from_value(settings).unwrap()
}

fn exported(policy: Value, on: Value, to: Controller) -> Manifest {
    let (policy, on) = (settings(policy), cluster(on));
    export(&Subject { settings: &policy, cluster: &on, name: "llm" }, to).unwrap()
}

/// What a file says is what comes back from it.
#[test]
fn files_are_read_back_as_they_were_written() {
    let rules = json!({"stabilization_window_s": 60.0, "select_policy": "min",
        "policies": [{"type": "pods", "value": 3, "period_s": 30.0}, {"type": "percent", "value": 50, "period_s": 60.0}]});
    let bounds = json!({"min_replicas": 2, "max_replicas": 9, "initial_replicas": 2});
    let zero = json!({"min_replicas": 0, "max_replicas": 9, "initial_replicas": 1});
    let cases = [
        (json!({"hpa": {}}), &bounds),
        (json!({"hpa": {"metric": "kv_use", "target_per_replica": 0.4}}), &bounds),
        (
            json!({"hpa": {"metric": "running_requests", "target_per_replica": 12.5, "behavior": {"scale_up": rules, "scale_down": {}},
            "tolerance": {"up": 0.05, "down": 0.2}, "also": [{"metric": "queued_requests", "target_per_replica": 3.0},
            {"metric": "tokens_per_s", "target_value": 5000.0}]}}),
            &bounds,
        ),
        (json!({"hpa": {"metric": "requests_per_s", "target_per_replica": 4.0}}), &zero),
        (json!({"keda": {"target_per_replica": 40.0}}), &bounds),
        (
            json!({"keda": {"metric": "queued_requests", "target_per_replica": 1.0, "activation_threshold": 2.0, "polling_interval_s": 15.0,
            "cooldown_period_s": 120.0, "initial_cooldown_period_s": 60.0,
            "also": [{"metric": "kv_use", "target_per_replica": 0.8, "trigger": "kv"}],
            "fallback": {"failure_threshold": 3, "replicas": 6, "behavior": "current_replicas_if_higher"},
            "scaling_modifiers": {"formula": "max(t1, kv * 10)", "target_per_replica": 2.0, "activation_threshold": 1.0},
            "hpa": {"behavior": {"scale_up": {}, "scale_down": rules}}}}),
            &zero,
        ),
        (
            json!({"keda": {"metric": "tokens_per_s", "target_value": 9000.0, "rate_window_s": 120.0, "min_replicas": 3, "idle_replicas": 0}}),
            &zero,
        ),
        (json!({"knative_kpa": {}}), &bounds),
        (
            json!({"knative_kpa": {"metric": "requests_per_s", "target_per_replica": 4.0, "target_utilization_percent": 80.0, "stable_window_s": 90.0,
            "panic_window_percent": 20.0, "panic_threshold_percent": 150.0, "scale_down_delay_s": 120.0, "activation_scale": 2,
            "scale_to_zero_retention_s": 45.0, "target_burst_capacity": -1.0}}),
            &zero,
        ),
        (json!({"ray_serve": {}}), &bounds),
        (
            json!({"ray_serve": {"target_per_replica": 6.0, "aggregation_function": "max", "metrics_interval_s": 5.0, "look_back_period_s": 20.0,
            "upscale_delay_s": 10.0, "downscale_delay_s": 300.0, "downscale_to_zero_delay_s": 900.0, "upscaling_factor": 0.5,
            "downscaling_factor": 0.7}}),
            &zero,
        ),
        (
            json!({"schedule": {"steps": [{"at_s": 0.0, "replicas": 3}, {"at_s": 28800.0, "replicas": 6}, {"at_s": 72000.0, "replicas": 4}]}}),
            &bounds,
        ),
        (
            json!({"schedule": {"period_s": 604800.0, "steps": [{"at_s": 0.0, "replicas": 5}, {"at_s": 432000.0, "replicas": 2}]}}),
            &bounds,
        ),
    ];
    for (policy, on) in cases {
        let original = settings(policy.clone());
        let manifest = exported(policy, on.clone(), Controller::of(&original).unwrap());
        let text = to_yaml(&["a heading".into()], &manifest);
        let read = read(&text).unwrap_or_else(|refusal| panic!("{refusal}\n{text}"));
        assert_eq!(settings(json!({read.policy: read.settings})), original, "{text}");
        let min_replicas = on["min_replicas"].as_u64().map(|replicas| replicas as u32);
        assert_eq!((read.min_replicas, read.max_replicas), (min_replicas, Some(9)), "{text}");
        // JSON is YAML.
        assert_eq!(super::read(&manifest.body.to_string()).unwrap(), read);
    }
}

#[test]
fn what_a_format_cannot_say_is_listed() {
    let unsaid = |policy: Value, to: Controller| exported(policy, json!({}), to).unsaid.join("\n");
    let hpa = unsaid(
        json!({"hpa": {"sync_interval_s": 30.0, "tolerance": 0.2, "target_per_replica": 1.23456, "scrape_interval_s": 5.0, "version": "1.20"}}),
        Controller::Hpa,
    );
    for said in [
        "`sync_interval_s` 30: kube-controller-manager",
        "`tolerance` 0.2",
        "1.235 stands there",
        "`scrape_interval_s` 5",
        "1.20",
        "tensor parallel 4",
        "`scale_up_delay_s` 10",
        "`global_scheduler` \"round_robin\"",
        "`initial_replicas` 1",
    ] {
        assert!(hpa.contains(said) || said.starts_with("`global"), "{said}: {hpa}");
    }
    let long =
        json!({"hpa": {"behavior": {"scale_up": {}, "scale_down": {"stabilization_window_s": 7200.5}}}});
    assert!(unsaid(long, Controller::Hpa).contains(
        "`behavior.scale_down.stabilization_window_s` 7200.5: the format takes whole numbers from 0 to 3600"
    ));
    let keda = unsaid(
        json!({"keda": {"outages": [{"at_s": 60.0, "duration_s": 5.0}], "polling_interval_s": 0.5}}),
        Controller::Keda,
    );
    assert!(keda.contains("outage at 60 s") && keda.contains("`polling_interval_s` 0.5"), "{keda}");
    let knative = unsaid(
        json!({"knative_kpa": {"weighted_window": true, "stable_window_s": 7200.0}}),
        Controller::Knative,
    );
    for said in [
        "`weighted_window`",
        "`max_scale_up_rate` 1000: ConfigMap",
        "`stable_window_s` 7200",
        "`tick_interval_s` 2",
    ] {
        assert!(knative.contains(said), "{said}: {knative}");
    }
    let ray = unsaid(json!({"ray_serve": {"sample_interval_s": 3.0}}), Controller::RayServe);
    assert!(
        ray.contains("RECORD_INTERVAL_FACTOR=0.1") && ray.contains("RAY_SERVE_CONTROL_LOOP_INTERVAL_S"),
        "{ray}"
    );
    let schedule =
        json!({"schedule": {"steps": [{"at_s": 0.0, "replicas": 20}, {"at_s": 90.0, "replicas": 21}]}});
    let schedule = unsaid(schedule, Controller::Schedule);
    assert!(
        schedule.contains("`steps[1]` at 90 s") && schedule.contains("from 20 to 21 replicas"),
        "{schedule}"
    );
}

#[test]
fn what_no_controller_carries_out_is_refused_with_what_can_be_done() {
    let refusal = |policy: Value, to: Controller| {
        let policy = settings(policy);
        export(&Subject { settings: &policy, cluster: &ClusterSettings::default(), name: "llm" }, to)
            .unwrap_err()
    };
    assert!(refusal(json!("hpa"), Controller::Keda).ends_with("export it with `--to hpa`"));
    assert!(
        refusal(json!({"static": {"replicas": 4}}), Controller::Hpa)
            .contains("set `replicas: 4` in its Deployment")
    );
    assert!(refusal(json!("frontier"), Controller::Hpa).contains("`hpa`, `keda`, `keda_epp`"));
    assert!(
        refusal(json!({"hpa": {"metric": "queued_prefill_tokens"}}), Controller::Hpa)
            .contains("neither vLLM nor the gateway exports")
    );
    assert!(
        refusal(json!({"keda_epp": {"signal": "queue_guard"}}), Controller::Keda).contains("queue_guard")
    );
    let odd = json!({"schedule": {"period_s": 50000.0, "steps": [{"at_s": 0.0, "replicas": 4}]}});
    assert!(refusal(odd, Controller::Schedule).contains("a divisor of 86400"));
}

#[test]
fn what_is_not_simulated_is_refused_by_name() {
    let refusal = |text: &str| read(text).unwrap_err().to_string();
    let hpa = |spec: &str| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a}}\nspec:\n{spec}"
        )
    };
    for (text, message) in [
        ("a: [1".to_owned(), "not valid YAML: "),
        ("kind: Deployment".to_owned(), "nothing that scales found"),
        (hpa("  maxReplicas: 3"), "spec.metrics: none found"),
        (hpa("  metrics: [{type: Resource, resource: {name: cpu}}]"), "spec.metrics[0].type: `Resource` found, expected `Pods`"),
        (
            hpa("  metrics: [{type: Pods, pods: {metric: {name: gpu_duty}, target: {type: AverageValue, averageValue: 1}}}]"),
            "spec.metrics[0].pods.metric.name: `gpu_duty` found, which is not simulated; expected one of `vllm_requests_outstanding`",
        ),
        (hpa("  speed: 3\n  metrics: []"), "spec.speed: found, which is not simulated"),
        (hpa("  maxReplica: 3\n  metrics: []"), "spec.maxReplica: unknown field; did you mean `maxReplicas`?"),
        (hpa("  maxReplicas: few"), "spec.maxReplicas: \"few\" found, expected a number"),
        (hpa("  metrics: []").replace("v2", "v1"), "apiVersion: `autoscaling/v1` found, expected `autoscaling/v2`"),
        (
            "kind: ScaledObject\nspec: {triggers: [{type: kafka, metadata: {}}]}".to_owned(),
            "spec.triggers[0].type: `kafka` found, which is not simulated; expected `prometheus`",
        ),
        (
            "kind: ScaledObject\nspec: {triggers: [{type: prometheus, metadata: {query: up, threshold: 1}}]}".to_owned(),
            "spec.triggers[0].metadata.query: `up` found, which is not simulated; expected a sum of",
        ),
        (
            "kind: ScaledObject\nspec: {triggers: [{type: cron, metadata: {start: '*/5 * * * *', end: 0 9 * * *, desiredReplicas: '3'}}]}".to_owned(),
            "spec.triggers[0].metadata.start: `*/5 * * * *` found, which is not simulated",
        ),
        ("autoscaling_config: {target_ongoing_requests: 2, policy: {}}".to_owned(), "autoscaling_config.policy: found, which is not simulated"),
        (
            "apiVersion: serving.knative.dev/v1\nkind: Service\nspec: {template: {metadata: {annotations: {autoscaling.knative.dev/class: hpa}}}}"
                .to_owned(),
            "`hpa` found, which is not simulated; expected `kpa.autoscaling.knative.dev`",
        ),
        ("autoscaling_config: {}\nb: {autoscaling_config: {}}".to_owned(), "expected one `autoscaling_config`"),
    ] {
        assert!(refusal(&text).contains(message), "{text}\n{}", refusal(&text));
    }
}

/// Files as people have them: other documents beside, labels in queries, quantities with suffixes, names of
/// older releases.
#[test]
fn files_of_others_are_understood() {
    let understood = |text: &str| {
        let read = read(text).unwrap();
        (settings(json!({read.policy: read.settings})), read.min_replicas, read.max_replicas)
    };
    let hpa = "kind: Deployment\nspec: {replicas: 3}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec:\n  \
        scaleTargetRef: {kind: Deployment, name: x}\n  maxReplicas: 8\n  metrics:\n  - type: Pods\n    pods:\n      metric: {name: \
        'vllm:gpu_cache_usage_perc', selector: {matchLabels: {model_name: m}}}\n      target: {type: AverageValue, averageValue: 650m}\n";
    let expected = settings(json!({"hpa": {"metric": "kv_use", "target_per_replica": 0.65}}));
    assert_eq!(understood(hpa), (expected, Some(1), Some(8)));
    let keda = "kind: ScaledObject\nspec:\n  scaleTargetRef: {name: x}\n  triggers:\n  - type: prometheus\n    metadata:\n      \
        serverAddress: http://p\n      metricName: q\n      query: sum(vllm:num_requests_waiting{namespace=\"a\"})\n      threshold: '5'\n";
    let expected = settings(json!({"keda": {"metric": "queued_requests", "target_per_replica": 5.0}}));
    assert_eq!(understood(keda), (expected, Some(0), Some(100)), "KEDA's own bounds");
    let llm = "applications:\n- args:\n    llm_configs:\n    - deployment_config:\n        autoscaling_config: {min_replicas: 1, \
        max_replicas: 4, target_ongoing_requests: 64}\n";
    assert_eq!(
        understood(llm),
        (settings(json!({"ray_serve": {"target_per_replica": 64.0}})), Some(1), Some(4))
    );
}
