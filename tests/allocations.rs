//! What a run allocates, counted by the allocator: a binary and a test of their own, since nothing else may
//! allocate meanwhile.

#[path = "../benches/cases/mod.rs"]
mod cases;

use std::alloc::System;
use std::hint::black_box;

use cases::{Setup, Size};
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::simulation::{Workspace, simulate};
use scalefront::workload::load;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, since the counter counts what all threads allocate.
#[test]
fn runs_allocate_little() {
    steady_state_does_not_allocate();
    no_policy_allocates_by_the_request();
    long_conversations_take_memory_by_their_turns();
}

/// Twice the turns of one conversation take twice the memory, and not four times: its prompts share what they
/// have in common, drawn or copied.
fn long_conversations_take_memory_by_their_turns() {
    let conversation = |turns: u32| {
        let spec = serde_json::json!({"name": "long", "sessions": {
            "starts": {"static": {"rate_per_s": 1, "duration_s": 1}}, "turns": {"fixed": {"turns": turns}},
            "subagents": {"every_turns": 50, "number": 2, "turns": {"fixed": {"turns": 2}},
                          "lengths": {"fixed": {"prefill_tokens": 1, "decode_tokens": 1}}},
            "lengths": {"fixed": {"prefill_tokens": 1, "decode_tokens": 1}}}});
        let region = Region::new(ALLOCATOR);
        let drawn = load(&serde_json::from_value(spec).unwrap(), 1, &[]).unwrap();
        let more = drawn.thickened(2.0, 1).unwrap();
        let bytes = region.change().bytes_allocated;
        assert!(more.len() > drawn.len() && drawn.len() > turns as usize);
        bytes as f64
    };
    let [short, long] = [2000, 8000].map(conversation);
    println!("conversations of 2,000 and of 8,000 turns allocate {short} and {long} bytes");
    assert!(long < 6.0 * short, "{short} {long}");
}

/// A thread's second run on a workload allocates as often as there are parts to build, whatever the number of
/// requests, and its workspace keeps at most 60 bytes a request.
fn steady_state_does_not_allocate() {
    let region = Region::new(ALLOCATOR);
    drop(black_box(Vec::<u8>::with_capacity(1000)));
    assert_eq!(region.change().allocations, 1, "the counter counts");
    for router in ["round_robin", "least_outstanding"] {
        let allocations = [Size::Small, Size::Full].map(|size| {
            let setup = cases::lab(size, router);
            let inputs = setup.inputs();
            let region = Region::new(ALLOCATOR);
            let mut workspace = Workspace::default();
            let first = simulate(&inputs, &mut workspace).unwrap();
            let kept = region.change();
            let kept_bytes = kept.bytes_allocated as f64 - kept.bytes_deallocated as f64;
            let per_request = kept_bytes / setup.requests() as f64;
            println!(
                "{router}, {} requests: the workspace keeps {per_request:.1} bytes a request",
                setup.requests()
            );
            if size == Size::Full {
                assert!(per_request <= 60.0, "{per_request} bytes a request");
            }
            let region = Region::new(ALLOCATOR);
            assert_eq!(simulate(&inputs, &mut workspace).unwrap(), first);
            let change = region.change();
            change.allocations + change.reallocations
        });
        println!("{router}: allocations of the second run of 6,300 and of 126,000 requests: {allocations:?}");
        // What grows is the policy's memory of arrivals: it doubles a few times until it has seen the peak.
        assert!(allocations[1] <= allocations[0] + 12 && allocations[1] < 100, "{router}: {allocations:?}");
    }
}

/// Of every policy, on a fleet that stays as it is: twice the traffic in the same time allocates no more, but
/// for what longer memories take. What a policy allocates at its ticks, it allocates at either; one
/// allocation a request would be 1.
fn no_policy_allocates_by_the_request() {
    let lengths = serde_json::json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 8}});
    let cluster = serde_json::json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}, "min_replicas": 12,
        "initial_replicas": 12, "max_replicas": 12});
    let named = AutoscalerSettings::NAMES
        .iter()
        .filter(|name| !["static", "schedule", "external", "per_pool", "fleet"].contains(name));
    let fixed = serde_json::json!({"static": {"replicas": 12}});
    for policy in named.map(|name| serde_json::json!(name)).chain([fixed]) {
        let [few, many] = [20, 40].map(|rate_per_s| {
            let arrivals = serde_json::json!({"poisson": {"rate_per_s": rate_per_s, "duration_s": 300}});
            let setup =
                Setup::new(cases::generated(arrivals, lengths.clone()), cluster.clone(), policy.clone());
            let inputs = setup.inputs();
            let mut workspace = Workspace::default();
            simulate(&inputs, &mut workspace).unwrap();
            let region = Region::new(ALLOCATOR);
            simulate(&inputs, &mut workspace).unwrap();
            let change = region.change();
            ((change.allocations + change.reallocations) as f64, setup.requests() as f64)
        });
        let by_request = (many.0 - few.0) / (many.1 - few.1);
        println!("{policy}: {} and {} allocations, {by_request:.4} a request more", few.0, many.0);
        assert!(by_request < 0.5, "{policy}: {few:?} and {many:?} allocations and requests");
    }
}
