//! A simulated run as Prometheus would have recorded it: results of `query_range`, a file a metric. For tests
//! of what reads them, and for dashboards that are to be tried before there is a service.
//!
//! Names are vLLM's, the gateway's and kube-state-metrics'; bounds of buckets are those of vLLM 0.30
//! (read in copies of its `/metrics` that other projects keep).

use serde_json::{Value, json};

use crate::simulation::{Detail, RequestRecord};

const E2E_BOUNDS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const TTFT_BOUNDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const TOKEN_BOUNDS: [f64; 17] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0,
    50_000.0, 100_000.0, 200_000.0,
];

/// When the record begins, so that times look like times.
const EPOCH_S: f64 = 1_700_000_000.0;

/// Something that was counted: when, and how much.
type Event = (f64, f64);

/// Files by their names, of a run that lasted so long, scraped at such distances.
pub fn of_detail(detail: &Detail, end_s: f64, interval_s: f64) -> Vec<(String, Value)> {
    let times: Vec<f64> =
        (0..).map(|i| f64::from(i) * interval_s).take_while(|at_s| *at_s <= end_s + interval_s).collect();
    let requests = &detail.requests;
    let counted =
        |of: &dyn Fn(&RequestRecord) -> Option<Event>| requests.iter().filter_map(of).collect::<Vec<Event>>();
    let mut files = Vec::new();
    let mut add = |name: &str, labels: &[(&str, String)], events: Vec<Event>| {
        let series = series(name, labels, &times, events);
        match files.iter_mut().find(|(file, _): &&mut (String, Vec<Value>)| file == name) {
            Some((_, all)) => all.push(series),
            None => files.push((name.to_owned(), vec![series])),
        }
    };
    let arrivals = counted(&|r| Some((r.arrived_at_s, 1.0)));
    let done = counted(&|r| Some((r.completed_at_s?, 1.0)));
    add("inference_objective_request_total", &[], arrivals.clone());
    add("vllm:request_success_total", &[], done.clone());
    add("vllm:prompt_tokens_total", &[], counted(&|r| Some((r.first_token_at_s?, r.prefill_tokens.into()))));
    add("vllm:generation_tokens_total", &[], counted(&|r| Some((r.completed_at_s?, r.decode_tokens.into()))));
    // A gauge goes up and down as what it counts comes and goes.
    let minus = |events: &[Event]| events.iter().map(|(at_s, by)| (*at_s, -by)).collect::<Vec<Event>>();
    let scheduled = counted(&|r| Some((r.scheduled_at_s?, 1.0)));
    add("vllm:num_requests_waiting", &[], [arrivals, minus(&scheduled)].concat());
    add("vllm:num_requests_running", &[], [scheduled, minus(&done)].concat());
    let mut replicas = Vec::new();
    let mut last = 0.0;
    for record in &detail.replicas {
        let ready = f64::from(record.num_replicas - record.num_draining);
        replicas.push((record.time_s, ready - last));
        last = ready;
    }
    add("kube_deployment_status_replicas_ready", &[], replicas);
    let e2e = counted(&|r| Some((r.completed_at_s?, r.completed_at_s? - r.arrived_at_s)));
    let ttft = counted(&|r| Some((r.first_token_at_s?, r.first_token_at_s? - r.arrived_at_s)));
    let prompts = counted(&|r| Some((r.completed_at_s?, r.prefill_tokens.into())));
    let outputs = counted(&|r| Some((r.completed_at_s?, r.decode_tokens.into())));
    for (name, bounds, observed) in [
        ("vllm:e2e_request_latency_seconds", &E2E_BOUNDS[..], e2e),
        ("vllm:time_to_first_token_seconds", &TTFT_BOUNDS[..], ttft),
        ("vllm:request_prompt_tokens", &TOKEN_BOUNDS[..], prompts),
        ("vllm:request_generation_tokens", &TOKEN_BOUNDS[..], outputs),
    ] {
        for bound in bounds.iter().copied().chain([f64::INFINITY]) {
            let le = if bound.is_finite() { format!("{bound}") } else { "+Inf".into() };
            let below =
                observed.iter().filter(|(_, value)| *value <= bound).map(|(at_s, _)| (*at_s, 1.0)).collect();
            add(&format!("{name}_bucket"), &[("le", le)], below);
        }
        add(&format!("{name}_sum"), &[], observed.clone());
        add(&format!("{name}_count"), &[], observed.iter().map(|(at_s, _)| (*at_s, 1.0)).collect());
    }
    let file = |(name, result): (String, Vec<Value>)| {
        (
            format!("{}.json", name.replace(':', "_")),
            json!({"status": "success", "data": {"resultType": "matrix", "result": result}}),
        )
    };
    files.into_iter().map(file).collect()
}

/// The running sum of events at each scrape.
fn series(name: &str, labels: &[(&str, String)], times: &[f64], mut events: Vec<Event>) -> Value {
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut metric = serde_json::Map::from_iter([
        ("__name__".to_owned(), json!(name)),
        ("job".to_owned(), json!("simulated")),
    ]);
    metric.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    let (mut sum, mut next) = (0.0, 0);
    let value = |&at_s: &f64| {
        while next < events.len() && events[next].0 <= at_s {
            sum += events[next].1;
            next += 1;
        }
        json!([EPOCH_S + at_s, format!("{sum}")])
    };
    let values: Vec<Value> = times.iter().map(value).collect();
    json!({"metric": metric, "values": values})
}
