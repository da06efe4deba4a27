//! Published traces against the figures that were published or counted of them.

use std::path::Path;

use scalefront::workload::describe::{Description, TokenFigures, describe};
use scalefront::workload::{Workload, WorkloadSpec, load};
use serde_json::{Value, json};

fn load_json(json: Value) -> Workload {
    let spec: WorkloadSpec = serde_json::from_value(json).expect("settings of the test");
    load(&spec, 1, &[]).unwrap()
}

fn read(shared: &Path, trace: &str) -> (Workload, Description) {
    let workload =
        load_json(json!({"name": "given", "trace": {"path": shared.join("data/traces").join(trace)}}));
    let description = describe(&workload).unwrap();
    (workload, description)
}

/// Mean, median, 90th percentile, maximum. Published 90th percentiles are the lower of the two ranks we
/// interpolate between.
fn figures(tokens: &TokenFigures) -> (f64, f64, f64, u32) {
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    (rounded(tokens.mean), tokens.p50, rounded(tokens.p90), tokens.max)
}

fn rounded(value: Option<f64>, decimals: i32) -> f64 {
    (value.unwrap() * 10f64.powi(decimals)).round() / 10f64.powi(decimals)
}

pub fn azure_2023_code(shared: &Path) {
    let (workload, description) = read(shared, "AzureLLMInferenceTrace_code.csv");
    assert_eq!((workload.len(), workload.arrived_at_s[0]), (8819, 0.0));
    assert_eq!(description.duration_s, 3435.948056); // 18:17:03.9799600 to 19:14:19.9280160, 57.3 min
    assert_eq!(rounded(description.mean_rate_per_s, 2), 2.57);
    assert_eq!(figures(&description.prefill_tokens), (2047.8, 1469.0, 5187.6, 7437));
    assert_eq!(figures(&description.decode_tokens), (27.9, 13.0, 55.0, 1899));
}

pub fn azure_2023_conversation(shared: &Path) {
    let (workload, description) = read(shared, "AzureLLMInferenceTrace_conv.csv");
    assert_eq!(workload.len(), 19_366);
    assert_eq!(description.duration_s, 3501.721937); // 18:15:46.6805900 to 19:14:08.4025270, 58.4 min
    assert_eq!(rounded(description.mean_rate_per_s, 2), 5.53);
    assert_eq!(figures(&description.prefill_tokens), (1154.7, 1020.0, 2734.5, 14_050));
    assert_eq!(figures(&description.decode_tokens), (211.1, 129.0, 424.0, 1000));
}

pub fn the_lab_trace(shared: &Path) {
    let (workload, description) = read(shared, "Synthetic_Trace1_1hr.csv");
    assert_eq!((workload.len(), workload.arrived_at_s[0]), (126_000, 0.006827693844968508));
    assert_eq!((description.prefill_tokens.min, description.prefill_tokens.max), (256, 256));
    assert_eq!((description.decode_tokens.min, description.decode_tokens.max), (1, 1));
}

pub fn mooncake_conversation(shared: &Path) {
    let (workload, description) = read(shared, "mooncake/conversation_trace.jsonl");
    assert_eq!(workload.len(), 12_031);
    assert_eq!((description.duration_s / 60.0).round(), 59.0);
    assert_eq!(
        (description.prefill_tokens.mean.round(), description.prefill_tokens.max),
        (12_035.0, 126_195)
    );
    assert_eq!(description.decode_tokens.mean.round(), 343.0);
    let prefix = description.prefix.unwrap();
    assert_eq!((prefix.block_tokens, prefix.blocks, prefix.distinct_blocks), (512, 288_500, 182_790));
}

pub fn servegen_clients(shared: &Path) {
    let dir = shared.join("data/traces/servegen");
    // The busiest hour of the eight clients; their rates summed over its six windows.
    let mut expected = 0.0;
    for client in 0..8 {
        let trace = std::fs::read_to_string(dir.join(format!("chunk-{client}-trace.csv"))).unwrap();
        for line in trace.lines() {
            let fields: Vec<&str> = line.split(',').collect();
            if (36_000..39_600).contains(&fields[0].parse::<u32>().unwrap()) {
                expected += 600.0 * fields[1].parse::<f64>().unwrap();
            }
        }
    }
    let spec =
        json!({"name": "s", "generate": {"servegen": {"dir": dir, "start_s": 36000, "duration_s": 3600}}});
    let count = load_json(spec).len() as f64;
    // Five deviations of a count whose variance is nine times that of Poisson.
    assert!(
        (count - expected).abs() < 15.0 * expected.sqrt() + 10.0,
        "{count} requests, expected about {expected}"
    );
}
