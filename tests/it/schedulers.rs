//! One golden run for each replica scheduler: the same prompts and answers on one small replica, batch by
//! batch, as kept in `tests/golden/schedulers`. Numbers of this simulator: they tell that a scheduler has
//! changed, not that it is right. `SCALEFRONT_WRITE_GOLDEN=1` writes them anew when results are meant to
//! change.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use scalefront::replica_scheduler::ReplicaSchedulerSettings;
use scalefront::simulation::{Workspace, simulate_in_detail};
use serde_json::json;

use crate::scenario::Scenario;

/// Settings under which each meets what it is known for: a cache for about six requests, a budget that splits
/// the longer prompts.
const SCHEDULERS: [(&str, &str); 7] = [
    ("faster_transformer", r#"{"batch_size_cap": 8, "num_blocks": 256}"#),
    ("lightllm", r#"{"batch_size_cap": 8, "num_blocks": 1920, "max_tokens_in_batch": 1024}"#),
    ("orca", r#"{"batch_size_cap": 8, "num_blocks": 256}"#),
    ("sarathi", r#"{"batch_size_cap": 8, "num_blocks": 120, "chunk_size_tokens": 256}"#),
    ("sglang", r#"{"batch_size_cap": 8, "num_blocks": 1920, "chunk_size_tokens": 256}"#),
    ("vllm", r#"{"batch_size_cap": 8, "num_blocks": 120, "max_tokens_in_batch": 1024}"#),
    ("vllm_v1", r#"{"batch_size_cap": 8, "num_blocks": 120, "max_tokens_in_batch": 256}"#),
];

/// Bursts of eight prompts of 40 to 700 tokens, with answers of 3 to 90.
fn batches(scheduler: &str, settings: &str) -> String {
    let settings: serde_json::Value = serde_json::from_str(settings).unwrap();
    let at_s = |i: u32| f64::from(i / 8) * 3.0 + f64::from(i % 8) * 0.02;
    let requests = (0..32).map(|i| (at_s(i), 40 + (i * 211) % 660, 3 + (i * 29) % 88));
    let scenario = Scenario::new(
        json!({"max_request_tokens": 1024, "replica_scheduler": {scheduler: settings}}),
        json!({"static": {"replicas": 1}}),
        requests,
    );
    let detail = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap().1;
    assert!(
        detail.requests.iter().all(|request| request.completed_at_s.is_some()),
        "{scheduler} leaves requests unanswered"
    );
    let restarts: u32 = detail.requests.iter().map(|request| request.restarts).sum();
    let mut text =
        format!("{restarts} restarts\nbegins_at_s,ends_at_s,requests,prefill_tokens,decode_tokens\n");
    for batch in &detail.batches {
        text += &format!(
            "{:.9},{:.9},{},{},{}\n",
            batch.scheduled_at_s,
            batch.completed_at_s,
            batch.num_requests,
            batch.prefill_tokens,
            batch.decode_tokens
        );
    }
    text
}

#[test]
fn every_scheduler_forms_the_batches_it_formed() {
    assert_eq!(
        SCHEDULERS.map(|(name, _)| name).into_iter().collect::<BTreeSet<_>>(),
        ReplicaSchedulerSettings::NAMES.iter().copied().collect()
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schedulers");
    let mut all = BTreeSet::new();
    for (name, settings) in SCHEDULERS {
        let (found, path) = (batches(name, settings), folder.join(name).with_extension("csv"));
        if std::env::var_os("SCALEFRONT_WRITE_GOLDEN").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        let parts =
            found.lines().zip(expected.lines()).enumerate().find(|(_, (found, expected))| found != expected);
        assert!(parts.is_none(), "{name}, line and what is found and expected there: {parts:?}");
        assert_eq!(found.lines().count(), expected.lines().count(), "{name}");
        assert!(all.insert(found), "{name} does what another one does");
    }
}
