//! Fleets of several pools: nothing is lost on the way, and pools that have nothing to do with each other are
//! as two runs.

use proptest::prelude::*;
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::settings::Faults;
use scalefront::simulation::{
    ClusterSettings, Detail, FleetInputs, RunInputs, RunMetrics, Workspace, simulate_fleet,
    simulate_fleet_in_detail, simulate_in_detail,
};
use scalefront::workload::{Workload, WorkloadSpec, load};
use serde_json::{Value, json};

use super::golden::assert_runs_agree;

/// Small replicas whose steps are computed.
fn base() -> Value {
    json!({
        "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "tensor_parallel": 1, "execution_time": "analytical",
        "max_request_tokens": 4096, "scale_up_delay_s": 0.5, "tune_interval_s": 1, "min_replicas": 1, "max_replicas": 4,
        "replica_scheduler": {"vllm_v1": {"max_tokens_in_batch": 2048, "batch_size_cap": 8, "num_blocks": 1024, "prefix_caching": false,
                                          "async_scheduling": false}},
    })
}

fn with(mut cluster: Value, more: Value) -> Value {
    cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cluster
}

fn apart() -> Value {
    with(
        base(),
        json!({"pools": [{"name": "p", "role": "prefill"}, {"name": "d", "role": "decode"}], "kv_transfer": {"bandwidth_gb_per_s": 10}}),
    )
}

fn parse(cluster: &Value) -> ClusterSettings {
    let cluster: ClusterSettings = serde_json::from_value(cluster.clone()).unwrap();
    let cluster = cluster.with_pools().unwrap().on_its_device();
    let mut faults = Faults::default();
    cluster.check(&mut faults);
    assert_eq!(faults.found, []);
    cluster
}

fn times(cluster: &ClusterSettings) -> Vec<ExecutionTime> {
    let files = Files::default();
    let of = |pool: &ClusterSettings| {
        let deployment = Deployment::resolve(
            &pool.model,
            &pool.node,
            pool.tensor_parallel,
            pool.pipeline_parallel,
            &files,
        )
        .unwrap();
        ExecutionTime::load(&pool.execution_time, &deployment, &files).unwrap()
    };
    cluster.parts().into_iter().map(of).collect()
}

/// A run of a fleet, once quickly and once recorded, which have to agree.
fn run(cluster: &Value, policy: &Value, workload: &Workload, seed: u64) -> (RunMetrics, Detail) {
    let cluster = parse(cluster);
    let policy: AutoscalerSettings = serde_json::from_value(policy.clone()).unwrap();
    let times = times(&cluster);
    let times: Vec<&ExecutionTime> = times.iter().collect();
    let inputs = FleetInputs::new(workload, &cluster, &policy, &times, seed).unwrap();
    let mut workspace = Workspace::default();
    let (recorded, detail) = simulate_fleet_in_detail(&inputs, &mut workspace).unwrap();
    let quick = simulate_fleet(&inputs, &mut workspace).unwrap();
    // The twin takes no shortcuts: where a run of decodes goes on, it ends a batch and forms the next.
    let mut queued = inputs.clone();
    queued.pools.iter_mut().for_each(|pool| pool.queue_every_step = true);
    assert_eq!(simulate_fleet(&queued, &mut workspace).unwrap(), quick);
    let mut stepping = inputs.clone();
    stepping.pools.iter_mut().for_each(|pool| pool.stepping = true);
    assert_runs_agree(&simulate_fleet(&stepping, &mut workspace).unwrap(), &quick);
    let close = |one: f64, other: f64| (one - other).abs() <= 1e-9 * one.abs().max(1.0);
    assert_eq!((quick.num_completed, quick.num_restarts), (recorded.num_completed, recorded.num_restarts));
    assert!(
        close(quick.e2e_s.unwrap().mean, recorded.e2e_s.unwrap().mean),
        "{:?} {:?}",
        quick.e2e_s,
        recorded.e2e_s
    );
    assert!(
        close(quick.ttft_s.unwrap().max, recorded.ttft_s.unwrap().max),
        "{:?} {:?}",
        quick.ttft_s,
        recorded.ttft_s
    );
    assert!(close(quick.total_cost_usd, recorded.total_cost_usd));
    assert!(close(quick.mean_kv_use, recorded.mean_kv_use), "{} {}", quick.mean_kv_use, recorded.mean_kv_use);
    assert_eq!(quick.max_kv_use, recorded.max_kv_use);
    (recorded, detail)
}

fn requests(list: &[(f64, u32, u32)]) -> Workload {
    let mut workload = Workload::default();
    list.iter().for_each(|&(arrived_at_s, prefill_tokens, decode_tokens)| {
        workload.push(arrived_at_s, prefill_tokens, decode_tokens)
    });
    workload
}

fn one_replica() -> Value {
    json!({"static": {"replicas": 1}})
}

/// Room that is held for a KV cache which nobody will read is given back in the midst of a run of decodes; how
/// much was in use until then is counted once.
#[test]
fn room_that_is_given_back_is_counted_once() {
    let early = with(
        apart(),
        json!({"kv_transfer": {"bandwidth_gb_per_s": 10, "first_token": "handoff", "reserve": "arrival"}}),
    );
    let workload = requests(&[(0.0, 500, 600), (2.0, 3000, 1), (3.0, 3000, 1), (3.1, 2000, 1)]);
    let (metrics, _) = run(&early, &one_replica(), &workload, 1);
    assert!(metrics.num_completed == 4 && metrics.pools[1].parked_kv_use > 0.0);
}

/// Prefill, transfer and first step of a lone request add up to its time to first token.
#[test]
fn a_lone_request_goes_prefill_transfer_decode() {
    let workload = requests(&[(1.0, 1000, 10)]);
    let (metrics, detail) = run(&apart(), &one_replica(), &workload, 1);
    let request = &detail.requests[0];
    let hops = request.hops.unwrap();
    let (end_s, start_s, there_s) =
        (hops.prefill_end_s.unwrap(), hops.transfer_start_s.unwrap(), hops.transfer_end_s.unwrap());
    assert_eq!(
        (hops.pool, hops.decode_pool, start_s),
        (0, Some(1), end_s),
        "an idle replica has room at once"
    );
    // 131,072 bytes a token.
    assert!((there_s - start_s - 1000.0 * 131_072.0 / 10e9).abs() < 1e-12, "{}", there_s - start_s);
    let decodes: Vec<_> =
        detail.pools[1].batches.iter().map(|batch| (batch.scheduled_at_s, batch.decode_tokens)).collect();
    assert_eq!(decodes.len(), 10, "every token comes from a step of the decode replica");
    assert_eq!(decodes[0], (there_s, 1));
    assert_eq!(request.first_token_at_s, Some(detail.pools[1].batches[0].completed_at_s));
    assert_eq!(detail.pools[0].batches.len(), 1);
    let fleet = metrics.fleet.unwrap();
    assert_eq!((fleet.transfers, fleet.max_devices), (Some(1), 2));
    assert!((fleet.transfer_gb.unwrap() - 0.131_072).abs() < 1e-12);
    assert!(metrics.pools[0].kept_kv_use > 0.0 && metrics.pools[1].parked_kv_use > 0.0);
    // The first token comes with the KV cache: one step less.
    let handoff = with(apart(), json!({"kv_transfer": {"bandwidth_gb_per_s": 10, "first_token": "handoff"}}));
    let (_, detail) = run(&handoff, &one_replica(), &workload, 1);
    assert_eq!(detail.requests[0].first_token_at_s, Some(there_s));
    assert_eq!(detail.pools[1].batches.len(), 9);
    // Without a bandwidth the KV cache is there at once.
    let mut instant = apart();
    instant.as_object_mut().unwrap().remove("kv_transfer");
    let (_, detail) = run(&instant, &one_replica(), &workload, 1);
    assert_eq!(detail.pools[1].batches[0].scheduled_at_s, end_s);
}

/// With room taken on arrival nothing of a lone request comes later, but its blocks are held while its prompt
/// is computed; and whoever finds no room on a decode replica does not begin.
#[test]
fn room_may_be_taken_on_arrival() {
    let early = |cluster: Value| {
        let mut cluster = cluster;
        cluster["kv_transfer"]["reserve"] = json!("arrival");
        cluster
    };
    let workload = requests(&[(1.0, 1000, 10)]);
    let (late, seen_late) = run(&apart(), &one_replica(), &workload, 1);
    let (metrics, detail) = run(&early(apart()), &one_replica(), &workload, 1);
    assert_eq!(detail.requests, seen_late.requests);
    let hops = detail.requests[0].hops.unwrap();
    let (held_s, moves_s) =
        (hops.transfer_end_s.unwrap() - 1.0, hops.transfer_end_s.unwrap() - hops.transfer_start_s.unwrap());
    let ratio = metrics.pools[1].parked_kv_use / late.pools[1].parked_kv_use;
    assert!((ratio - held_s / moves_s).abs() < 1e-9 * ratio, "{ratio} {held_s} {moves_s}");
    // Without a bandwidth, too, the KV cache comes when the prompt is done.
    let mut instant = apart();
    instant["kv_transfer"] = json!({});
    let (_, one) = run(&instant, &one_replica(), &workload, 1);
    let (_, other) = run(&early(instant), &one_replica(), &workload, 1);
    assert_eq!(one.requests, other.requests);
    // One prompt fits on the decode replica at a time: the second is computed when the first has been
    // answered, not before.
    let small = json!({"vllm_v1": {"max_tokens_in_batch": 2048, "batch_size_cap": 8, "num_blocks": 70, "prefix_caching": false,
                                   "async_scheduling": false}});
    let narrow = with(
        apart(),
        json!({"pools": [{"name": "p", "role": "prefill"}, {"name": "d", "role": "decode", "replica_scheduler": small}]}),
    );
    let two = requests(&[(1.0, 1000, 10), (1.0, 1000, 10)]);
    let (_, detail) = run(&early(narrow), &one_replica(), &two, 1);
    let (first, second) = (&detail.requests[0], &detail.requests[1]);
    assert!(second.scheduled_at_s.unwrap() >= first.completed_at_s.unwrap(), "{first:?} {second:?}");
}

/// What is not cached on the replica that would be chosen is missing, whatever another one has.
#[test]
fn the_decider_looks_at_the_replica_that_would_be_chosen() {
    let mut cluster = apart();
    for pool in 0..2 {
        cluster["pools"][pool]["replica_scheduler"] = json!({"vllm_v1": {"max_tokens_in_batch": 2048, "num_blocks": 1024, "prefix_caching": true, "async_scheduling": false}});
    }
    cluster["pd_decider"] = json!({"prefix_based": {"non_cached_tokens": 200}});
    // Two conversations, whose turns come one after the other: with sessions kept together each finds its own
    // on its replica; in turn, the third request comes to where the second was.
    let spec = json!({"name": "s", "sessions": {"starts": {"static": {"rate_per_s": 0.5, "duration_s": 2}}, "turns": {"fixed": {"turns": 4}},
        "think_time_s": 8, "lengths": {"fixed": {"prefill_tokens": 160, "decode_tokens": 8}},
        "first_lengths": {"fixed": {"prefill_tokens": 800, "decode_tokens": 8}}}});
    let spec: WorkloadSpec = serde_json::from_value(spec).unwrap();
    let workload = load(&spec, 1, &[]).unwrap();
    let share = |router: &str| {
        let mut cluster = cluster.clone();
        cluster["pools"][1]["global_scheduler"] = json!(router);
        let (metrics, _) = run(
            &cluster,
            &json!({"per_pool": {"p": one_replica(), "d": {"static": {"replicas": 3}}}}),
            &workload,
            1,
        );
        metrics.fleet.unwrap().local_prefill_share.unwrap()
    };
    let (kept, in_turn) = (share("session_affinity"), share("round_robin"));
    assert!(kept > 0.7 && in_turn < kept, "{kept} {in_turn}");
}

/// The same where decodes take the blocks in which prompts lay: what they have taken so far counts.
#[test]
fn the_decider_knows_what_runs_of_decodes_have_taken() {
    let spec = json!({"name": "s", "sessions": {"starts": {"poisson": {"rate_per_s": 1.5, "duration_s": 30}}, "turns": {"fixed": {"turns": 3}},
        "think_time_s": 1, "lengths": {"fixed": {"prefill_tokens": 120, "decode_tokens": 250}},
        "first_lengths": {"fixed": {"prefill_tokens": 500, "decode_tokens": 250}}}});
    let spec: WorkloadSpec = serde_json::from_value(spec).unwrap();
    let policy = json!({"per_pool": {"p": one_replica(), "d": one_replica()}});
    let mut local = 0.0;
    for seed in 0..12 {
        let mut cluster = apart();
        for pool in 0..2 {
            cluster["pools"][pool]["replica_scheduler"] = json!({"vllm_v1": {
                "max_tokens_in_batch": 2048, "batch_size_cap": 16, "num_blocks": 300 + 20 * seed, "prefix_caching": true}});
        }
        cluster["pd_decider"] = json!({"prefix_based": {"non_cached_tokens": 140}});
        let workload = load(&spec, seed, &[]).unwrap();
        let (metrics, _) = run(&cluster, &policy, &workload, seed);
        local += metrics.fleet.unwrap().local_prefill_share.unwrap() / 12.0;
    }
    assert!(local > 0.05 && local < 0.6, "{local}");
}

/// Asked at the very moment at which a step ends, it finds what there was during that step.
#[test]
fn the_decider_may_ask_where_a_step_ends() {
    let cluster = with(
        apart(),
        json!({"replica_scheduler": {"vllm_v1": {"max_tokens_in_batch": 2048, "num_blocks": 1024, "prefix_caching": true}},
                                      "pd_decider": {"prefix_based": {"non_cached_tokens": 140}}}),
    );
    let first = [(0.0, 400, 60), (0.1, 300, 40)];
    let (_, detail) = run(&cluster, &one_replica(), &requests(&first), 1);
    let ends =
        detail.batches.iter().filter(|batch| batch.decode_tokens > 0).map(|batch| batch.completed_at_s);
    for end_s in ends.filter(|&end_s| end_s > 0.1) {
        run(&cluster, &one_replica(), &requests(&[first[0], first[1], (end_s, 200, 20)]), 1);
    }
}

/// Prompts are left to the decode pool while too many wait for the other.
#[test]
fn a_busy_prefill_replica_is_passed_by() {
    let with_decider = |decider: Value| with(apart(), json!({"pd_decider": decider}));
    let burst = requests(&[(1.0, 2000, 4); 8]);
    let share = |tokens: u64| {
        let (metrics, _) =
            run(&with_decider(json!({"prefill_load": {"queued_tokens": tokens}})), &one_replica(), &burst, 1);
        metrics.fleet.unwrap().local_prefill_share.unwrap()
    };
    assert_eq!(share(1_000_000), 0.0);
    let some = share(4000);
    assert!(some > 0.0 && some < 1.0, "{some}");
}

/// A decode replica without room lets prompts wait, and their KV caches stay where they were computed.
#[test]
fn a_full_decode_replica_holds_prefill_back() {
    let small = json!({"vllm_v1": {"max_tokens_in_batch": 2048, "batch_size_cap": 8, "num_blocks": 70, "prefix_caching": false,
                                   "async_scheduling": false}});
    let cluster = with(
        apart(),
        json!({"pools": [{"name": "p", "role": "prefill", "replica_scheduler": small},
                                                 {"name": "d", "role": "decode", "replica_scheduler": small}]}),
    );
    let workload = requests(&[(0.0, 1000, 60), (0.0, 1000, 60), (0.0, 1000, 60)]);
    let (metrics, detail) = run(&cluster, &one_replica(), &workload, 1);
    assert_eq!((metrics.num_completed, metrics.num_restarts), (3, 0));
    let hops: Vec<_> = detail.requests.iter().map(|request| request.hops.unwrap()).collect();
    for (before, after) in hops.iter().zip(&hops[1..]) {
        // 63 of 70 blocks are taken, on either side: the next prompt is begun once the KV cache of the one
        // before has gone.
        assert!(after.prefill_end_s > before.transfer_end_s, "{before:?} {after:?}");
    }
    let done = |i: usize| detail.requests[i].completed_at_s.unwrap();
    assert!(hops[1].transfer_start_s.unwrap() >= done(0) && hops[2].transfer_start_s.unwrap() >= done(1));
}

#[test]
fn transfers_share_links_if_told_to() {
    let workload = requests(&[(0.0, 1000, 2), (0.0, 1000, 2)]);
    let took = |contention: &str| {
        let cluster = with(
            apart(),
            json!({"kv_transfer": {"bandwidth_gb_per_s": 1, "overhead_ms": 5, "contention": contention}}),
        );
        let (_, detail) = run(&cluster, &one_replica(), &workload, 1);
        let hops = detail.requests[1].hops.unwrap();
        hops.transfer_end_s.unwrap() - hops.transfer_start_s.unwrap()
    };
    let alone_s = 0.005 + 1000.0 * 131_072.0 / 1e9;
    assert!((took("none") - alone_s).abs() < 1e-9);
    assert!((took("shared") - (2.0 * alone_s - 0.005)).abs() < 1e-9);
}

/// One pool under `pools` is what it is without.
#[test]
fn one_pool_is_as_no_pools() {
    let workload = arrivals(200, 8.0, 3);
    for policy in [one_replica(), json!({"hpa": {"metric": "queued_requests", "target_per_replica": 2}})] {
        let cluster = parse(&base());
        let times = times(&cluster);
        let settings: AutoscalerSettings = serde_json::from_value(policy.clone()).unwrap();
        let inputs = RunInputs::new(&workload, &cluster, &settings, &times[0], 5).unwrap();
        let (alone, detail) = simulate_in_detail(&inputs, &mut Workspace::default()).unwrap();
        let (metrics, of_fleet) =
            run(&with(base(), json!({"pools": [{"name": "all"}]})), &policy, &workload, 5);
        assert_eq!(RunMetrics { fleet: None, pools: Vec::new(), ..metrics }, alone);
        assert_eq!(
            (of_fleet.batches, of_fleet.replicas, of_fleet.tunes),
            (detail.batches, detail.replicas, detail.tunes)
        );
    }
}

fn arrivals(number: u32, rate_per_s: f64, seed: u64) -> Workload {
    let spec: WorkloadSpec = serde_json::from_value(json!({"name": "w", "generate": {
        "arrivals": {"poisson": {"phases": [{"rate_per_s": rate_per_s, "duration_s": f64::from(number) / rate_per_s}]}},
        "lengths": {"lognormal": {"prefill": {"median_tokens": 400, "sigma": 0.9, "max_tokens": 2500},
                                  "decode": {"median_tokens": 20, "sigma": 0.8, "max_tokens": 200}}}}}))
    .unwrap();
    load(&spec, seed, &[]).unwrap()
}

/// Short prompts go to one pool and long ones to the other: two runs of their own, to the bit.
#[test]
fn pools_that_share_nothing_are_two_runs() {
    let mut workload = arrivals(1200, 80.0, 4);
    // Both end then, be they together or not, and not with a tick of a policy.
    workload.duration_s = Some(workload.duration_s.unwrap().max(60.0) + 37.3);
    let pools = json!([
        {"name": "short", "max_replicas": 3},
        {"name": "long", "replica_scheduler": {"vllm_v1": {"max_tokens_in_batch": 1024, "batch_size_cap": 4, "num_blocks": 600,
                                                           "prefix_caching": false}}},
    ]);
    let cluster = with(
        base(),
        json!({"pools": pools, "pool_router": {"length": {"below_tokens": 400, "pool": "short"}}}),
    );
    let policy = json!({"schedule": {"period_s": 9, "steps": [{"at_s": 0, "replicas": 1}, {"at_s": 2, "replicas": 4}, {"at_s": 6, "replicas": 2}]}});
    let (metrics, together) = run(&cluster, &policy, &workload, 1);
    assert!(metrics.scale_ups > 0 && metrics.scale_downs > 0, "{metrics:?}");
    let whole = parse(&cluster);
    let times = times(&whole);
    let settings: AutoscalerSettings = serde_json::from_value(policy).unwrap();
    let mut cost = 0.0;
    for (number, is_short) in [(0, true), (1, false)] {
        let mut own = Workload { duration_s: workload.duration_s, ..Workload::default() };
        let of_pool: Vec<usize> =
            (0..workload.len()).filter(|&i| (workload.prefill_tokens[i] < 400) == is_short).collect();
        of_pool.iter().for_each(|&i| {
            own.push(workload.arrived_at_s[i], workload.prefill_tokens[i], workload.decode_tokens[i])
        });
        let inputs =
            RunInputs::new(&own, whole.pools[number].settings(), &settings, &times[number], 1).unwrap();
        let (alone, detail) = simulate_in_detail(&inputs, &mut Workspace::default()).unwrap();
        let pool = &together.pools[number];
        assert_eq!(
            (&pool.batches, &pool.replicas, &pool.tunes),
            (&detail.batches, &detail.replicas, &detail.tunes)
        );
        for (&i, record) in of_pool.iter().zip(&detail.requests) {
            let found = &together.requests[i];
            assert_eq!(
                (found.first_token_at_s, found.completed_at_s),
                (record.first_token_at_s, record.completed_at_s)
            );
        }
        assert_eq!(metrics.pools[number].run, alone);
        cost += alone.total_cost_usd;
    }
    assert_eq!(metrics.total_cost_usd, cost);
}

/// A fleet as a test may draw it.
fn any_fleet() -> impl Strategy<Value = (Value, Value, u64)> {
    let transfer = prop_oneof![
        1 => Just(json!(null)),
        1 => Just(json!({"reserve": "arrival"})),
        6 => (1_u32..40, 0_u32..40, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(gb, ms, shared, handoff, full, early)| json!({
            "bandwidth_gb_per_s": gb, "overhead_ms": ms, "contention": if shared { "shared" } else { "none" },
            "first_token": if handoff { "handoff" } else { "decode_step" }, "sends": if full { "full_prompt" } else { "missing" },
            "reserve": if early { "arrival" } else { "transfer" },
        })),
    ];
    let decider = prop_oneof![
        4 => Just(json!("always")),
        1 => Just(json!("never")),
        2 => (100_u32..800).prop_map(|tokens| json!({"prefix_based": {"non_cached_tokens": tokens}})),
        1 => (100_u32..800).prop_map(|tokens| json!({"isl_bounding": {"threshold_tokens": tokens, "ratio": 1.0}})),
        1 => (100_u32..2000).prop_map(|tokens| json!({"prefill_load": {"queued_tokens": tokens}})),
    ];
    let router =
        prop_oneof![Just(json!("first_with_room")), Just(json!("least_loaded")), Just(json!("cheapest"))];
    let policy = prop_oneof![
        Just(json!({"static": {"replicas": 1}})),
        Just(
            json!({"schedule": {"period_s": 9, "steps": [{"at_s": 0, "replicas": 1}, {"at_s": 2, "replicas": 4}, {"at_s": 4, "replicas": 1}]}})
        ),
        Just(json!({"per_pool": {"p": {"schedule": {"period_s": 5, "steps": [{"at_s": 0, "replicas": 3}, {"at_s": 2, "replicas": 1}]}}}})),
        Just(json!({"hpa": {"metric": "queued_requests", "target_per_replica": 1}})),
        prop::sample::select(vec!["independent", "proportional", "greedy_by_score", "cheapest_per_capacity", "global_planner", "ilp"])
            .prop_map(|rule| json!({"fleet": {rule: {"pools": {
                "p": {"schedule": {"period_s": 9, "steps": [{"at_s": 0, "replicas": 1}, {"at_s": 2, "replicas": 4}, {"at_s": 5, "replicas": 1}]}},
                "d": {"schedule": {"period_s": 7, "steps": [{"at_s": 0, "replicas": 4}, {"at_s": 3, "replicas": 1}]}}}}}})),
    ];
    let budget = prop_oneof![
        2 => Just(json!(null)),
        1 => (4_u32..9).prop_map(|devices| json!({"devices": devices})),
        1 => (4_u32..9).prop_map(|devices| json!({"devices": devices, "when_full": "queue"})),
        1 => (4_u32..9).prop_map(|devices| json!({"devices_by_node": {"h100_dgx": devices}})),
    ];
    let losses = prop_oneof![1 => Just(json!({})), 2 => (3_u32..20, 3_u32..20, 0_u32..3).prop_map(|(crash, reclaim, notice)| json!({
        "mean_time_to_crash_s": crash, "mean_time_to_reclaim_s": reclaim, "reclaim_notice_s": notice,
    }))];
    let scheduler = (any::<bool>(), any::<bool>(), 220_u32..500).prop_map(|(caches, ahead, blocks)| {
        json!({"vllm_v1": {
            "max_tokens_in_batch": 1024, "batch_size_cap": 6, "num_blocks": blocks, "prefix_caching": caches, "async_scheduling": ahead,
        }})
    });
    ((transfer, decider, router, policy, budget), (losses, scheduler, 1_usize..3, 1_usize..3, any::<u64>())).prop_map(
        |((transfer, decider, router, policy, budget), (losses, scheduler, prefills, decodes, seed))| {
            let pool = |i: usize, role: &str| {
                let name = if i == 0 { role[..1].to_owned() } else { format!("{role}{i}") };
                json!({"name": name, "role": role, "failures": losses, "node_price_usd_per_hour": 10 + i})
            };
            let pools: Vec<Value> = (0..prefills).map(|i| pool(i, "prefill")).chain((0..decodes).map(|i| pool(i, "decode"))).collect();
            let mut cluster =
                with(base(), json!({"replica_scheduler": scheduler, "pools": pools, "pd_decider": decider, "pool_router": router}));
            for (field, value) in [("kv_transfer", transfer), ("budget", budget)] {
                if !value.is_null() {
                    cluster[field] = value;
                }
            }
            (cluster, policy, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is drained or lost, every request is answered in full, once, in the right order of things, by
    /// accounts that balance; and a run does not depend on how closely it is looked at.
    #[test]
    fn nothing_is_lost((cluster, policy, seed) in any_fleet(), traffic in 0_u64..1000) {
        let workload = arrivals(60, 6.0, traffic);
        let (metrics, detail) = run(&cluster, &policy, &workload, seed % 1000);
        prop_assert_eq!(metrics.num_completed, workload.len() as u64);
        let budget = &cluster["budget"];
        let most = budget["devices"].as_u64().or(budget["devices_by_node"]["h100_dgx"].as_u64());
        prop_assert!(metrics.fleet.unwrap().max_devices <= most.unwrap_or(u64::MAX));
        for request in &detail.requests {
            let (first_s, done_s) = (request.first_token_at_s.unwrap(), request.completed_at_s.unwrap());
            prop_assert!(request.arrived_at_s <= request.scheduled_at_s.unwrap() && request.scheduled_at_s.unwrap() < first_s);
            prop_assert!(first_s <= done_s && (request.decode_tokens == 1) == (first_s == done_s), "{:?}", request);
            let hops = request.hops.unwrap();
            if let (Some(end_s), Some(start_s), Some(there_s)) = (hops.prefill_end_s, hops.transfer_start_s, hops.transfer_end_s) {
                prop_assert!(end_s <= start_s && start_s <= there_s && there_s <= done_s, "{:?}", request);
            }
        }
        let tokens: u64 = detail.requests.iter().map(|request| u64::from(request.decode_tokens)).sum();
        let computed: u64 = detail.batches.iter().map(|batch| batch.decode_tokens).sum();
        if metrics.num_restarts == 0 && metrics.fleet.unwrap().local_prefill_share == Some(0.0) && cluster["kv_transfer"]["first_token"] != "handoff" {
            prop_assert_eq!(computed, tokens, "every output token comes from a decode step");
        }
    }
}

/// Two models, a device a replica, whose policies follow these steps on six devices: most replicas of each.
fn on_six_devices(rule: Value, steps: [Value; 2]) -> [u32; 2] {
    let models = ["meta-llama/Meta-Llama-3-8B", "Qwen/Qwen3-8B"];
    let cluster = with(
        base(),
        json!({
            "max_replicas": 6, "budget": {"devices": 6},
            "pools": [{"name": "a", "model": models[0], "initial_replicas": 2}, {"name": "b", "model": models[1], "initial_replicas": 4}],
        }),
    );
    let part = |model: &str| {
        json!({"model": model, "generate": {
            "arrivals": {"poisson": {"phases": [{"rate_per_s": 1, "duration_s": 60}]}},
            "lengths": {"fixed": {"prefill_tokens": 100, "decode_tokens": 4}}}})
    };
    let spec: WorkloadSpec = serde_json::from_value(json!({"name": "two", "mix": models.map(part)})).unwrap();
    let schedule = |steps: &Value| json!({"schedule": {"period_s": 1000, "steps": steps}});
    let mut policy = json!({"fleet": rule});
    let name = policy["fleet"].as_object().unwrap().keys().next().unwrap().clone();
    policy["fleet"][name]["pools"] = json!({"a": schedule(&steps[0]), "b": schedule(&steps[1])});
    let (metrics, _) = run(&cluster, &policy, &load(&spec, 1, &[]).unwrap(), 1);
    assert!(metrics.fleet.unwrap().max_devices <= 6);
    [0, 1].map(|pool| metrics.pools[pool].run.max_replicas)
}

/// Dynamo's planner above planners: what does not fit is refused, remembered, and granted when another pool
/// gives what it takes.
#[test]
fn a_wish_is_remembered_until_another_makes_up_for_it() {
    let passing =
        json!([{"at_s": 0, "replicas": 2}, {"at_s": 10, "replicas": 5}, {"at_s": 12, "replicas": 2}]);
    let gives = json!([{"at_s": 0, "replicas": 4}, {"at_s": 30, "replicas": 1}]);
    let most = |rule: Value| on_six_devices(rule, [passing.clone(), gives.clone()]);
    assert_eq!(most(json!({"global_planner": {}})), [5, 4]);
    assert_eq!(most(json!({"global_planner": {"intent_ttl_s": 15}})), [2, 4], "forgotten by then");
    assert_eq!(most(json!({"independent": {}})), [2, 4], "what does not fit is cut");
}

/// The integer program shares devices out by what is missing, and takes them from who has more than its
/// share.
#[test]
fn devices_change_hands_by_what_is_missing() {
    let (more, all) = (
        json!([{"at_s": 0, "replicas": 2}, {"at_s": 10, "replicas": 5}]),
        json!([{"at_s": 0, "replicas": 4}]),
    );
    let most = |rule: Value| on_six_devices(rule, [more.clone(), all.clone()]);
    // Of 5 and 4 that are wanted, 3 and 3 leave the least squares; by priority 4 and 2, or 5 and 1.
    assert_eq!(most(json!({"ilp": {}})), [3, 4]);
    assert_eq!(most(json!({"ilp": {"priority": {"meta-llama/Meta-Llama-3-8B": 3}}})), [4, 4]);
    assert_eq!(most(json!({"ilp": {"priority": {"meta-llama/Meta-Llama-3-8B": 30}}})), [5, 4]);
}

/// Devices are counted when settings are checked; what they cost is known with the hardware.
#[test]
fn what_a_fleet_begins_with_has_to_be_paid_for() {
    let grid = |usd: f64| {
        serde_json::json!({
            "name": "dear",
            "workloads": [{"name": "w", "generate": {
                "arrivals": {"static": {"rate_per_s": 1, "duration_s": 10}},
                "lengths": {"fixed": {"prefill_tokens": 100, "decode_tokens": 4}}}}],
            "cluster": {"node_price_usd_per_hour": 8, "budget": {"usd_per_hour": usd}, "pools": [{"name": "a"}, {"name": "b"}]},
            "autoscalers": [{"per_pool": {"a": {"static": {"replicas": 2}}, "b": "keda"}}]
        })
    };
    let ended = |usd: f64| {
        let plan = super::rows::plan(&grid(usd));
        scalefront::sweep::run::run_cell(&plan.cell(0), &plan.inputs, &mut Default::default()).map(|_| ())
    };
    // Four of eight devices a replica, three replicas.
    assert_eq!(ended(24.0), Ok(()));
    let told = ended(8.0).unwrap_err();
    assert!(told.contains("cluster.budget.usd_per_hour: 8 found, expected at least"), "{told}");
}
