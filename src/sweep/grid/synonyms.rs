//! What other programs call a setting: one idea has one name here, and whoever writes a neighbour's is told
//! ours.

/// A name found elsewhere, and what it may be here. Offered where the place knows the second.
const SYNONYMS: &[(&str, &str)] = &[
    // The value of a metric per replica that is aimed at: one knob of many names.
    ("target", "target_per_replica"),
    ("target_value", "target_per_replica"),
    ("average_value", "target_per_replica"),
    ("average_utilization", "target_per_replica"),
    ("threshold", "target_per_replica"),
    ("threshold_per_replica", "target_per_replica"),
    ("target_metric_value", "target_per_replica"),
    ("target_ongoing_requests", "target_per_replica"),
    ("target_num_ongoing_requests_per_replica", "target_per_replica"),
    ("container_concurrency_target_default", "target_per_replica"),
    ("container_concurrency", "target_per_replica"),
    ("requests_per_second_target_default", "target_per_replica"),
    ("container_concurrency_target_percentage", "target_utilization_percent"),
    ("target_utilization_percentage", "target_utilization_percent"),
    // Kubernetes and KEDA.
    ("scale_up", "behavior"),
    ("scale_down", "behavior"),
    ("triggers", "also"),
    ("metrics", "also"),
    ("sync_period", "sync_interval_s"),
    ("horizontal_pod_autoscaler_sync_period", "sync_interval_s"),
    ("horizontal_pod_autoscaler_tolerance", "tolerance"),
    ("stabilization_window_seconds", "stabilization_window_s"),
    ("period_seconds", "period_s"),
    ("polling_interval", "polling_interval_s"),
    ("cooldown_period", "cooldown_period_s"),
    ("initial_cooldown_period", "initial_cooldown_period_s"),
    ("idle_replica_count", "idle_replicas"),
    ("min_replica_count", "min_replicas"),
    ("max_replica_count", "max_replicas"),
    ("activation_value", "activation_threshold"),
    ("activation_target_value", "activation_threshold"),
    ("metric_resolution", "scrape_interval_s"),
    // Knative.
    ("stable_window", "stable_window_s"),
    ("panic_window_percentage", "panic_window_percent"),
    ("panic_threshold_percentage", "panic_threshold_percent"),
    ("scale_down_delay", "scale_down_delay_s"),
    ("scale_to_zero_grace_period", "scale_to_zero_grace_period_s"),
    ("scale_to_zero_pod_retention_period", "scale_to_zero_retention_s"),
    ("tick_interval", "tick_interval_s"),
    // AIBrix.
    ("up_fluctuation_tolerance", "tolerance"),
    ("down_fluctuation_tolerance", "tolerance"),
    ("scale_up_tolerance", "tolerance"),
    ("scale_down_tolerance", "tolerance"),
    ("scale_up_cooldown_window", "cooldown_window_s"),
    ("scale_down_cooldown_window", "cooldown_window_s"),
    ("stable_window_s", "observe_window_s"),
    // WVA.
    ("kv_spare_threshold", "kv_spare_trigger"),
    ("queue_spare_threshold", "queue_spare_trigger"),
    // Ray.
    ("look_back_period", "look_back_period_s"),
    ("metrics_interval", "metrics_interval_s"),
    ("upscale_delay", "upscale_delay_s"),
    ("downscale_delay", "downscale_delay_s"),
    ("smoothing_factor", "upscaling_factor"),
    // Dynamo.
    ("ttft", "ttft_s"),
    ("ttft_ms", "ttft_s"),
    ("itl", "itl_s"),
    ("itl_ms", "itl_s"),
    ("load_adjustment_interval", "load_adjustment_interval_s"),
    ("load_adjustment_interval", "adjustment_interval_s"),
    ("load_adjustment_interval_seconds", "adjustment_interval_s"),
    ("throughput_adjustment_interval", "throughput_adjustment_interval_s"),
    ("throughput_adjustment_interval", "adjustment_interval_s"),
    ("throughput_adjustment_interval_seconds", "adjustment_interval_s"),
    ("load_scaling_down_sensitivity", "down_sensitivity"),
    ("decode_scale_up_kv_rate", "scale_up_kv_percent"),
    ("decode_scale_down_kv_rate", "scale_down_kv_percent"),
    // Clouds.
    ("cool_down_period", "initialization_period_s"),
    ("cooldown", "instance_warmup_s"),
    ("estimated_instance_warmup", "instance_warmup_s"),
];

/// `averageValue`, `average-value` and `average_value` are one name.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    snake
}

/// The known name of what is elsewhere called `found`.
pub fn synonym<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let found = snake(found);
    let spelt = |&name: &&str| found == name || found == format!("{name}econds");
    let called = |&name: &&str| SYNONYMS.iter().any(|&(other, ours)| other == found && ours == name);
    known.clone().find(spelt).or_else(|| known.clone().find(called))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_names_lead_to_ours() {
        let known = ["metric", "target_per_replica", "polling_interval_s"];
        let of = |found| synonym(found, known.into_iter());
        for found in [
            "averageValue",
            "target",
            "threshold_per_replica",
            "target_ongoing_requests",
            "targetOngoingRequests",
        ] {
            assert_eq!(of(found), Some("target_per_replica"), "{found}");
        }
        assert_eq!(
            (of("pollingInterval"), of("polling-interval-seconds")),
            (Some("polling_interval_s"), Some("polling_interval_s"))
        );
        assert_eq!(
            (of("sync_period"), of("speed")),
            (None, None),
            "not known in this place, and not known at all"
        );
    }
}
