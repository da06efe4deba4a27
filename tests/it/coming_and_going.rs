//! Requests come to a run of decodes and go while all others go on as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use scalefront::replica_scheduler::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Requests, Rule, Slot};
use scalefront::simulation::{Parts, Workspace, simulate, simulate_parts_in_detail};
use serde_json::json;

use super::scenario::Scenario;

/// What a scheduler is asked for, counted.
#[derive(Default)]
struct Calls {
    batches_formed: AtomicU32,
    iterations_formed: AtomicU32,
    newcomers_overlooked: AtomicU32,
}

struct Counted {
    right: Rule,
    calls: Arc<Calls>,
}

impl ReplicaScheduler for Counted {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.calls.batches_formed.fetch_add(1, Ordering::Relaxed);
        self.right.form_batch(replica, requests, batch);
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        self.right.end_batch(replica, requests, batch);
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.right.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.right.would_admit(replica, requests)
    }

    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        self.right.repeats_decodes(replica, requests)
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        self.right.skipped_decodes(replica, repeats);
    }

    fn overlooks_first(&self, replica: &ReplicaState, requests: &Requests, started_at_s: f64) -> bool {
        let overlooks = self.right.overlooks_first(replica, requests, started_at_s);
        self.calls.newcomers_overlooked.fetch_add(overlooks.into(), Ordering::Relaxed);
        overlooks
    }

    fn changes_runs(&self) -> bool {
        self.right.changes_runs()
    }

    fn may_change_run(&self, replica: &ReplicaState, requests: &Requests, others: &[(Slot, u32)]) -> bool {
        self.right.may_change_run(replica, requests, others)
    }

    fn end_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, finished: &[Slot]) {
        self.right.end_iteration(replica, requests, finished);
    }

    fn form_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.calls.iterations_formed.fetch_add(1, Ordering::Relaxed);
        self.right.form_iteration(replica, requests, batch);
    }
}

/// Of three hundred requests, of which dozens decode at a time, only those that find a replica idle, or leave
/// it so, are in a batch that is formed anew.
#[test]
fn who_stays_is_left_alone() {
    let requests = (0..300).map(|i| (0.23 * f64::from(i), 50 + 13 * (i % 17), 20 + 11 * (i % 23)));
    let scenario =
        Scenario::new(json!({"replica_scheduler": "vllm_v1"}), json!({"static": {"replicas": 1}}), requests);
    let inputs = scenario.inputs();
    let calls = Arc::new(Calls::default());
    let counted = Counted { right: inputs.replica_scheduler(), calls: calls.clone() };
    let parts = Parts { scheduler: Rule::Other(Box::new(counted)), ..Parts::of(&inputs) };
    let (metrics, _) = simulate_parts_in_detail(&inputs, parts, &mut Workspace::default()).unwrap();
    let [formed, changed] =
        [&calls.batches_formed, &calls.iterations_formed].map(|calls| calls.load(Ordering::Relaxed));
    assert!(formed < 10 && changed > 300, "{formed} batches formed anew, {changed} iterations changed");
    let overlooked = calls.newcomers_overlooked.load(Ordering::Relaxed);
    assert!(overlooked > 150, "{overlooked} newcomers overlooked by a step put together before");
    assert_eq!(metrics, simulate(&inputs, &mut Workspace::default()).unwrap(), "counting changes nothing");
}
