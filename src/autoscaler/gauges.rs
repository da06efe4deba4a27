//! Targets that a metric can never reach, found wherever a policy's settings name a metric beside a target
//! for it.

use serde_json::Value;

use super::signals::LoadMetric;
use crate::settings::Faults;

/// What a target for each replica is called.
const TARGET: &str = "target_per_replica";

/// Reports targets above what their metric can be: `kv_use` is a share, and a policy that waits for more
/// never adds a replica.
pub fn check(settings: &Value, faults: &mut Faults) {
    match settings {
        Value::Object(fields) => {
            if fields.get("metric").is_some_and(|metric| metric == "kv_use")
                && let Some(target) = fields.get(TARGET).and_then(Value::as_f64)
            {
                faults.require(target <= 1.0, TARGET, || {
                    let meant = if target <= 100.0 { format!("; {} for {target} %", target / 100.0) } else { String::new() };
                    format!("{target} found, expected at most 1: `kv_use` is a share from 0 to 1, which never gets there{meant}")
                });
            }
            for (name, value) in fields {
                faults.within(name.as_str(), |faults| check(value, faults));
            }
        }
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                faults.within(format!("[{place}]"), |faults| check(value, faults));
            }
        }
        _ => {}
    }
}

/// What is said of targets on `kv_use` that are so near 1 that even a full cache is no reason to add a
/// replica. `targets` are all that the policy goes by, with what it aims at per replica: one that can be
/// exceeded is enough.
pub fn doubts(targets: &[(LoadMetric, f64)], tolerance: f64) -> Vec<String> {
    // A share of the target, as controllers reckon it.
    let never = |&(metric, target): &(LoadMetric, f64)| {
        metric == LoadMetric::KvUse && 1.0 / target <= 1.0 + tolerance
    };
    match targets {
        [(_, target), ..] if targets.iter().all(never) => {
            let within = if tolerance > 0.0 {
                format!(", within the tolerance of {tolerance}")
            } else {
                String::new()
            };
            vec![format!(
                "`{TARGET}` of {target} on `kv_use` never adds a replica: a full cache is {:.3} of it{within}; take less than {:.3}",
                1.0 / target,
                1.0 / (1.0 + tolerance)
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_a_full_cache_does_not_exceed() {
        let doubt = |target| doubts(&[(LoadMetric::KvUse, target)], 0.1);
        assert_eq!(doubt(0.9), Vec::<String>::new());
        assert!(
            doubt(0.92)[0]
                .contains("a full cache is 1.087 of it, within the tolerance of 0.1; take less than 0.909"),
            "{:?}",
            doubt(0.92)
        );
        assert_eq!(doubts(&[(LoadMetric::KvUse, 0.99)], 0.0).len(), 0);
        assert_eq!(doubts(&[(LoadMetric::KvUse, 1.0)], 0.0).len(), 1);
        assert!(
            doubts(&[(LoadMetric::KvUse, 1.0), (LoadMetric::QueuedRequests, 5.0)], 0.1).is_empty(),
            "another metric may"
        );
        assert!(doubts(&[(LoadMetric::OutstandingRequests, 1.0)], 0.1).is_empty(), "no ceiling");
    }
}
