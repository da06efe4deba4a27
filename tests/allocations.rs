//! What a run allocates, counted by the allocator: a binary and a test of their own, since nothing else may allocate meanwhile.

#[path = "../benches/cases/mod.rs"]
mod cases;

use std::alloc::System;
use std::hint::black_box;

use cases::Size;
use scalefront::simulation::{Workspace, simulate};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A thread's second run on a workload allocates as often as there are parts to build, whatever the number of requests, and its workspace
/// keeps at most 60 bytes a request.
#[test]
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
            println!("{router}, {} requests: the workspace keeps {per_request:.1} bytes a request", setup.requests());
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
