//! Where the reference breaks its own promises we differ on purpose: its recorded defects, each shown for
//! what it is, beside what happens here. Each right behaviour has a test of its own, without foreign data, in
//! `tests/it/quirks.rs`.

use std::path::Path;

use scalefront::simulation::{Detail, RunMetrics};

use super::case::{Case, number, table};
use super::sound::{decoded, prefilled, run, to_decode};

fn load(shared: &Path, name: &str) -> Case {
    Case::load(&shared.join("golden/quirks").join(name), None)
}

fn run_case(case: &Case) -> (RunMetrics, Detail) {
    run(&case.inputs(&case.execution_time()))
}

/// Requests of the reference that completed before `until_s` completed at the same time here.
fn assert_agree_until(case: &Case, detail: &Detail, until_s: f64) {
    let mut compared = 0;
    for row in table(&case.dir.join("requests.csv")) {
        let completed_at_s = number(&row, "completed_at");
        if completed_at_s < until_s {
            let ours = &detail.requests[number(&row, "request_id") as usize];
            assert!(
                (ours.completed_at_s.unwrap() - completed_at_s).abs() <= 1e-6,
                "{ours:?}, not {completed_at_s}"
            );
            compared += 1;
        }
    }
    assert!(compared > 0);
}

/// Defect 11: Sarathi's preemption of a prompt under way makes the rest of the prompt decode tokens.
pub fn prompts_that_turn_into_decodes(shared: &Path) {
    let case = load(shared, "i2_sarathi_few_blocks");
    let (metrics, ours) = run_case(&case);
    // The reference decodes thousands of tokens more than there are to decode: parts of prompts.
    let theirs = case.summary["sum_decode_tokens"].as_u64().unwrap();
    assert!(theirs > to_decode(&ours) + 2000, "{theirs}");
    assert!(decoded(&ours) <= to_decode(&ours));
    assert!(metrics.num_restarts > 0 && metrics.num_completed == metrics.num_requests);
    // Up to the first of these preemptions nothing differs. It hits request 9, which then seems prefilled
    // before its time.
    let first = &table(&case.dir.join("requests.csv"))[9];
    let preempted_at_s = number(first, "prefill_completed_at");
    assert_eq!(first["num_restarts"], "1");
    assert_agree_until(&case, &ours, preempted_at_s);
    assert!(ours.requests[9].first_token_at_s.unwrap() > preempted_at_s + 1e-3);
}

/// Defect 12: FasterTransformer never frees requests that finish before the rest of their group.
pub fn memory_leak(shared: &Path) {
    let case = load(shared, "g_faster_transformer_rr_static2");
    let (metrics, ours) = run_case(&case);
    // The same work in nearly three times as many batches: leaked memory leaves room for ever fewer requests
    // at once.
    assert_eq!(Some(decoded(&ours)), case.summary["sum_decode_tokens"].as_u64());
    assert_eq!(Some(prefilled(&ours)), case.summary["sum_prefill_tokens"].as_u64());
    let (theirs, end_s) = (
        case.summary["num_batches"].as_u64().unwrap(),
        case.summary["simulation_end_time"].as_f64().unwrap(),
    );
    assert!(theirs as f64 > 2.8 * metrics.num_batches as f64, "{theirs} and {}", metrics.num_batches);
    assert!(end_s > 2.5 * metrics.simulated_s);
    // As long as there is memory to leak nothing differs.
    assert_agree_until(&case, &ours, 360.0);
}

/// Defects 6 and 7: scale-downs that find nobody to drain stay pending for ever, and requests that found no
/// replica wait for another arrival although one has joined.
pub fn leaked_counter_and_stranded_requests(shared: &Path) {
    let mut case = load(shared, "k_no_eligible_rr");
    case.cluster.min_replicas = 0;
    let (metrics, ours) = run_case(&case);
    assert_eq!(metrics.num_completed, metrics.num_requests);
    // Theirs: a scale-down is pending while no replica exists, and at the end six are that never come.
    let tunes = table(&case.dir.join("tunes.csv"));
    assert!(
        tunes
            .iter()
            .any(|row| number(row, "num_replicas") == 0.0 && number(row, "pending_scale_downs") > 0.0)
    );
    assert_eq!(number(tunes.last().unwrap(), "pending_scale_downs"), 6.0);
    // Ours: in the end nothing is (the record's soundness says of every decision that what is pending drains
    // or waits for one to join).
    assert_eq!(ours.tunes.last().unwrap().pending_scale_downs, 0);
    // Requests 33 to 55 arrive at 19 s, when there is no replica; two join at 22 s; the next request arrives
    // at 37 s.
    let rows = table(&case.dir.join("requests.csv"));
    assert!(
        rows[33..56]
            .iter()
            .all(|row| number(row, "arrived_at") < 20.0 && number(row, "scheduled_at") == 37.0)
    );
    assert!(
        (33..49).all(|request| ours.requests[request].scheduled_at_s == Some(22.0)),
        "one batch of sixteen starts at once"
    );
    assert!((49..56).all(|request| ours.requests[request].scheduled_at_s.unwrap() < 25.0));
    assert_agree_until(&case, &ours, 22.0);
}
