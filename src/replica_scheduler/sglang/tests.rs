use proptest::prelude::*;
use serde_json::json;

use super::state::State;
use super::{Rules, Sglang, SglangSettings, default_chunk};
use crate::replica_scheduler::bench::{Bench, SHAPE};
use crate::replica_scheduler::{
    Batch, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Request, Requests, Slot,
};
use crate::workload::PrefixBlocks;

/// No overlap and nothing cached, unless told otherwise.
fn bench(more: &str) -> Bench {
    Bench::new(&format!(r#"{{"sglang": {{"overlap": false, "prefix_caching": false{more}}}}}"#))
}

fn caching(more: &str, hash_tokens: u32, prompts: &[(&[u64], u32)]) -> Bench {
    let mut bench = Bench::new(&format!(r#"{{"sglang": {{"overlap": false{more}}}}}"#));
    let mut prefix = PrefixBlocks::new(hash_tokens);
    prompts.iter().for_each(|(ids, tokens)| prefix.push(ids, *tokens));
    bench.requests.know(Some(&prefix));
    bench
}

#[test]
fn prompts_come_first_and_stall_those_that_run() {
    let mut bench = bench(r#", "num_blocks": 500, "chunk_size_tokens": 20"#);
    bench.arrive(10, 4);
    assert_eq!(bench.step(), [(0, 10)]);
    assert_eq!(bench.step(), [(0, 1)]);
    bench.arrive(50, 2);
    // Three chunks, and no token for the first meanwhile.
    assert_eq!(bench.step(), [(1, 20)]);
    assert_eq!(bench.step(), [(1, 20)]);
    assert_eq!(bench.step(), [(1, 10)]);
    assert_eq!(bench.step(), [(0, 1), (1, 1)]);
    assert_eq!(bench.step(), [(0, 1)]);
    assert!(bench.is_empty());
}

#[test]
fn mixed_chunks_take_those_that_run_along() {
    let mut bench = bench(r#", "num_blocks": 500, "chunk_size_tokens": 20, "mixed_chunks": true"#);
    bench.arrive(10, 5);
    bench.step();
    bench.arrive(50, 2);
    assert_eq!(bench.step(), [(1, 19), (0, 1)], "the chunk leaves room for the other's token");
    assert_eq!(bench.step(), [(1, 19), (0, 1)]);
    assert_eq!(bench.step(), [(1, 12), (0, 1)]);
    assert_eq!(bench.step(), [(1, 1), (0, 1)]);
    assert!(bench.is_empty());
}

#[test]
fn an_interval_lets_those_that_run_go_on_between_prompts() {
    let mut bench = bench(r#", "num_blocks": 500, "chunk_size_tokens": 20, "prefill_decode_interval": 2"#);
    bench.arrive(10, 9);
    bench.step();
    bench.arrive(40, 1);
    let batches = bench.drain();
    let kinds: Vec<usize> = batches.iter().take(8).map(|batch| batch[0].0 as usize).collect();
    assert_eq!(kinds, [0, 0, 1, 0, 0, 1, 0, 0], "{batches:?}");
}

/// Where the ends of requests are known, one token more has to be left than where they are not: a request
/// that lacks just that one could wait for ever, alone.
#[test]
fn what_can_never_be_admitted_is_given_up() {
    for overlap in [false, true] {
        let mut bench = Bench::new(&format!(
            r#"{{"sglang": {{"overlap": {overlap}, "prefix_caching": false, "num_blocks": 100}}}}"#
        ));
        assert!(bench.fits_empty(20, 78) && !bench.fits_empty(20, 79));
        let too_long = bench.arrive(20, 78);
        for (prefill_tokens, decode_tokens) in [(20, 77), (10, 3)] {
            bench.arrive(prefill_tokens, decode_tokens);
        }
        (0..3).for_each(|slot| bench.requests[Slot(slot)].ignore_eos = true);
        let batches = bench.drain();
        assert_eq!(bench.replica.rejected, [too_long]);
        let tokens = |id: u32| {
            batches.concat().iter().filter(|&&(other, _)| other == id).map(|&(_, tokens)| tokens).sum::<u32>()
        };
        assert_eq!([tokens(0), tokens(1), tokens(2)], [0, 20 + 76, 10 + 2]);
    }
}

#[test]
fn room_is_kept_for_what_may_be_generated() {
    // Prompt, page and what may be generated are 51 tokens; more than that has to be left.
    let [mut both, mut one, mut ignoring] = [103, 100, 100]
        .map(|tokens| caching(&format!(r#", "num_blocks": {tokens}"#), 1, &[(&[], 20), (&[], 20)]));
    for bench in [&mut both, &mut one, &mut ignoring] {
        bench.arrive(20, 30);
        bench.arrive(20, 30);
    }
    ignoring.requests[Slot(0)].ignore_eos = true;
    assert_eq!(both.step(), [(0, 20), (1, 20)]);
    assert_eq!([one.step(), ignoring.step()], [[(0, 20)], [(0, 20)]]);
    // A running request counts with seven tenths of the 29 tokens it may still generate, or with all of them
    // if it surely does.
    assert_eq!((one.step(), ignoring.step()), (vec![(1, 20)], vec![(0, 1)]));
    assert!(ignoring.drain().concat().contains(&(1, 20)));
}

#[test]
fn who_has_generated_least_is_retracted_and_goes_to_the_end() {
    let mut bench = bench(r#", "num_blocks": 60, "conservativeness": 0.1"#);
    bench.arrive(10, 26);
    bench.step();
    for _ in 0..5 {
        bench.step();
    }
    bench.arrive(10, 26);
    bench.arrive(30, 5);
    assert_eq!(bench.step(), [(1, 10)]);
    let batches = bench.drain();
    let restarted = batches.iter().flatten().find(|&&(id, tokens)| id == 1 && tokens > 1);
    assert!(restarted.is_none_or(|&(_, tokens)| tokens > 10), "{batches:?}");
    assert!(bench.is_empty());
}

#[test]
fn the_tree_matches_to_the_token_but_for_the_last() {
    let prompts: &[(&[u64], u32)] = &[(&[1, 2], 30), (&[1, 2], 30), (&[1, 3], 28)];
    let mut bench = caching(r#", "num_blocks": 500"#, 16, prompts);
    bench.arrive(30, 1);
    assert_eq!(bench.step(), [(0, 30)]);
    bench.arrive(30, 1);
    assert_eq!(bench.step(), [(1, 1)], "all but the last token");
    bench.arrive(28, 1);
    assert_eq!(bench.step(), [(2, 12)]);
    assert!(bench.is_empty());
    let mut paged = caching(r#", "num_blocks": 500, "block_size_tokens": 8"#, 16, prompts);
    for computed in [30, 6, 12] {
        let tokens = if computed == 12 { 28 } else { 30 };
        paged.arrive(tokens, 1);
        assert_eq!(paged.step()[0].1, computed, "whole pages of 8");
    }
}

#[test]
fn a_later_turn_finds_what_was_generated() {
    // The second prompt is the first, its 10 tokens of output and 4 more: of the output, the last token was
    // never computed.
    let prompts: &[(&[u64], u32)] = &[(&(0..30).collect::<Vec<_>>(), 30), (&(0..34).collect::<Vec<_>>(), 34)];
    let mut bench = caching(r#", "num_blocks": 500"#, 1, prompts);
    bench.arrive(20, 10);
    bench.drain();
    bench.arrive(34, 1);
    assert_eq!(bench.step(), [(1, 5)]);
}

#[test]
fn copies_in_one_batch_are_computed_twice_and_kept_once() {
    let mut bench = caching(r#", "num_blocks": 100"#, 20, &[(&[1], 20), (&[1], 20)]);
    bench.arrive(20, 2);
    bench.arrive(20, 2);
    assert_eq!(bench.step(), [(0, 20), (1, 20)]);
    assert_eq!(bench.replica.kv.free, 80);
    bench.drain();
    assert!(bench.is_empty());
}

#[test]
fn lpm_takes_the_longest_match_first() {
    let prompts: &[(&[u64], u32)] = &[(&[1, 2, 3], 48), (&[9], 16), (&[1, 7], 32), (&[1, 2, 5], 48)];
    for (policy, order) in [("fcfs", [1, 2, 3]), ("lpm", [3, 2, 1])] {
        let mut bench = caching(
            &format!(r#", "num_blocks": 300, "policy": "{policy}", "batch_size_cap": 1"#),
            16,
            prompts,
        );
        bench.arrive(48, 1);
        bench.step();
        for tokens in [16, 32, 48] {
            bench.arrive(tokens, 1);
        }
        let batches = bench.drain();
        assert_eq!(batches.iter().map(|batch| batch[0].0).collect::<Vec<_>>(), order, "{policy}");
    }
}

#[test]
fn lof_takes_the_longest_output_first_and_priorities_the_most_urgent() {
    let mut bench = bench(r#", "num_blocks": 300, "policy": "lof", "batch_size_cap": 1"#);
    for output in [2, 9, 5] {
        bench.arrive(10, output);
    }
    assert_eq!(bench.step(), [(1, 10)]);
    let mut bench = self::bench(r#", "num_blocks": 300, "priority_scheduling": true, "batch_size_cap": 1"#);
    bench.arrive(10, 9);
    assert_eq!(bench.step(), [(0, 10)]);
    for priority in [10, 11] {
        let slot = bench.arrive(10, 2);
        bench.requests[slot].priority = priority;
    }
    assert_eq!(bench.step(), [(2, 10)], "11 is more than 10 above 0 and takes its place");
    assert_eq!(bench.step(), [(2, 1)]);
    assert_eq!(bench.step(), [(1, 10)]);
    let batches = bench.drain();
    assert!(batches.contains(&vec![(0, 11)]), "prompt and first token again: {batches:?}");
}

#[test]
fn overlap_learns_of_ends_a_step_late() {
    let mut bench = Bench::new(r#"{"sglang": {"num_blocks": 500}}"#);
    // Ends by an end-of-sequence token, which nobody can know beforehand.
    let slot = bench.arrive(10, 3);
    bench.requests[slot].max_new_tokens = 8;
    assert_eq!(bench.step(), [(0, 10)]);
    bench.arrive(10, 3);
    assert_eq!(bench.step(), [(0, 1)], "put together before the second came");
    assert_eq!(bench.step(), [(1, 10)]);
    assert_eq!(bench.step(), [(0, 1), (1, 1)]);
    assert_eq!(bench.step(), [(0, 1), (1, 1)], "a token in vain");
    assert_eq!(bench.step(), []);
    assert!(bench.is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let bench = bench(r#", "num_blocks": 50, "block_size_tokens": 4"#);
    // 200 tokens: pages of the prompt, one page, one token.
    assert!(bench.fits_empty(100, 95) && !bench.fits_empty(100, 96));
    assert!(bench.fits_empty(97, 95) && !bench.fits_empty(200, 1));
}

#[test]
fn what_is_not_given_depends_on_the_device_and_its_cache() {
    assert_eq!(
        [16.0, 24.0, 40.0, 80.0, 141.0, 180.0].map(default_chunk),
        [2048, 4096, 4096, 8192, 8192, 16384]
    );
    let rules = Rules::new(&SglangSettings::default(), &ReplicaShape { max_request_tokens: 8192, ..SHAPE });
    let cap = |kv_tokens| rules.max_running_requests(kv_tokens);
    // 512 for each 8192 tokens of the cache, within bounds.
    assert_eq!([1000, 10_000, 40_000, 1_000_000].map(cap), [500, 2048, 2500, 4096]);
    let whole = SglangSettings { chunk_size_tokens: Some(0), ..SglangSettings::default() };
    assert_eq!(Rules::new(&whole, &SHAPE).chunk_size_tokens, None);
}

/// A replica under random load, looked at after each step.
struct Watched {
    scheduler: Sglang,
    replica: ReplicaState,
    requests: Requests,
}

impl Watched {
    fn check(&self) {
        let Some(state) = self.scheduler.state(&self.replica) else { return };
        let held = |slot: u32| {
            let known = &state.known[slot as usize];
            if known.in_memory { state.paged(known.cached_tokens) - known.in_tree } else { 0 }
        };
        let own: u32 = (0..state.known.len() as u32).map(held).sum();
        assert_eq!(
            own + state.tree.checked_tokens() + state.free_tokens,
            state.kv_tokens,
            "every token is somebody's"
        );
        assert_eq!(self.replica.kv.free, state.available_tokens() / state.page_tokens);
        let in_memory = state.known.iter().filter(|known| known.in_memory).count() as u32;
        assert_eq!(state.in_memory, in_memory);
        assert!(
            in_memory <= state.max_running_requests && in_memory <= self.replica.allocated,
            "{in_memory} of {}",
            self.replica.allocated
        );
        for &slot in self.replica.queue.iter() {
            assert_eq!(self.requests[slot].blocks, 0);
        }
    }

    fn step(&mut self) -> Vec<(Slot, u32)> {
        let mut batch = Batch::default();
        self.scheduler.form_batch(&mut self.replica, &mut self.requests, &mut batch);
        self.check();
        if batch.is_empty() {
            return Vec::new();
        }
        let mut distinct: Vec<Slot> = batch.entries.iter().map(|&(slot, _)| slot).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), batch.entries.len(), "nobody is in a batch twice");
        self.scheduler.look_ahead(&mut self.replica, &mut self.requests, &mut batch, f64::INFINITY);
        self.check();
        for &(slot, tokens) in &batch.entries {
            let request = &mut self.requests[slot];
            if !request.is_completed() {
                let before = request.processed_tokens;
                request.advance(tokens, 0.0);
                assert!(
                    request.processed_tokens <= request.total_tokens() && request.processed_tokens >= before
                );
            }
        }
        self.scheduler.end_batch(&mut self.replica, &mut self.requests, &batch);
        self.check();
        batch.entries
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the settings and the load: every token of the cache is accounted for, all are served, nothing
    /// is left behind.
    #[test]
    fn every_token_is_accounted_for(
        (page, kv_tokens, cap, chunk) in (prop::sample::select(vec![1_u32, 4, 16]), 200..900_u32, 1..12_u32, prop::sample::select(vec![0_u32, 16, 50, 300])),
        (mixed, caching, overlap, ignore_eos, priorities) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (conservativeness, interval, policy) in (0.05..2.0_f64, 0..3_u32, prop::sample::select(vec!["fcfs", "lpm", "lof"])),
        load in prop::collection::vec((1..120_u32, 1..50_u32, 0..60_u32, 0..6_u32, 0..4_u64, 0..30_i32), 1..25),
    ) {
        let settings: SglangSettings = serde_json::from_value(json!({
            "batch_size_cap": cap, "block_size_tokens": page, "num_blocks": kv_tokens / page, "chunk_size_tokens": chunk, "mixed_chunks": mixed,
            "prefix_caching": caching, "overlap": overlap, "conservativeness": conservativeness, "prefill_decode_interval": interval,
            "policy": policy, "max_prefill_tokens": 100, "priority_scheduling": priorities && policy != "lpm",
        })).unwrap();
        let kv = KvBlocks::new(kv_tokens / page, page, 0.0);
        let mut prefix = PrefixBlocks::new(10);
        let (mut wait, mut to_come) = (0, Vec::new());
        for (id, &(prefill, decode, spare, gap, group, priority)) in (0_u32..).zip(&load) {
            let ids: Vec<u64> = (0..u64::from(prefill.div_ceil(10))).map(|block| if block < 4 { group * 100 + block } else { u64::from(id) * 1000 + block }).collect();
            prefix.push(&ids, prefill);
            wait += gap;
            let request = Request { max_new_tokens: if ignore_eos { decode } else { decode + spare }, ignore_eos, priority, ..Request::new(id, 0.0, prefill, decode) };
            to_come.push((wait, request));
        }
        let mut requests = Requests::default();
        requests.know(Some(&prefix));
        let mut watched = Watched { scheduler: Sglang { rules: Rules::new(&settings, &SHAPE) }, replica: ReplicaState::new(kv), requests };
        to_come.retain(|(_, request)| watched.scheduler.fits_empty(&kv, request.prefill_tokens, request.decode_tokens));
        to_come.reverse();
        let (mut steps, mut rejected) = (0, 0);
        loop {
            while let Some((_, request)) = to_come.pop_if(|(at, _)| *at <= steps) {
                let slot = watched.requests.insert(request);
                watched.replica.queue.push_back(slot);
            }
            let ran = watched.step();
            while let Some(slot) = watched.replica.rejected.pop() {
                watched.requests.release(slot);
                rejected += 1;
            }
            steps += 1;
            prop_assert!(steps < 30_000, "no end");
            if ran.is_empty() && to_come.is_empty() {
                break;
            }
        }
        let left = (watched.requests.len(), watched.replica.queue.len(), watched.replica.allocated, watched.replica.kv.free);
        prop_assert_eq!(left, (0, 0, 0, kv.total));
        prop_assert!(rejected <= 1, "{} rejected", rejected);
    }

    /// Decodes that are skipped leave the same behind as those that are formed.
    #[test]
    fn skipped_decodes_are_decodes(page in prop::sample::select(vec![1_u32, 16]), lengths in prop::collection::vec((1..60_u32, 30..80_u32), 1..6), repeats in 0..20_u32) {
        let settings: SglangSettings = serde_json::from_value(json!({"block_size_tokens": page, "overlap": false})).unwrap();
        let told = [false, true].map(|skip| {
            let kv = KvBlocks::new(1000 / page, page, 0.0);
            let mut watched = Watched { scheduler: Sglang { rules: Rules::new(&settings, &SHAPE) }, replica: ReplicaState::new(kv), requests: Requests::default() };
            for (id, &(prefill, decode)) in (0..).zip(&lengths) {
                let slot = watched.requests.insert(Request::new(id, 0.0, prefill, decode));
                watched.replica.queue.push_back(slot);
            }
            watched.step();
            watched.step();
            if skip {
                watched.scheduler.skipped_decodes(&mut watched.replica, repeats);
            } else {
                (0..repeats).for_each(|_| drop(watched.step()));
            }
            let state: &State = watched.scheduler.state(&watched.replica).unwrap();
            let of = |slot: &Slot| (state.of(*slot).generated, state.of(*slot).cached_tokens);
            (state.free_tokens, state.reserved_share.to_bits(), state.running.iter().map(of).collect::<Vec<_>>())
        });
        prop_assert_eq!(&told[0], &told[1]);
    }
}
