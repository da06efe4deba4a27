mod given;

use super::super::bench::Bench;
use crate::workload::PrefixBlocks;

/// Blocks of 4 tokens and no asynchronous scheduling, unless told otherwise.
fn bench(more: &str) -> Bench {
    Bench::new(&format!(r#"{{"vllm_v1": {{"block_size_tokens": 4, "async_scheduling": false{more}}}}}"#))
}

fn with_prompts(more: &str, hash_tokens: u32, prompts: &[(&[u64], u32)]) -> Bench {
    let mut bench = bench(more);
    let mut prefix = PrefixBlocks::new(hash_tokens);
    prompts.iter().for_each(|(ids, tokens)| prefix.push(ids, *tokens));
    bench.requests.know(Some(&prefix));
    bench
}

#[test]
fn running_requests_come_first_and_share_the_budget() {
    let mut bench = bench(r#", "num_blocks": 100, "max_tokens_in_batch": 10"#);
    bench.arrive(4, 3);
    bench.arrive(20, 2);
    bench.arrive(3, 1);
    assert_eq!(bench.step(), [(0, 4), (1, 6)]);
    assert_eq!(bench.step(), [(0, 1), (1, 9)]);
    assert_eq!(bench.step(), [(0, 1), (1, 5), (2, 3)]);
    assert_eq!(bench.step(), [(1, 1)]);
    assert!(bench.is_empty());
}

#[test]
fn those_left_out_keep_their_turn() {
    let mut bench = bench(r#", "num_blocks": 100, "max_tokens_in_batch": 2"#);
    (0..3).for_each(|_| {
        bench.arrive(1, 3);
    });
    assert_eq!(bench.step(), [(0, 1), (1, 1)]);
    assert_eq!(bench.step(), [(0, 1), (1, 1)], "the budget is used up");
    assert_eq!(bench.step(), [(0, 1), (1, 1)]);
    assert_eq!(bench.step(), [(2, 1)]);
}

#[test]
fn the_latest_is_preempted_and_computed_again() {
    let mut bench = bench(r#", "num_blocks": 4"#);
    bench.arrive(7, 6);
    bench.arrive(7, 6);
    assert_eq!(bench.step(), [(0, 7), (1, 7)]);
    assert_eq!(bench.step(), [(0, 1), (1, 1)]);
    // Both want a third block; the second gives its own.
    assert_eq!(bench.step(), [(0, 1)]);
    assert_eq!(bench.replica.queue.len(), 1);
    let batches = bench.drain();
    assert_eq!(batches.last().unwrap(), &[(1, 1)]);
    assert!(
        batches.contains(&vec![(1, 5)]),
        "prompt and what was generated, less a block that is still cached: {batches:?}"
    );
    assert!(bench.is_empty());
}

#[test]
fn a_prompt_gets_blocks_as_it_is_computed() {
    let mut bench = bench(r#", "num_blocks": 10, "max_tokens_in_batch": 8"#);
    bench.arrive(20, 2);
    bench.step();
    assert_eq!(bench.replica.kv.free, 8);
    bench.step();
    assert_eq!(bench.replica.kv.free, 6);
    bench.drain();
    assert!(bench.is_empty());
}

#[test]
fn cached_beginnings_are_not_computed_again() {
    // Two prompts begin with the same 8 tokens, the third is the first again.
    let mut bench =
        with_prompts(r#", "num_blocks": 100"#, 4, &[(&[1, 2, 3], 12), (&[1, 2, 9, 8], 14), (&[1, 2, 3], 12)]);
    bench.arrive(12, 1);
    assert_eq!(bench.step(), [(0, 12)]);
    bench.arrive(14, 1);
    assert_eq!(bench.step(), [(1, 6)]);
    bench.arrive(12, 1);
    assert_eq!(bench.step(), [(2, 4)], "the block with the last token is computed anew");
    assert!(bench.is_empty());
}

#[test]
fn what_is_being_computed_counts_as_cached() {
    let mut bench = with_prompts(r#", "num_blocks": 100"#, 8, &[(&[1, 2], 16), (&[1, 2], 15)]);
    bench.arrive(16, 2);
    bench.arrive(15, 2);
    assert_eq!(bench.step(), [(0, 16), (1, 3)]);
    // Four blocks of the first; three shared and one of its own for the second.
    assert_eq!(bench.replica.kv.free, 95);
    bench.drain();
    assert!(bench.is_empty());
}

#[test]
fn the_longest_unused_are_overwritten_from_their_end() {
    // A cache of 6 blocks: two prompts of 3 blocks fill it, a third takes the last 2 blocks of the first.
    let prompts: &[(&[u64], u32)] = &[(&[1], 12), (&[2], 12), (&[3], 8), (&[1], 13), (&[2], 13)];
    let mut bench = with_prompts(r#", "num_blocks": 6"#, 12, prompts);
    for (tokens, computed) in [(12, 12), (12, 12), (8, 8), (13, 9)] {
        bench.arrive(tokens, 1);
        assert_eq!(bench.step().last().unwrap().1, computed);
    }
    assert!(bench.is_empty());
}

#[test]
fn hash_blocks_need_not_fit_blocks() {
    // Hash blocks of 6 tokens, blocks of 4: the first 12 tokens are 3 blocks, of which 1 and 3 end in the
    // hash blocks alike.
    let mut bench =
        with_prompts(r#", "num_blocks": 100"#, 6, &[(&[1, 2, 3], 17), (&[1, 9], 12), (&[1, 2, 3], 17)]);
    bench.arrive(17, 1);
    bench.step();
    bench.arrive(12, 1);
    assert_eq!(bench.step(), [(1, 8)]);
    bench.arrive(17, 1);
    assert_eq!(bench.step(), [(2, 1)]);
    assert!(bench.is_empty());
}

#[test]
fn without_prefix_caching_everything_is_computed() {
    let mut bench = with_prompts(
        r#", "num_blocks": 100, "prefix_caching": false"#,
        4,
        &[(&[1, 2, 3], 12), (&[1, 2, 3], 12)],
    );
    for id in 0..2 {
        bench.arrive(12, 1);
        assert_eq!(bench.step(), [(id, 12)]);
    }
}

#[test]
fn asynchronous_scheduling_sees_a_request_one_step_later() {
    // On the bench request i arrives at i s, and says so itself; batches are told when the one before them
    // started.
    let mut bench = Bench::new(r#"{"vllm_v1": {"num_blocks": 100}}"#);
    bench.arrive(10, 9);
    assert_eq!(bench.step(), [(0, 10)], "an idle replica begins at once");
    bench.replica.batch_started_at_s = 0.5;
    bench.arrive(10, 9);
    assert_eq!(bench.step(), [(0, 1)], "it arrived after the batch before had started");
    bench.replica.batch_started_at_s = 1.5;
    assert_eq!(bench.step(), [(0, 1), (1, 10)]);
}

#[test]
fn a_watermark_keeps_blocks_free_while_others_run() {
    // Of 10 blocks 1 in 5 (vLLM counts its null block: 2.2 of 11) stays free: the second prompt would leave
    // one.
    let mut bench = bench(r#", "num_blocks": 10, "watermark": 0.2"#);
    bench.arrive(16, 3);
    bench.arrive(20, 1);
    assert_eq!(bench.step(), [(0, 16)]);
    assert_eq!(bench.step(), [(0, 1)]);
    assert_eq!(bench.step(), [(0, 1)]);
    assert_eq!(bench.step(), [(1, 20)]);
    assert!(bench.is_empty());
}

#[test]
fn fewer_may_run_than_have_places() {
    let mut bench = bench(r#", "num_blocks": 100, "max_num_active_seqs": 1"#);
    bench.arrive(4, 2);
    bench.arrive(4, 1);
    assert_eq!(bench.drain(), [[(0, 4)], [(0, 1)], [(1, 4)]]);
}

#[test]
fn a_long_prompt_leaves_room_for_others_but_not_for_nobody() {
    let mut bench = bench(
        r#", "num_blocks": 100, "max_tokens_in_batch": 20, "batch_size_cap": 8, "long_prefill_token_threshold": 6"#,
    );
    bench.arrive(30, 1);
    assert_eq!(bench.step(), [(0, 20)], "alone");
    bench.arrive(8, 1);
    assert_eq!(bench.step(), [(0, 6), (1, 6)]);
    assert_eq!(bench.step(), [(0, 4), (1, 2)]);
    assert!(bench.is_empty());
}

#[test]
fn prompts_are_computed_every_few_steps() {
    let mut bench = bench(r#", "num_blocks": 100, "prefill_schedule_interval": 3"#);
    bench.arrive(4, 9);
    assert_eq!(bench.step(), [(0, 4)]);
    bench.arrive(5, 1);
    assert_eq!(bench.step(), [(0, 1)]);
    assert_eq!(bench.step(), [(0, 1)]);
    assert_eq!(bench.step(), [(0, 1), (1, 5)]);
}

#[test]
fn the_first_by_priority_is_admitted_first_and_the_last_preempted() {
    let mut bench =
        bench(r#", "num_blocks": 6, "prefix_caching": false, "batch_size_cap": 2, "policy": "priority""#);
    bench.arrive(8, 9);
    bench.arrive(9, 2);
    let urgent = bench.arrive(7, 9);
    bench.requests[urgent].priority = 1;
    assert_eq!(bench.step(), [(2, 7), (0, 8)], "the urgent one first, then in order of arrival");
    let batches = bench.drain();
    // The urgent one and the first need 4 and 4 of 6 blocks: the first has to go, although it was scheduled
    // in the same step.
    let last_of_urgent = batches.iter().rposition(|batch| batch.iter().any(|&(id, _)| id == 2)).unwrap();
    assert_eq!(
        batches[..=last_of_urgent].iter().filter(|batch| batch.iter().any(|&(id, _)| id == 2)).count(),
        8,
        "it never starts over"
    );
    assert!(
        batches.iter().any(|batch| batch.iter().any(|&(id, tokens)| id == 0 && tokens > 8)),
        "{batches:?}"
    );
    assert!(bench.is_empty());
}

#[test]
fn a_full_queue_lets_nobody_in() {
    let bench = bench(r#", "num_blocks": 100, "max_num_queued_reqs": 1"#);
    assert!(bench.lets_in());
    let mut bench = bench;
    bench.arrive(4, 2);
    assert!(!bench.lets_in());
    let mut bench = super::tests::bench(r#", "num_blocks": 100, "max_num_queued_tokens": 10"#);
    bench.arrive(9, 3);
    assert!(bench.lets_in(), "the limit holds for what is there");
    bench.arrive(9, 3);
    assert!(!bench.lets_in());
    bench.step();
    assert!(bench.lets_in(), "both have their first token");
}

#[test]
fn drafted_tokens_count_towards_budget_and_blocks() {
    let speculative = |rate: f64, more: &str| {
        format!(
            r#", "num_blocks": 20, "speculative": {{"num_speculative_tokens": 3, "acceptance_rate": {rate}, "draft_time_fraction": 0.5{more}}}"#
        )
    };
    let mut one = bench(&speculative(1.0, ""));
    one.arrive(8, 10);
    assert_eq!(one.step(), [(0, 8)]);
    assert_eq!(one.replica.kv.free, 17, "blocks for 8 tokens and those drafted after them");
    assert_eq!(one.step(), [(0, 4)], "all are accepted");
    assert_eq!(one.step(), [(0, 4)]);
    assert_eq!(one.step(), [(0, 1)], "no more than were asked for");
    assert!(one.is_empty());
    let mut one = bench(&speculative(0.0, r#", "drafter": "ngram""#));
    one.arrive(8, 3);
    one.step();
    assert_eq!(one.replica.kv.free, 18);
    assert_eq!(one.drain(), [[(0, 1)], [(0, 1)]], "none is");
    let mut full =
        bench(&format!(r#"{}, "max_tokens_in_batch": 6, "batch_size_cap": 4"#, speculative(1.0, "")));
    full.arrive(2, 9);
    full.arrive(2, 9);
    assert_eq!(full.step(), [(0, 2), (1, 2)]);
    assert_eq!(full.step(), [(0, 4), (1, 2)], "a budget of 6 has room for one token drafted for the second");
}

#[test]
fn what_the_device_has_overwritten_comes_back_from_the_host() {
    let prompts: [(&[u64], u32); 3] = [(&[1, 2, 3, 4], 17), (&[11, 12, 13, 14], 17), (&[1, 2, 3, 4], 17)];
    let third = |more: &str| {
        let mut bench = with_prompts(&format!(r#", "num_blocks": 5{more}"#), 4, &prompts);
        for _ in 0..2 {
            bench.arrive(17, 1);
            assert_eq!(bench.step()[0].1, 17);
        }
        bench.arrive(17, 1);
        let computed = bench.step()[0].1;
        assert!(bench.is_empty());
        computed
    };
    assert_eq!(third(""), 17);
    assert_eq!(
        third(r#", "kv_offloading": {"size_gib": 1}"#),
        1,
        "all but the last token, which yields the next one"
    );
    // A block takes 4 MB: there is room for six, and the second prompt has the first four of them.
    assert_eq!(third(r#", "kv_offloading": {"size_gib": 0.0225}"#), 9);
}
