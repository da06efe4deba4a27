//! Sessions: turns that wait for answers.

use rand::RngExt;
use rand::SeedableRng;
use rand_distr::{Distribution, Exp};
use rand_xoshiro::Xoshiro256PlusPlus;
use scalefront::simulation::{
    Detail, RequestRecord, RunInputs, RunMetrics, Workspace, simulate, simulate_in_detail, violations,
};
use scalefront::workload::sessions::{Builder, NewRequest};
use scalefront::workload::{Workload, WorkloadSpec, load};
use serde_json::{Value, json};

use super::scenario::Scenario;

fn workload(spec: Value, seed: u64) -> Workload {
    let spec: WorkloadSpec = serde_json::from_value(spec).unwrap();
    load(&spec, seed, &[]).unwrap()
}

fn sessions(spec: Value, seed: u64) -> Workload {
    workload(json!({"name": "s", "sessions": spec}), seed)
}

fn scenario(cluster: Value, autoscaler: Value, workload: Workload) -> Scenario {
    Scenario { workload, ..Scenario::new(cluster, autoscaler, []) }
}

/// Runs with and without shortcuts, looks at what must hold, and returns what happened.
fn run(scenario: &Scenario) -> (RunMetrics, Detail) {
    let mut workspace = Workspace::default();
    let inputs = RunInputs { stepping: true, ..scenario.inputs() };
    let (metrics, detail) = simulate_in_detail(&inputs, &mut workspace).unwrap();
    assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    let quick = simulate(&scenario.inputs(), &mut workspace).unwrap();
    let queued =
        simulate(&RunInputs { queue_every_step: true, ..scenario.inputs() }, &mut workspace).unwrap();
    assert_eq!(quick, queued);
    assert_eq!((quick.num_completed, quick.sessions), (metrics.num_completed, metrics.sessions));
    (metrics, detail)
}

const LENGTHS: &str = r#"{"lognormal": {"prefill": {"mean_tokens": 600, "cv": 1, "max_tokens": 3000},
                                        "decode": {"mean_tokens": 60, "cv": 1, "max_tokens": 500}}}"#;

fn lengths() -> Value {
    serde_json::from_str(LENGTHS).unwrap()
}

/// Bit for bit: under every scheduler, with policies that watch arrivals or latencies, and with draws of
/// outputs and priorities.
#[test]
fn a_session_of_one_turn_is_an_open_request() {
    let starts = json!({"poisson": {"rate_per_s": 4, "duration_s": 200}});
    let more = json!({"outputs": {"max_new_tokens": {"uniform": {"min_tokens": 100, "max_tokens": 900}}},
                      "priorities": [{"share": 1, "priority": 0}, {"share": 1, "priority": 5}]});
    let with = |source: Value| {
        let mut spec = more.clone();
        spec["name"] = json!("w");
        source.as_object().unwrap().iter().for_each(|(key, value)| spec[key] = value.clone());
        workload(spec, 3)
    };
    let open = with(json!({"generate": {"arrivals": starts, "lengths": lengths()}}));
    let turns =
        with(json!({"sessions": {"starts": starts, "lengths": lengths(), "turns": {"fixed": {"turns": 1}}}}));
    assert_eq!(
        (&open.arrived_at_s, &open.prefill_tokens, &open.decode_tokens),
        (&turns.arrived_at_s, &turns.prefill_tokens, &turns.decode_tokens)
    );
    assert!(open.len() > 700 && turns.sessions.is_some());
    for scheduler in [
        json!("vllm"),
        json!("vllm_v1"),
        json!({"sglang": {"overlap": false}}),
        json!({"sarathi": {"chunk_size_tokens": 512}}),
    ] {
        for autoscaler in [
            json!({"static": {"replicas": 2}}),
            json!("inferline"),
            json!("aibrix_apa"),
            json!("dynamo_throughput"),
        ] {
            let cluster = json!({"replica_scheduler": scheduler, "latency_limits": {"ttft_s": 1},
                                 "scale_up_delay_s": 20, "global_scheduler": "least_outstanding"});
            let of =
                |workload: &Workload| run(&scenario(cluster.clone(), autoscaler.clone(), workload.clone()));
            let ((one, one_detail), (other, other_detail)) = (of(&open), of(&turns));
            let found = other.sessions.unwrap();
            assert_eq!(
                (found.num_sessions, found.num_sessions_completed),
                (open.len() as u64, one.num_completed)
            );
            assert_eq!((found.session_attainment, found.session_busy_s), (one.attainment, found.session_s));
            assert_eq!(one, RunMetrics { sessions: None, ..other });
            let alike: Vec<RequestRecord> =
                other_detail.requests.iter().map(|r| RequestRecord { session: None, ..r.clone() }).collect();
            assert_eq!(one_detail.requests, alike);
            // As text, since what is not known yet is no number.
            assert_eq!(format!("{:?}", one_detail.tunes), format!("{:?}", other_detail.tunes));
        }
    }
}

/// Once it is over, the same requests at the times at which they came give the same run.
#[test]
fn a_closed_run_replayed_open_is_the_same_run() {
    // No session begins as another one ends: at one instant, what comes by the clock goes before what a
    // completion sets off.
    let spec = json!({"starts": {"poisson": {"rate_per_s": 1, "duration_s": 60}}, "lengths": lengths(),
                      "turns": {"geometric": {"mean": 4}}, "think_time_s": {"exponential": {"mean_s": 2}}, "max_context_tokens": 3900});
    let cluster =
        json!({"replica_scheduler": "vllm", "global_scheduler": "least_outstanding", "scale_up_delay_s": 5});
    for autoscaler in [json!({"static": {"replicas": 2}}), json!("inferline")] {
        let workload = sessions(spec.clone(), 2);
        let duration_s = workload.duration_s;
        let (closed, detail) = run(&scenario(cluster.clone(), autoscaler.clone(), workload));
        let came = detail
            .requests
            .iter()
            .map(|request| (request.arrived_at_s, request.prefill_tokens, request.decode_tokens));
        let mut open = Scenario::new(cluster.clone(), autoscaler, came);
        open.workload.duration_s = duration_s;
        let (open, _) = run(&open);
        assert_eq!(open, RunMetrics { sessions: None, ..closed });
    }
}

/// What comes when, of sessions without branches: each turn a pause after the answer before it, as the client
/// sees it.
fn assert_turns_wait(workload: &Workload, detail: &Detail) {
    let sessions = workload.sessions.as_ref().unwrap();
    let mut of = vec![Vec::new(); sessions.len()];
    for request in &detail.requests {
        of[request.session.unwrap().0 as usize].push(request);
    }
    for (session, turns) in of.iter().enumerate() {
        assert!(turns.len() <= sessions.lengths[session] as usize);
        for (number, turn) in (1..).zip(turns) {
            assert_eq!(
                turn.session,
                Some((session as u32, number)),
                "turns come one after the other, and none is left out"
            );
        }
        for pair in turns.windows(2) {
            let pause_s = sessions.pause_s[pair[1].request_id as usize];
            assert_eq!(pair[1].arrived_at_s, pair[0].completed_at_s.unwrap() + pause_s);
        }
    }
}

#[test]
fn turns_wait_for_answers_under_every_policy() {
    let workload = sessions(
        json!({"starts": {"poisson": {"rate_per_s": 1, "duration_s": 120}}, "lengths": lengths(), "turns": {"geometric": {"mean": 4}},
               "think_time_s": {"exponential": {"mean_s": 5}}, "shared_prefix": {"groups": 3, "tokens": 500},
               "max_context_tokens": 3900}),
        1,
    );
    let all = workload.len() as u64;
    assert!((300..800).contains(&all), "{all}");
    for router in ["round_robin", "session_affinity", "session_hash", "prefix_aware", "least_tokens"] {
        for autoscaler in [json!({"static": {"replicas": 2}}), json!("aibrix_apa"), json!("inferline")] {
            for scheduler in ["vllm_v1", "sglang", "vllm"] {
                let cluster = json!({"global_scheduler": router, "replica_scheduler": scheduler, "scale_up_delay_s": 10,
                                     "failures": {"mean_time_to_crash_s": 300}, "latency_limits": {"ttft_s": 2}});
                let scenario = scenario(cluster, autoscaler.clone(), workload.clone());
                let (metrics, detail) = run(&scenario);
                assert_turns_wait(&workload, &detail);
                let sessions = metrics.sessions.unwrap();
                assert_eq!(
                    (metrics.num_requests, metrics.num_completed, sessions.num_turns_cancelled),
                    (all, all, 0)
                );
                assert_eq!(sessions.num_sessions_completed, sessions.num_sessions);
                let [lasted_s, busy_s] =
                    [sessions.session_s, sessions.session_busy_s].map(|found| found.unwrap().mean);
                assert!(busy_s < lasted_s);
                // Answers to one user come one after the other, so a session is busy as long as its requests
                // last.
                let served_s = metrics.e2e_s.unwrap().mean * all as f64 / sessions.num_sessions as f64;
                assert!((busy_s / served_s - 1.0).abs() < 1e-9, "{busy_s} {served_s}");
            }
        }
    }
}

/// Rejections and lost patience end sessions; nothing is lost and nothing hangs.
#[test]
fn every_turn_is_answered_rejected_or_cancelled() {
    let (mut rejected, mut cancelled, mut abandoned) = (0, 0, 0);
    for seed in 1..=8 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let lanes = random.random_range(1..20);
        let starts = if seed % 2 == 0 {
            json!({"poisson": {"rate_per_s": 2, "duration_s": 60}})
        } else {
            json!({"concurrency": {"lanes": lanes, "sessions": 60, "ramp_s": 10}})
        };
        let spec = json!({"starts": starts, "lengths": lengths(), "turns": {"geometric": {"mean": 6}}, "patience_s": 3,
            "think_time_s": random.random_range(0..3), "first_lengths": {"fixed": {"prefill_tokens": 900, "decode_tokens": 90}},
            "subagents": {"every_turns": 2, "number": 3, "turns": {"fixed": {"turns": 2}}, "lengths": lengths(), "tool_time_s": 1}});
        let workload = sessions(spec, seed);
        for scheduler in ["vllm_v1", "sglang", "vllm", "orca"] {
            // Contexts outgrow the memory that is left.
            let cluster = json!({"replica_scheduler": {scheduler: {"num_blocks": 500}}, "failures": {"mean_time_to_crash_s": 100},
                                 "latency_limits": {"ttft_s": 1}});
            let (metrics, detail) =
                run(&scenario(cluster, json!({"static": {"replicas": 1}}), workload.clone()));
            let sessions = metrics.sessions.unwrap();
            assert_eq!(
                metrics.num_completed + metrics.num_rejected + sessions.num_turns_cancelled,
                workload.len() as u64
            );
            assert_eq!(detail.requests.len() as u64, metrics.num_completed + metrics.num_rejected);
            rejected += metrics.num_rejected;
            cancelled += sessions.num_turns_cancelled;
            abandoned += sessions.num_sessions_abandoned;
            assert!(
                sessions.num_sessions_completed + sessions.num_sessions_abandoned <= sessions.num_sessions
            );
            let first =
                detail.requests.iter().filter(|request| request.session.unwrap().1 == 1).count() as u64;
            assert_eq!(first, sessions.num_sessions, "every session begins");
        }
    }
    assert!(rejected > 100 && cancelled > 100 && abandoned > 10, "{rejected} {cancelled} {abandoned}");
}

/// Agents: a turn that joins waits for the last of those it waits for.
#[test]
fn joins_wait_for_the_last() {
    let mut builder = Builder::default();
    let request = |turn, waits_for, pause_s, decode_tokens| NewRequest {
        session: 0,
        turn,
        waits_for,
        pause_s,
        prefill_tokens: 200,
        decode_tokens,
    };
    builder.push(request(0, &[], 1.0, 10), None, &[]);
    builder.push(request(0, &[0], 0.5, 10), None, &[]);
    builder.push(request(0, &[0], 0.25, 300), None, &[]);
    builder.push(request(0, &[1, 2], 2.0, 10), None, &[]);
    let scenario = scenario(json!({}), json!({"static": {"replicas": 1}}), builder.finish().unwrap());
    let (metrics, detail) = run(&scenario);
    let by_id = |id: u32| detail.requests.iter().find(|request| request.request_id == id).unwrap();
    // In order of the earliest arrival: root, the one that pauses less, the other, the join.
    let done_s = |id: u32| by_id(id).completed_at_s.unwrap();
    assert_eq!(
        (by_id(0).arrived_at_s, by_id(1).arrived_at_s, by_id(2).arrived_at_s),
        (1.0, done_s(0) + 0.25, done_s(0) + 0.5)
    );
    assert!(done_s(1) > done_s(2));
    assert_eq!((by_id(3).arrived_at_s, by_id(3).session), (done_s(1) + 2.0, Some((0, 3))));
    let found = metrics.sessions.unwrap();
    let busy_s = done_s(0) - 1.0 + (done_s(1) - (done_s(0) + 0.25)) + (done_s(3) - by_id(3).arrived_at_s);
    assert!((found.session_busy_s.unwrap().mean - busy_s).abs() < 1e-9);
    assert_eq!(found.session_s.unwrap().mean, done_s(3) - 1.0);
}

/// What waits for itself is told, and not run for ever.
#[test]
fn cycles_are_found() {
    let mut builder = Builder::default();
    for waits_for in [&[][..], &[0], &[4], &[2], &[3], &[3]] {
        builder.push(
            NewRequest { session: 0, turn: 0, waits_for, pause_s: 0.0, prefill_tokens: 1, decode_tokens: 1 },
            None,
            &[],
        );
    }
    assert!((2..=4).contains(&builder.finish().unwrap_err().request));
}

/// Lanes hold a session each: as many requests in flight, the next session at the instant of the last token.
#[test]
fn lanes_are_always_taken() {
    let spec = json!({"starts": {"concurrency": {"lanes": 5, "sessions": 40, "ramp_s": 5}}, "turns": {"fixed": {"turns": 3}},
                      "lengths": {"fixed": {"prefill_tokens": 300, "decode_tokens": 40}}});
    let workload = sessions(spec, 1);
    let (metrics, detail) = run(&scenario(json!({}), json!({"static": {"replicas": 2}}), workload.clone()));
    assert_turns_wait(&workload, &detail);
    let mut starts: Vec<f64> =
        detail.requests.iter().filter(|r| r.session.unwrap().1 == 1).map(|r| r.arrived_at_s).collect();
    let ends: Vec<f64> = detail
        .requests
        .iter()
        .filter(|r| r.session.unwrap().1 == 3)
        .map(|r| r.completed_at_s.unwrap())
        .collect();
    starts.sort_by(f64::total_cmp);
    assert_eq!(starts[..5], [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert!(starts[5..].iter().all(|start| ends.contains(start)), "each starts as another one ends");
    assert_eq!((metrics.num_completed, starts.len()), (120, 40));
}

/// One machine (a replica that serves one request at a time) and so many users who think and ask: the
/// machine-repairman model, M/M/1//N.
#[test]
fn machine_repairman_and_the_interactive_response_time_law() {
    let cluster = || json!({"replica_scheduler": {"vllm": {"batch_size_cap": 1}}});
    let longest = Scenario::new(cluster(), json!({"static": {"replicas": 1}}), [(0.0, 1, 4000)]);
    let service_s: Vec<f64> = simulate_in_detail(&longest.inputs(), &mut Workspace::default())
        .unwrap()
        .1
        .batches
        .iter()
        .map(|b| b.completed_at_s)
        .collect();
    let mean_service_s = service_s[199];
    for (users, think_per_service) in [(4_u32, 4.0), (10, 8.0), (20, 8.0)] {
        let mean_think_s = think_per_service * mean_service_s;
        let (replications, turns) = (6, 800);
        let mut found: [Vec<f64>; 3] = Default::default();
        for seed in 0..replications {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let [service, think] =
                [mean_service_s, mean_think_s].map(|mean_s| Exp::new(1.0 / mean_s).unwrap());
            let mut builder = Builder::default();
            for session in 0..users {
                for turn in 1..=turns {
                    let drawn_s: f64 = service.sample(&mut random);
                    let tokens =
                        (service_s.partition_point(|&at_s| at_s < drawn_s) + 1).min(service_s.len()) as u32;
                    let before = [builder.len() as u32 - u32::from(turn > 1)];
                    let waits_for = if turn > 1 { &before[..] } else { &[] };
                    let pause_s = think.sample(&mut random);
                    builder.push(
                        NewRequest {
                            session,
                            turn,
                            waits_for,
                            pause_s,
                            prefill_tokens: 1,
                            decode_tokens: tokens,
                        },
                        None,
                        &[],
                    );
                }
            }
            let scenario = scenario(cluster(), json!({"static": {"replicas": 1}}), builder.finish().unwrap());
            let (_, detail) = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap();
            let pause_s = &scenario.workload.sessions.as_ref().unwrap().pause_s;
            // From when nobody remembers the start until the first user has no more to ask.
            let last_turn_s =
                detail.requests.iter().filter(|r| r.session.unwrap().1 == turns).map(|r| r.arrived_at_s);
            let (from_s, until_s) = (20.0 * mean_think_s, last_turn_s.fold(f64::INFINITY, f64::min));
            let within = || detail.requests.iter().filter(|r| (from_s..until_s).contains(&r.arrived_at_s));
            let count = within().count() as f64;
            let mean = |value: &dyn Fn(&RequestRecord) -> f64| within().map(value).sum::<f64>() / count;
            let response_s = mean(&|r| r.completed_at_s.unwrap() - r.arrived_at_s);
            let think_s = mean(&|r| pause_s[r.request_id as usize]);
            let per_s = count / (until_s - from_s);
            found[0].push(per_s * mean_service_s);
            found[1].push(response_s / mean_service_s);
            found[2].push(per_s * (response_s + think_s) / f64::from(users));
        }
        // State probabilities: p(n) / p(0) = users! / (users - n)! (service / think)^n.
        let (mut weight, mut sum) = (1.0, 1.0);
        for n in 0..users {
            weight *= f64::from(users - n) / think_per_service;
            sum += weight;
        }
        let utilization = 1.0 - 1.0 / sum;
        let response = f64::from(users) / utilization - think_per_service;
        for (what, sample, expected, bias) in [
            ("utilization", &found[0], utilization, 0.005),
            ("response time", &found[1], response, 0.01),
            ("N = X (R + Z)", &found[2], 1.0, 0.0),
        ] {
            let count = sample.len() as f64;
            let mean = sample.iter().sum::<f64>() / count;
            let error =
                (sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count)
                    .sqrt();
            println!("{users} users, {what}: {mean:.4} +- {error:.4}, expected {expected:.4}");
            assert!(
                error < 0.02 * expected && (mean - expected).abs() < 4.0 * error + bias * expected,
                "{what}: {mean} {error} {expected}"
            );
        }
    }
}

/// Prompts that grow: on one replica each later turn finds prompt and answer of the one before, but for the
/// last token, in whole blocks.
#[test]
fn later_turns_find_what_was_said_answers_included() {
    let spec = json!({"starts": {"static": {"rate_per_s": 0.02, "duration_s": 100}}, "turns": {"fixed": {"turns": 5}}, "think_time_s": 2,
                      "lengths": {"fixed": {"prefill_tokens": 1024, "decode_tokens": 128}}});
    let workload = sessions(spec, 1);
    let cluster = |scheduler: &str| json!({"replica_scheduler": {scheduler: {}}, "max_request_tokens": 8192});
    let cached = |scheduler: &str| {
        let (metrics, detail) =
            run(&scenario(cluster(scheduler), json!({"static": {"replicas": 1}}), workload.clone()));
        assert!(metrics.sessions.unwrap().later_turn_hit_rate.unwrap() > 0.7);
        detail
            .requests
            .iter()
            .take(5)
            .map(|request| (request.prefill_tokens, request.cached_tokens))
            .collect::<Vec<_>>()
    };
    assert_eq!(cached("vllm_v1"), [(1024, 0), (2176, 1136), (3328, 2288), (4480, 3440), (5632, 4592)]);
    // To the token: SGLang's pages hold one.
    assert_eq!(cached("sglang"), [(1024, 0), (2176, 1151), (3328, 2303), (4480, 3455), (5632, 4607)]);
}

/// The same sessions under every policy and router; only when later turns come differs. Two conversations,
/// each on a replica of its own, one of which is taken away while both think: one turn in six finds its
/// replica gone, and computes all that was said.
#[test]
fn turns_whose_replica_has_left_are_counted() {
    let spec = json!({"starts": {"static": {"rate_per_s": 1, "duration_s": 2}}, "turns": {"fixed": {"turns": 4}}, "think_time_s": 40,
                      "lengths": {"fixed": {"prefill_tokens": 1600, "decode_tokens": 16}}});
    let cluster = |router: &str| {
        json!({"global_scheduler": router, "replica_scheduler": "vllm_v1", "execution_time": "analytical", "max_request_tokens": 32768,
               "scale_down_delay_s": 0, "initial_replicas": 2})
    };
    let shrinks = json!({"schedule": {"steps": [{"at_s": 0, "replicas": 2}, {"at_s": 60, "replicas": 1}], "period_s": 1000}});
    let (metrics, _) =
        run(&scenario(cluster("session_affinity"), shrinks.clone(), sessions(spec.clone(), 1)));
    let cold = metrics.sessions.unwrap().cold_turns.unwrap();
    assert_eq!(cold.share, Some(1.0 / 6.0));
    // The second turns are over by then, and one of the third ones has lost 2 turns of 1,616 tokens.
    assert_eq!(cold.computed_tokens, Some(2.0 * 1616.0 + 1600.0));
    assert!(
        cold.kept_computed_tokens.unwrap() < 1700.0 && cold.ttft_s.unwrap() > cold.kept_ttft_s.unwrap(),
        "{cold:?}"
    );
    let share = cold.computed_tokens.unwrap()
        / (cold.computed_tokens.unwrap() + 5.0 * cold.kept_computed_tokens.unwrap());
    assert!((cold.computed_share.unwrap() - share).abs() < 1e-9);
    // A fleet that stays leaves nobody cold, even where turns go elsewhere.
    let (metrics, _) =
        run(&scenario(cluster("round_robin"), json!({"static": {"replicas": 2}}), sessions(spec, 1)));
    let cold = metrics.sessions.unwrap().cold_turns.unwrap();
    assert_eq!((cold.share, cold.ttft_s, cold.computed_share), (Some(0.0), None, Some(0.0)));
}

#[test]
fn sessions_are_drawn_before_the_run() {
    let spec = |more: Value| {
        let mut spec = json!({"starts": {"poisson": {"rate_per_s": 1, "duration_s": 60}}, "lengths": lengths(),
                              "turns": {"geometric": {"mean": 3}}, "think_time_s": {"lognormal": {"mean_s": 4, "cv": 1}}});
        more.as_object().unwrap().iter().for_each(|(key, value)| spec[key] = value.clone());
        spec
    };
    let one = sessions(spec(json!({})), 5);
    assert_eq!(one, sessions(spec(json!({})), 5));
    assert_ne!(one.fingerprint(), sessions(spec(json!({})), 6).fingerprint());
    assert_ne!(one.fingerprint(), sessions(spec(json!({"patience_s": 9})), 5).fingerprint());
    // Open: the same turns, at times that the clock says.
    let open = sessions(spec(json!({"loop": {"open": {"answer_s": 2}}})), 5);
    assert!(!open.sessions.as_ref().unwrap().waits() && one.sessions.as_ref().unwrap().waits());
    let sorted = |workload: &Workload| {
        let mut lengths: Vec<(u32, u32)> =
            workload.prefill_tokens.iter().copied().zip(workload.decode_tokens.iter().copied()).collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(sorted(&one), sorted(&open));
    let (_, detail) = run(&scenario(json!({}), json!({"static": {"replicas": 2}}), open.clone()));
    assert!(
        detail
            .requests
            .iter()
            .all(|request| request.arrived_at_s == open.arrived_at_s[request.request_id as usize])
    );
    // Cut before the turn that is too long, whatever else stays.
    let cut = sessions(spec(json!({"max_context_tokens": 2000})), 5);
    let longest = cut.prefill_tokens.iter().zip(&cut.decode_tokens).map(|(a, b)| a + b).max().unwrap();
    assert!(longest <= 2000 && cut.len() < one.len());
}

#[test]
fn settings_that_make_no_sense_are_told() {
    let faults =
        |spec: Value| match serde_json::from_value::<WorkloadSpec>(json!({"name": "s", "sessions": spec})) {
            Ok(spec) => load(&spec, 1, &[]).err().map(|error| error.to_string()).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
    let base = |key: &str, value: Value| {
        let mut spec = json!({"starts": {"poisson": {"rate_per_s": 1, "duration_s": 60}}, "lengths": lengths(), "turns": {"fixed": {"turns": 2}}});
        spec[key] = value;
        faults(spec)
    };
    for (key, value, told) in [
        ("think_time_s", json!(-1), "sessions.think_time_s: -1 found"),
        (
            "think_time_s",
            json!({"exponential": {"mean_s": 0}}),
            "sessions.think_time_s.exponential.mean_s: 0 found",
        ),
        ("think_time_s", json!("long"), "expected a number of seconds"),
        ("turns", json!({"fixed": {"turns": 0}}), "sessions.turns.fixed.turns: 0 found"),
        ("turns", json!({"geometric": {"mean": 0.5}}), "sessions.turns.geometric.mean: 0.5 found"),
        (
            "starts",
            json!({"concurrency": {"lanes": 0, "sessions": 1}}),
            "sessions.starts.concurrency.lanes: 0 found",
        ),
        ("loop", json!({"open": {"answer_s": -1}}), "sessions.loop.open.answer_s: -1 found"),
        ("patience_s", json!(0), "sessions.patience_s: 0 found"),
        (
            "subagents",
            json!({"every_turns": 0, "number": 1, "turns": {"fixed": {"turns": 1}}, "lengths": lengths()}),
            "every_turns: 0 found",
        ),
    ] {
        let found = base(key, value);
        assert!(found.contains(told), "{found}");
    }
    let open = faults(
        json!({"starts": {"concurrency": {"lanes": 1, "sessions": 1}}, "lengths": lengths(), "turns": {"fixed": {"turns": 2}},
                             "loop": "open"}),
    );
    assert!(open.contains("waits for sessions to end"), "{open}");
    let huge = faults(
        json!({"starts": {"concurrency": {"lanes": 1, "sessions": 1}}, "turns": {"fixed": {"turns": 3}},
                             "lengths": {"fixed": {"prefill_tokens": 900_000_000, "decode_tokens": 1}}}),
    );
    assert!(huge.contains("max_context_tokens"), "{huge}");
}
