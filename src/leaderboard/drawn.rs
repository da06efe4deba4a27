//! Other traffic of the same kinds, from a seed that nobody knew when a policy was tuned.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use crate::random::stream;

/// Rates and times of a drawn case are those of the pinned one times or divided by this at most.
const MOST: f64 = 1.5;

/// Draws rates and times of a case anew, each by itself, and gives it as many seeds as it had, from `seed`
/// on.
pub(super) fn draw(grid: &mut Value, case: &str, seed: u64) {
    let mut random = stream(seed, &format!("leaderboard.{case}"));
    for workload in grid["workloads"].as_array_mut().into_iter().flatten() {
        scale(&mut workload["generate"]["arrivals"], &mut random);
    }
    let seeds = grid["seeds"].as_array().map_or(1, Vec::len) as u64;
    grid["seeds"] = json!((0..seeds).map(|next| seed.saturating_add(next)).collect::<Vec<_>>());
}

/// Whether a setting of arrivals is a rate or a time. Shapes (spread, swing) are what makes a case, and stay.
fn is_drawn(name: &str) -> bool {
    name.ends_with("rate_per_s")
        || ["duration_s", "burst_duration_s", "interval_s", "period_s"].contains(&name)
}

fn scale(value: &mut Value, random: &mut Xoshiro256PlusPlus) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| scale(value, random)),
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_f64() {
                    Some(number) if number > 0.0 && is_drawn(name) => {
                        let factor = libm::exp(random.random_range(-1.0..1.0) * libm::log(MOST));
                        // As one would write it: three digits, so that the drawn case can be read.
                        let step = libm::pow(10.0, libm::floor(libm::log10(number * factor)) - 2.0);
                        *value = json!(libm::round(number * factor / step) * step);
                    }
                    _ => scale(value, random),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Value {
        json!({"seeds": [1, 2, 3], "workloads": [{"name": "w", "generate": {
            "arrivals": {"gamma": {"cv": 2, "phases": [{"duration_s": 200, "rate_per_s": 10}, {"duration_s": 300, "rate_per_s": 0.5}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}]})
    }

    #[test]
    fn rates_and_times_move_and_nothing_else_does() {
        let mut drawn = case();
        draw(&mut drawn, "w", 77);
        assert_eq!(drawn["seeds"], json!([77, 78, 79]));
        let of = |grid: &Value, pointer: &str| {
            grid["workloads"][0]["generate"].pointer(pointer).and_then(Value::as_f64).unwrap()
        };
        for pointer in [
            "/arrivals/gamma/phases/0/duration_s",
            "/arrivals/gamma/phases/0/rate_per_s",
            "/arrivals/gamma/phases/1/rate_per_s",
        ] {
            let ratio = of(&drawn, pointer) / of(&case(), pointer);
            assert!(ratio != 1.0 && (1.0 / 1.51..1.51).contains(&ratio), "{pointer}: {ratio}");
        }
        assert_eq!(of(&drawn, "/arrivals/gamma/cv"), 2.0);
        assert_eq!(of(&drawn, "/lengths/fixed/prefill_tokens"), 256.0);
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_seed_or_case_something_else() {
        let draw_with = |case_name: &str, seed| {
            let mut drawn = case();
            draw(&mut drawn, case_name, seed);
            drawn["workloads"].clone()
        };
        assert_eq!(draw_with("w", 5), draw_with("w", 5));
        assert_ne!(draw_with("w", 5), draw_with("w", 6));
        assert_ne!(draw_with("w", 5), draw_with("v", 5));
    }

    #[test]
    fn silence_stays_silence() {
        let mut quiet = json!({"seeds": [1], "workloads": [{"generate": {"arrivals": {"bursts": {"base_rate_per_s": 0}}}}]});
        draw(&mut quiet, "w", 1);
        assert_eq!(quiet["workloads"][0]["generate"]["arrivals"]["bursts"]["base_rate_per_s"], json!(0));
    }
}
