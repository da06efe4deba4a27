use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::hardware::{AnalyticalSettings, Deployment, ExecutionTimeSettings, Files};

/// Step times by measured tables, and by formulas.
static TIMES: LazyLock<[ExecutionTime; 2]> = LazyLock::new(|| {
    let files = Files::default();
    let deployment =
        Deployment::resolve("meta-llama/Meta-Llama-3-70B", "a100_pairwise_nvlink", 4, 1, &files).unwrap();
    let analytical = ExecutionTimeSettings::Analytical(AnalyticalSettings::default());
    [ExecutionTimeSettings::default(), analytical]
        .map(|settings| ExecutionTime::load(&settings, &deployment, &files).unwrap())
});

/// A run of requests that have so many tokens and generate so many more, on so many blocks beyond their own.
fn started(
    requests: &[(u32, u32)],
    block_size_tokens: u32,
    spare_blocks: u32,
    times: &ExecutionTime,
) -> DecodeRun {
    let needed: u32 = requests.iter().map(|&(tokens, _)| tokens.div_ceil(block_size_tokens)).sum();
    let mut replica = ReplicaState::new(KvBlocks::new(needed + spare_blocks, block_size_tokens, 0.0));
    let (mut known, mut batch) = (Requests::default(), Batch::default());
    for (id, &(tokens, left)) in (0..).zip(requests) {
        let mut request = Request::new(id, 0.0, tokens, left + 1);
        request.advance(tokens, 0.0);
        let blocks = replica.kv.blocks_for(tokens);
        replica.allocate(&mut request, blocks);
        let slot = known.insert(request);
        batch.add_decode(slot, &known[slot]);
    }
    let mut run = DecodeRun::default();
    run.start(0.5, &batch, (&replica, &known), u32::MAX, false, times);
    run
}

proptest! {
    /// Whoever settles a part of a stretch, or cuts it, finds what was foreseen of it. The twin works it out again: a
    /// copy keeps nothing of what is foreseen.
    #[test]
    fn what_is_foreseen_is_what_comes(
        requests in prop::collection::vec((1_u32..3000, 1_u32..300), 1..40),
        block_size_tokens in prop::sample::select(vec![1_u32, 16, 17, 32]),
        spare_blocks in prop::sample::select(vec![1_u32, 30, 400, 100_000]),
        shares in prop::collection::vec(0.0..1.3_f64, 1..30),
        later in 0_u32..3,
        by_formulas in any::<bool>(),
    ) {
        let times = &TIMES[usize::from(by_formulas)];
        let mut run = started(&requests, block_size_tokens, spare_blocks, times);
        run.look_ahead(times);
        for share in shares {
            let mut twin = run.clone();
            // Now and then exactly where an iteration ends.
            let until_s = if share < 0.2 {
                run.each.iterate(run.settled, times, f64::INFINITY, run.settled.iterations + 1, |_, _| {})[0].at_s
            } else {
                run.settled.at_s + share * (run.ahead.at_s - run.settled.at_s)
            };
            let (mut ended, mut by_twin) = (Vec::new(), Vec::new());
            run.settle(times, until_s, 0, Some(|from_s, to_s| ended.push((from_s, to_s))));
            twin.settle(times, until_s, 0, Some(|from_s, to_s| by_twin.push((from_s, to_s))));
            prop_assert_eq!((&run, ended), (&twin, by_twin));
            if run.settled.iterations == run.ahead.iterations {
                if run.ends_ahead() {
                    return Ok(());
                }
                run.look_ahead(times);
            }
        }
        let last = (run.settled.iterations + 1 + later).min(run.ahead.iterations);
        let is_foreseen = run.foreseen.between(run.settled.iterations, last).is_some();
        let last = if is_foreseen { last } else { run.settled.iterations + 1 };
        let [expected, before] = run.each.iterate(run.settled, times, f64::INFINITY, last, |_, _| {});
        prop_assert_eq!(run.cut(times, later), (expected.at_s, expected.previous_at_s));
        prop_assert_eq!(run.ahead, expected);
        prop_assert!(run.ends_ahead());
        run.settle(times, f64::INFINITY, 1, None::<fn(f64, f64)>);
        prop_assert_eq!(run.settled.iterations, before.iterations);
        prop_assert_eq!(run.settled.at_s, before.at_s);
    }
}
