//! Properties of every replica scheduler on random small clusters, and proof that the checks which guard them
//! can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use scalefront::autoscaler::{Autoscaler, Decision, Snapshot};
use scalefront::replica_scheduler::{
    Batch, KvBlocks, ReplicaScheduler, ReplicaSchedulerSettings, ReplicaState, Requests, Rule,
};
use scalefront::settings::Faults;
use scalefront::simulation::{
    ClusterSettings, Limits, Parts, RequestRecord, RunInputs, RunMetrics, Workspace,
    simulate_parts_in_detail, violations,
};
use scalefront::workload::{PrefixBlocks, Workload};
use serde_json::{Value, json};

use super::audit::Audit;
use super::golden::assert_runs_agree;
use super::scenario::Scenario;

const SCHEDULERS: [&str; 6] = ["vllm", "sarathi", "orca", "lightllm", "faster_transformer", "vllm_v1"];
const MAX_REQUEST_TOKENS: u32 = 128;

/// Settings of one scheduler on caches so small that requests are preempted, rejected, held back.
fn scheduler(name: &'static str) -> impl Strategy<Value = Value> {
    let block_size = if name == "lightllm" {
        Just(1_u32).boxed()
    } else {
        prop::sample::select(vec![1_u32, 4, 16]).boxed()
    };
    let cache_tokens = 40..600_u32;
    (block_size, cache_tokens, 2..9_u32, prop::sample::select(vec![0.0, 0.01, 0.1]), 20..200_u32, 1..80_u32, 0..6_u32).prop_map(
        move |(block_size, cache_tokens, cap, watermark, max_tokens_in_batch, chunk_size, max_waiting_iters)| {
            let mut settings = json!({
                "batch_size_cap": cap, "block_size_tokens": block_size, "watermark_blocks_fraction": watermark,
                "num_blocks": (cache_tokens / block_size).max(1),
            });
            match name {
                "vllm" => settings["max_tokens_in_batch"] = json!(max_tokens_in_batch),
                "sarathi" => settings["chunk_size_tokens"] = json!(chunk_size),
                "vllm_v1" => {
                    settings["max_tokens_in_batch"] = json!(chunk_size.max(cap));
                    settings["version"] = json!(["0.33", "0.22", "0.18"][max_waiting_iters as usize % 3]);
                    if watermark > 0.0 {
                        settings["version"] = json!("0.33");
                    }
                    settings["async_scheduling"] = json!(max_waiting_iters % 2 == 0);
                    settings["prefix_caching"] = json!(max_waiting_iters < 4);
                }
                "lightllm" => {
                    settings["max_tokens_in_batch"] = json!(max_tokens_in_batch);
                    settings["max_waiting_iters"] = json!(max_waiting_iters);
                }
                _ => {}
            }
            json!({ name: settings })
        },
    )
}

/// Bursts, lulls and idle times; lengths up to a little more than what fits.
pub fn requests() -> impl Strategy<Value = Vec<(f64, u32, u32)>> {
    let gap_s = prop_oneof![2 => Just(0.0), 4 => 0.0..0.1_f64, 2 => 0.0..2.0_f64, 1 => 5.0..30.0_f64];
    let prefill_tokens = prop_oneof![6 => 1..60_u32, 1 => 1..160_u32];
    let decode_tokens = prop_oneof![2 => Just(1_u32), 6 => 1..40_u32, 2 => 1..120_u32];
    prop::collection::vec((gap_s, prefill_tokens, decode_tokens), 1..40).prop_map(|requests| {
        let mut now_s = 0.0;
        let arrive = |(gap_s, prefill_tokens, decode_tokens)| {
            now_s += gap_s;
            (now_s, prefill_tokens, decode_tokens)
        };
        requests.into_iter().map(arrive).collect()
    })
}

pub fn autoscaler() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..4_u32).prop_map(|replicas| json!({"static": {"replicas": replicas}})),
        (10.0..200.0_f64, prop::sample::select(vec![0.0, 0.5])).prop_map(
            |(throughput, alpha)| json!({"inferline": {
                "look_back_s": 10, "min_window_s": 3, "stabilization_delay_s": 2,
                "initial_replica_token_throughput": throughput, "throughput_alpha": alpha,
            }})
        ),
    ]
}

fn scenario(name: &'static str) -> impl Strategy<Value = Scenario> {
    let routers = prop::sample::select(vec!["round_robin", "least_outstanding"]);
    (scheduler(name), requests(), autoscaler(), routers, prop::bool::ANY, 0..2_u32, 0.0..3.0_f64).prop_map(
        move |(scheduler, requests, autoscaler, router, pipelined, min_replicas, scale_up_delay_s)| {
            let stages = if pipelined && name != "lightllm" { 2 } else { 1 };
            let cluster = json!({
                "replica_scheduler": scheduler, "global_scheduler": router, "max_request_tokens": MAX_REQUEST_TOKENS,
                "tensor_parallel": 4 / stages, "pipeline_parallel": stages,
                "min_replicas": min_replicas, "max_replicas": 6, "tune_interval_s": 1, "scale_up_delay_s": scale_up_delay_s,
            });
            let mut scenario = Scenario::new(cluster, autoscaler, requests);
            scenario.workload.prefix = (name == "vllm_v1").then(|| prompts(&scenario.workload));
            scenario
        },
    )
}

/// Prompts that begin alike for a while, in threes and fives.
pub fn prompts(workload: &Workload) -> PrefixBlocks {
    let mut prefix = PrefixBlocks::new([4, 7, 16, 40][workload.len() % 4]);
    for (i, &tokens) in (0_u64..).zip(&workload.prefill_tokens) {
        let id = |block: u64| match block {
            0..2 => 1000 * (i % 3) + block,
            2..5 => 1000 * (10 + i % 15) + block,
            _ => 1000 * (100 + i) + block,
        };
        prefix.push(&(0..u64::from(tokens)).map(id).collect::<Vec<_>>(), tokens);
    }
    prefix
}

/// Runs under audit, with a fault put between audit and scheduler; returns what the run's end shows to be
/// wrong. A run that goes round in circles is given up.
fn run(
    inputs: &RunInputs,
    fault: Option<Fault>,
) -> Result<(RunMetrics, Vec<RequestRecord>, Vec<String>), String> {
    let inputs = &RunInputs { limits: Limits { most_events: 300_000, ..inputs.limits }, ..inputs.clone() };
    let settings = &inputs.cluster.replica_scheduler;
    let mut watched = inputs.replica_scheduler();
    if let Some(fault) = fault {
        watched = Rule::Other(Box::new(Faulty { right: watched, fault, calls: AtomicU32::new(0) }));
    }
    let audit = Audit::new(watched, settings.common().batch_size_cap, inputs.stepping, settings.name());
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(
        inputs,
        Parts { scheduler: Rule::Other(Box::new(audit)), ..Parts::of(inputs) },
        &mut workspace,
    )
    .map_err(|error| error.to_string())?;
    let found = violations(inputs, &metrics, &detail, &workspace);
    Ok((metrics, detail.requests, found))
}

/// Both ways of advancing decodes keep every invariant and tell the same story of every request.
fn check(scenario: &Scenario) {
    let fast = scenario.inputs();
    let stepping = RunInputs { stepping: true, ..fast.clone() };
    let (slow_metrics, slow_requests, found) = run(&stepping, None).unwrap();
    assert_eq!(found, [""; 0], "stepping");
    let (fast_metrics, fast_requests, found) = run(&fast, None).unwrap();
    assert_eq!(found, [""; 0], "fast");
    assert_runs_agree(&slow_metrics, &fast_metrics);
    // Without the audit, which wants every batch to be formed, requests come to runs of decodes and go while
    // these last: at the same times to the bit, while sums over iterations are added up in other groups.
    let limited = RunInputs { limits: Limits { most_events: 300_000, ..fast.limits }, ..fast.clone() };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(&limited, Parts::of(&limited), &mut workspace).unwrap();
    assert_eq!(violations(&limited, &metrics, &detail, &workspace), [""; 0], "without audit");
    assert_eq!(&detail.requests, &fast_requests, "without audit");
    assert_eq!(metrics.e2e_s, fast_metrics.e2e_s, "without audit");
    assert_runs_agree(&fast_metrics, &metrics);
    // What is alone at its instant takes a shortcut, with the same result to the bit; a queue for it changes
    // nothing.
    for (way, shortcut) in
        [(&fast, (&fast_metrics, &fast_requests)), (&stepping, (&slow_metrics, &slow_requests))]
    {
        let (metrics, requests, found) =
            run(&RunInputs { queue_every_step: true, ..way.clone() }, None).unwrap();
        assert_eq!(found, [""; 0], "every step in the queue");
        assert_eq!((&metrics, &requests), shortcut, "every step in the queue");
    }
    for (one, other) in slow_requests.iter().zip(&fast_requests) {
        assert_eq!(
            (one.replica_id, one.restarts),
            (other.replica_id, other.restarts),
            "{one:?} and {other:?}"
        );
        for (one_s, other_s) in [
            (one.scheduled_at_s, other.scheduled_at_s),
            (one.first_token_at_s, other.first_token_at_s),
            (one.completed_at_s, other.completed_at_s),
        ] {
            assert_eq!(one_s.is_some(), other_s.is_some(), "{one:?} and {other:?}");
            assert!((one_s.unwrap_or(0.0) - other_s.unwrap_or(0.0)).abs() <= 1e-6, "{one:?} and {other:?}");
        }
    }
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {} {:?}", json!(self.cluster), json!(self.autoscaler), self.workload)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn vllm_keeps_its_invariants(scenario in scenario("vllm")) { check(&scenario) }

    #[test]
    fn sarathi_keeps_its_invariants(scenario in scenario("sarathi")) { check(&scenario) }

    #[test]
    fn orca_keeps_its_invariants(scenario in scenario("orca")) { check(&scenario) }

    #[test]
    fn lightllm_keeps_its_invariants(scenario in scenario("lightllm")) { check(&scenario) }

    #[test]
    fn faster_transformer_keeps_its_invariants(scenario in scenario("faster_transformer")) { check(&scenario) }

    #[test]
    fn vllm_v1_keeps_its_invariants(scenario in scenario("vllm_v1")) { check(&scenario) }

    /// With priorities, drafted tokens and limits on queues; who is refused is rejected.
    #[test]
    fn vllm_v1_keeps_its_invariants_with_options(
        mut scenario in scenario("vllm_v1"), by_priority in prop::bool::ANY, drafts in 0..4_u32, rate in 0.0..1.0_f64,
        most_queued in prop::option::of(2..12_u32), most_tokens in prop::option::of(20..300_u64),
    ) {
        let mut cluster = json!(scenario.cluster);
        let settings = &mut cluster["replica_scheduler"]["vllm_v1"];
        settings["max_num_queued_reqs"] = json!(most_queued);
        settings["max_num_queued_tokens"] = json!(most_tokens);
        if by_priority && scenario.cluster.pipeline_parallel == 1 {
            settings["policy"] = json!("priority");
            scenario.workload.told.priorities = Some((0..scenario.workload.len() as i32).map(|i| i * 7 % 5).collect());
        }
        if drafts > 0 {
            settings["speculative"] = json!({"num_speculative_tokens": drafts, "acceptance_rate": rate});
            let tokens = settings["max_tokens_in_batch"].as_u64().unwrap();
            settings["max_tokens_in_batch"] = json!(tokens.max(u64::from(drafts) + 1));
        }
        scenario.cluster = serde_json::from_value(cluster).unwrap();
        let inputs = scenario.inputs();
        let (metrics, _, found) = run(&RunInputs { stepping: true, ..inputs }, None).unwrap();
        prop_assert_eq!(found, [""; 0]);
        prop_assert!(metrics.num_refused <= metrics.num_rejected);
        prop_assert!(most_queued.or(most_tokens.map(|_| 0)).is_some() || metrics.num_refused == 0);
        check(&scenario);
    }

    /// Requests come and go while others decode, prompts are computed in parts, and blocks run out.
    #[test]
    fn runs_whose_batches_change_tell_the_same(
        mut scenario in scenario("vllm_v1"), threshold in 0..30_u32, ahead in prop::bool::ANY, hurry in 0.02..1.0_f64,
        more in 0..40_u32, tokens in 3..80_u32, blocks in 16..200_u32, block_size in prop::sample::select(vec![1, 4, 12, 16]),
        offloads in prop::bool::ANY,
    ) {
        let workload = &mut scenario.workload;
        workload.arrived_at_s.iter_mut().for_each(|at_s| *at_s *= hurry);
        workload.decode_tokens.iter_mut().for_each(|tokens| *tokens += more);
        let mut cluster = json!(scenario.cluster);
        let settings = &mut cluster["replica_scheduler"]["vllm_v1"];
        settings["block_size_tokens"] = json!(block_size);
        settings["long_prefill_token_threshold"] = json!(threshold);
        settings["async_scheduling"] = json!(ahead);
        settings["max_tokens_in_batch"] = json!(tokens);
        settings["batch_size_cap"] = json!(tokens.min(12));
        settings["num_blocks"] = json!(blocks);
        if offloads {
            settings["prefix_caching"] = json!(true);
            settings["kv_offloading"] = json!({"size_gib": 0.05});
        }
        (cluster["tensor_parallel"], cluster["pipeline_parallel"]) = (json!(4), json!(1));
        scenario.cluster = serde_json::from_value(cluster).unwrap();
        check(&scenario);
    }

    /// Who completes, with how many tokens, is not a matter of caching; what is cached is not computed.
    #[test]
    fn caching_changes_no_output(mut scenario in scenario("vllm_v1")) {
        let mut told = Vec::new();
        for caching in [false, true] {
            let ReplicaSchedulerSettings::VllmV1(settings) = &mut scenario.cluster.replica_scheduler else { unreachable!() };
            settings.prefix_caching = caching;
            let inputs = scenario.inputs();
            let (metrics, requests, found) = run(&RunInputs { stepping: true, ..inputs }, None).unwrap();
            prop_assert_eq!(found, [""; 0]);
            prop_assert_eq!(metrics.prefix_hit_rate.is_some(), caching);
            prop_assert!(metrics.prefix_hit_rate.is_none_or(|rate| (0.0..1.0).contains(&rate)));
            let outcome = |r: &RequestRecord| (r.prefill_tokens, r.decode_tokens, r.first_token_at_s.is_some(), r.completed_at_s.is_some());
            told.push(requests.iter().map(outcome).collect::<Vec<_>>());
        }
        prop_assert_eq!(&told[0], &told[1]);
    }
}

/// Speed is no accident: with nobody to admit, long decodes are formed a few times and not a thousand, and
/// the same in number.
#[test]
fn long_decodes_are_skipped() {
    for name in SCHEDULERS {
        let block_size = if name == "lightllm" { 1 } else { 16 };
        let cluster =
            json!({"replica_scheduler": {name: {"batch_size_cap": 3, "block_size_tokens": block_size}}});
        let alone = Scenario::new(
            cluster.clone(),
            json!({"static": {"replicas": 1}}),
            (0..3).map(|i| (0.0, 100, 1000 + i)),
        );
        // Three more wait for a place.
        let queued =
            Scenario::new(cluster, json!({"static": {"replicas": 1}}), (0..6).map(|i| (0.0, 100, 1000 + i)));
        for (scenario, most_formed) in [(alone, 60), (queued, 120)] {
            let (metrics, detail) = simulate_parts_in_detail(
                &scenario.inputs(),
                Parts::of(&scenario.inputs()),
                &mut Workspace::default(),
            )
            .unwrap();
            let formed = detail.batches.len();
            assert!(
                metrics.num_batches > 1000 && formed < most_formed,
                "{name}: {formed} of {} batches formed",
                metrics.num_batches
            );
            check(&scenario);
        }
    }
}

/// The random scenarios do reach what the properties are about.
#[test]
fn scenarios_are_not_trivial() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for name in SCHEDULERS {
        let mut runner = TestRunner::deterministic();
        let (
            mut restarts,
            mut rejections_under_way,
            mut rejections,
            mut completions,
            mut scale_downs,
            mut cached_tokens,
        ) = (0, 0, 0, 0, 0, 0);
        for _ in 0..300 {
            let scenario = scenario(name).new_tree(&mut runner).unwrap().current();
            let (metrics, requests, _) = run(&scenario.inputs(), None).unwrap();
            restarts += metrics.num_restarts;
            rejections += metrics.num_rejected;
            rejections_under_way +=
                requests.iter().filter(|r| r.replica_id.is_some() && r.completed_at_s.is_none()).count();
            completions += metrics.num_completed;
            scale_downs += metrics.scale_downs;
            cached_tokens += requests.iter().map(|r| u64::from(r.cached_tokens)).sum::<u64>();
        }
        println!(
            "{name}: {completions} completions, {restarts} restarts, {rejections} rejections, {rejections_under_way} of them under way"
        );
        let preempts = ["vllm", "sarathi", "vllm_v1"].contains(&name);
        assert!(completions > 2000 && rejections > 50 && scale_downs > 100, "{name}");
        assert_eq!(name == "vllm_v1", cached_tokens > 2000, "{name}: {cached_tokens} tokens cached");
        assert_eq!(preempts, restarts > 50, "{name}: {restarts} restarts");
        // What fits an empty replica of `vllm_v1`, which keeps no blocks free, fits it for good.
        assert_eq!(
            preempts && name != "vllm_v1",
            rejections_under_way > 0,
            "{name}: {rejections_under_way} rejections under way"
        );
    }
}

/// What a careless author of a scheduler could get wrong, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    LeakBlock,
    MintBlock,
    DropQueued,
    LoseUnfinished,
    EnterTwice,
    ReleaseEarly,
    KeepFinished,
    Stall,
    TooManyTokens,
    FreeProgress,
    PromptBecomesDecode,
}

/// Faults, and what the audit says to them.
const FAULTS: [(Fault, &str); 11] = [
    (Fault::LeakBlock, "blocks held by"),
    (Fault::MintBlock, "blocks held by"),
    (Fault::DropQueued, "requests before and after"),
    (Fault::LoseUnfinished, "is lost"),
    (Fault::EnterTwice, "in two places at once"),
    (Fault::ReleaseEarly, "requests that left with the batch"),
    (Fault::KeepFinished, "is done and still in memory"),
    (Fault::Stall, "an idle replica lets its requests wait"),
    (Fault::TooManyTokens, "of a request in a batch"),
    (Fault::FreeProgress, "progressed outside batches"),
    (Fault::PromptBecomesDecode, "became decode tokens"),
];

/// A right scheduler with a fault: at its third opportunity, or always if it stalls.
struct Faulty {
    right: Rule,
    fault: Fault,
    calls: AtomicU32,
}

impl Faulty {
    fn strikes(&self, fault: Fault, opportunity: bool) -> bool {
        self.fault == fault && opportunity && self.calls.fetch_add(1, Ordering::Relaxed) == 2
    }
}

impl ReplicaScheduler for Faulty {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        if self.fault == Fault::Stall {
            return;
        }
        if self.strikes(Fault::DropQueued, !replica.queue.is_empty()) {
            replica.queue.pop_front();
        }
        self.right.form_batch(replica, requests, batch);
        if self.strikes(Fault::MintBlock, true) {
            replica.kv.free += 1;
        }
        let Some(&(first, tokens)) = batch.entries.first() else { return };
        if self.strikes(Fault::EnterTwice, true) {
            batch.entries.push((first, tokens));
        }
        if self.strikes(Fault::TooManyTokens, true) {
            batch.entries[0].1 += requests[first].total_tokens();
        }
        if self.strikes(Fault::FreeProgress, true) {
            requests[first].processed_tokens += 1;
        }
        let prefill =
            batch.entries.iter().map(|&(slot, _)| slot).find(|&slot| !requests[slot].prefill_complete);
        if self.strikes(Fault::PromptBecomesDecode, prefill.is_some()) {
            let request = &mut requests[prefill.expect("there is one")];
            request.prefill_tokens -= 1;
            request.decode_tokens += 1;
        }
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        let finished =
            batch.entries.iter().map(|&(slot, _)| slot).find(|&slot| requests[slot].is_completed());
        self.right.end_batch(replica, requests, batch);
        if self.strikes(Fault::LeakBlock, replica.kv.free > 0) {
            replica.kv.free -= 1;
        }
        if self.strikes(Fault::LoseUnfinished, !replica.waiting.is_empty()) {
            replica.waiting.pop();
        }
        if self.strikes(Fault::ReleaseEarly, !replica.waiting.is_empty()) {
            requests.release(replica.waiting[0]);
        }
        if self.strikes(Fault::KeepFinished, finished.is_some()) {
            replica.waiting.extend(finished);
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.right.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.right.would_admit(replica, requests)
    }

    fn reserves_ahead(&self) -> bool {
        self.right.reserves_ahead()
    }
}

/// A run of some preemption and some queueing for each scheduler.
fn ordinary(name: &str) -> Scenario {
    let mut settings =
        json!({"batch_size_cap": 4, "block_size_tokens": if name == "lightllm" { 1 } else { 4 }});
    settings["num_blocks"] = json!(if name == "lightllm" { 260 } else { 80 });
    if name == "sarathi" {
        settings["chunk_size_tokens"] = json!(16);
    }
    let cluster = json!({"replica_scheduler": {name: settings}, "max_request_tokens": MAX_REQUEST_TOKENS});
    let requests = (0..14).map(|i| (0.11 * f64::from(i), 20 + 7 * (i % 5), 3 + 5 * (i % 7)));
    Scenario::new(cluster, json!({"static": {"replicas": 1}}), requests)
}

#[test]
fn faults_are_caught() {
    for name in SCHEDULERS {
        let scenario = ordinary(name);
        let inputs = RunInputs { stepping: true, ..scenario.inputs() };
        assert_eq!(run(&inputs, None).unwrap().2, [""; 0], "{name} without fault");
        for (fault, expected) in FAULTS {
            let panic = catch_unwind(AssertUnwindSafe(|| run(&inputs, Some(fault))));
            let said = match panic {
                Ok(outcome) => {
                    panic!("{name} with {fault:?} was not stopped: {:?}", outcome.map(|(_, _, found)| found))
                }
                Err(panic) => panic
                    .downcast::<String>()
                    .map_or_else(|other| other.downcast::<&str>().unwrap().to_string(), |said| *said),
            };
            assert!(said.contains(expected), "{name} with {fault:?}: {said}");
        }
    }
}

/// Without the audit, too: what is left at the end of a run gives a leak away, and a lost request keeps it
/// from ending.
#[test]
fn the_end_of_a_run_shows_faults() {
    for name in SCHEDULERS {
        let scenario = ordinary(name);
        let inputs = RunInputs { stepping: true, ..scenario.inputs() };
        for (fault, expected) in [
            (Fault::LeakBlock, "KV blocks free at the end"),
            (Fault::DropQueued, "stuck at"),
            (Fault::LoseUnfinished, "stuck at"),
        ] {
            let faulty = Faulty { right: inputs.replica_scheduler(), fault, calls: AtomicU32::new(0) };
            let mut workspace = Workspace::default();
            let said = match simulate_parts_in_detail(
                &inputs,
                Parts { scheduler: Rule::Other(Box::new(faulty)), ..Parts::of(&inputs) },
                &mut workspace,
            ) {
                Ok((metrics, detail)) => violations(&inputs, &metrics, &detail, &workspace).join("; "),
                Err(error) => error.to_string(),
            };
            assert!(said.contains(expected), "{name} with {fault:?}: {said:?}");
        }
    }
}

/// Decides at random, far beyond what the limits allow, for a time; then only that somebody serves.
struct Restless {
    state: u32,
    until_s: f64,
}

impl Autoscaler for Restless {
    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        if now_s > self.until_s {
            return Decision::towards(snapshot.committed(), snapshot.committed().max(1));
        }
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match (self.state >> 28, self.state >> 24 & 15) {
            (0..4, n) => Decision::Up(n),
            (4..9, n) => Decision::Down(n),
            _ => Decision::Hold,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is decided, and however late it takes effect: no fewer replicas than the least, no more than
    /// the most, nothing pending for ever, and everyone served.
    #[test]
    fn limits_hold_whatever_is_decided(
        mut requests in requests(), state: u32, up_s in 0.0..8.0_f64, down_s in prop_oneof![Just(0.0), 0.0..8.0_f64], min in 0..4_u32,
        more in 1..8_u32, spread_s in prop_oneof![Just(0.0), Just(3.0)], crash_s in prop::option::of(5.0..60.0_f64),
        order in prop_oneof![Just("starting_first"), Just("serving_first")],
    ) {
        // Once nothing is decided any more, a last request finds everything settled; a crash would start
        // something new.
        let until_s = requests.last().map_or(0.0, |request| request.0);
        requests.push((until_s + 300.0, 10, 1));
        let cluster = json!({
            "replica_scheduler": {"vllm": {"batch_size_cap": 4}}, "min_replicas": min, "initial_replicas": min + 1,
            "max_replicas": min + more, "tune_interval_s": 1, "scale_up_delay_s": up_s, "scale_down_delay_s": down_s,
            "scale_down_order": order,
            "cold_start": {"spread_s": spread_s}, "failures": {"mean_time_to_crash_s": crash_s},
        });
        let scenario = Scenario::new(cluster, json!("inferline"), requests);
        let inputs = RunInputs { stepping: true, limits: Limits { most_events: 300_000, ..Limits::default() }, ..scenario.inputs() };
        let parts = Parts { autoscaler: Some(Box::new(Restless { state, until_s })), ..Parts::of(&inputs) };
        let mut workspace = Workspace::default();
        let (metrics, detail) = simulate_parts_in_detail(&inputs, parts, &mut workspace).unwrap();
        prop_assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
        // Decisions count replicas once: what there will be is within the limits, too.
        for tune in &detail.tunes {
            let committed = i64::from(tune.num_replicas) + i64::from(tune.pending_scale_ups) - i64::from(tune.pending_scale_downs);
            prop_assert!((i64::from(min)..=i64::from(min + more)).contains(&committed), "{tune:?}");
        }
        if crash_s.is_none() {
            let last = detail.tunes.last().unwrap();
            prop_assert_eq!((last.pending_scale_ups, last.pending_scale_downs), (0, 0), "pending for ever");
            let net = i64::try_from(metrics.scale_ups).unwrap() - i64::try_from(metrics.scale_downs).unwrap();
            prop_assert_eq!(i64::from(min + 1) + net, i64::from(last.num_replicas), "scale-ups and scale-downs are those carried out");
        }
    }
}

/// Each kind of violation is found in the record of a right run once that is tampered with.
#[test]
fn violations_are_found() {
    use scalefront::simulation::{Detail, ReplicaRecord};
    let scenario = ordinary("vllm");
    let inputs = RunInputs { stepping: true, ..scenario.inputs() };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
    assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    type Tamper = fn(&mut RunMetrics, &mut Detail);
    let tampered: [(&str, Tamper); 15] = [
        ("completions of", |metrics, _| metrics.num_completed += 1),
        ("rejected of", |metrics, _| metrics.num_rejected += 1),
        ("restarts counted", |metrics, _| metrics.num_restarts += 1),
        ("stations", |_, detail| detail.requests[3].first_token_at_s = detail.requests[3].scheduled_at_s),
        ("sum of e2e", |_, detail| {
            detail.requests[3].completed_at_s = detail.requests[3].completed_at_s.map(|at_s| at_s + 1e-3)
        }),
        ("wrong price", |_, detail| detail.replicas[0].cost_per_hour_usd += 1.0),
        ("serve of 64 at most", |_, detail| {
            detail.replicas.push(ReplicaRecord { num_replicas: 65, ..detail.replicas[0].clone() })
        }),
        ("one that serves stops while others start", |_, detail| {
            detail.replicas.push(ReplicaRecord {
                num_replicas: 0,
                num_starting: 1,
                ..detail.replicas[0].clone()
            });
        }),
        ("serve of 1 at least", |_, detail| {
            detail.replicas.push(ReplicaRecord { num_replicas: 0, ..detail.replicas[0].clone() })
        }),
        ("cost", |metrics, _| metrics.total_cost_usd *= 1.001),
        ("busy for", |metrics, _| metrics.busy_s = metrics.replica_hours * 3600.0 * 1.001),
        ("batch ids", |_, detail| detail.batches[5].batch_id = 4),
        ("overlaps", |_, detail| detail.batches[5].scheduled_at_s -= 1e-3),
        ("end out of order", |_, detail| detail.batches.swap(5, 6)),
        ("tokens prefilled of", |_, detail| detail.batches[0].prefill_tokens += 1),
    ];
    for (expected, tamper) in tampered {
        let (mut metrics, mut detail) = (metrics.clone(), detail.clone());
        tamper(&mut metrics, &mut detail);
        let found = violations(&inputs, &metrics, &detail, &workspace).join("; ");
        assert!(found.contains(expected), "{expected}: {found:?}");
    }
}

/// The smallest budget that is taken with drafts: prompts that are cached but for a token fill it alone.
#[test]
fn drafts_fill_the_budget_and_let_nobody_wait() {
    let cluster = |tokens: u32| {
        json!({
            "replica_scheduler": {"vllm_v1": {
                "batch_size_cap": 3, "max_tokens_in_batch": tokens, "block_size_tokens": 1, "num_blocks": 178, "prefix_caching": true,
                "speculative": {"num_speculative_tokens": 3, "acceptance_rate": 0.0},
            }},
            "max_request_tokens": MAX_REQUEST_TOKENS, "tensor_parallel": 4,
        })
    };
    let arrived_at_s = [0.728, 0.728, 0.728, 0.728, 0.728, 0.769, 0.769, 0.817].into_iter().chain([0.902; 9]);
    let prefill_tokens = [1, 1, 31, 37, 56, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1];
    let requests = arrived_at_s
        .zip(prefill_tokens)
        .enumerate()
        .map(|(i, (at_s, prefill))| (at_s, prefill, if i == 2 { 113 } else { 1 }));
    let mut scenario = Scenario::new(cluster(4), json!({"static": {"replicas": 1}}), requests);
    scenario.workload.prefix = Some(prompts(&scenario.workload));
    check(&scenario);
    let refused: ClusterSettings = serde_json::from_value(cluster(3)).unwrap();
    let mut faults = Faults::default();
    refused.check(&mut faults);
    let [fault] = &faults.found[..] else { panic!("{:?}", faults.found) };
    assert!(fault.path.ends_with("max_tokens_in_batch") && fault.message.contains("at least 4"), "{fault:?}");
}
