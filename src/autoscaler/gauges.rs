//! Targets that a metric can never reach, found wherever a policy's settings name a metric beside a target for it.

use serde_json::Value;

use crate::settings::Faults;

/// What a target for each replica is called.
const TARGET: &str = "target_per_replica";

/// Reports targets above what their metric can be: `kv_use` is a share, and a policy that waits for more never adds a replica.
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
