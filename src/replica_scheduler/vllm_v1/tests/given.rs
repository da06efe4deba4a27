//! Step by step beside what vLLM's own scheduler did: the cases of `tests/data/vllm_scheduler` (its README
//! says how they were made), and those of the folder beside the repository, which may not be committed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::super::bench::SHAPE;
use super::super::super::{
    Batch, KvBlocks, ReplicaScheduler, ReplicaSchedulerSettings, ReplicaShape, ReplicaState, Request,
    Requests, Slot,
};
use super::super::step_log::Scheduled;
use crate::settings::Faults;
use crate::workload::PrefixBlocks;

const HASH_TOKENS: u32 = 512;

/// Each call of `schedule`, with its number.
struct Replayed {
    steps: Vec<(u64, Scheduled)>,
    restarts: Vec<u32>,
    cached_at_first_admission: Vec<u32>,
    /// Step, request, tokens found, tokens scheduled.
    readmissions: Vec<Value>,
    refused: Vec<u32>,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} found, expected a whole number"))
}

fn scheduler_settings(case: &Value) -> ReplicaSchedulerSettings {
    let settings = &case["settings"];
    let mut ours = json!({
        "version": case.get("version").unwrap_or(&json!("0.33")),
        "num_blocks": settings["num_blocks"], "max_tokens_in_batch": settings["budget"], "batch_size_cap": settings["max_num_seqs"],
        "block_size_tokens": settings.get("block_size").unwrap_or(&json!(16)),
        "prefix_caching": settings.get("prefix_caching").unwrap_or(&json!(false)),
        "async_scheduling": settings.get("async").unwrap_or(&json!(false)),
    });
    for (field, value) in settings.get("sched").and_then(Value::as_object).into_iter().flatten() {
        let field = match field.as_str() {
            "scheduler_reserve_full_isl" => "reserve_full_prompt",
            "offloaded_blocks" => "kv_offloading",
            same => same,
        };
        ours[field] = match field {
            "speculative" => speculative(value),
            "kv_offloading" => offloading(value, number(&ours["block_size_tokens"])),
            _ => value.clone(),
        };
    }
    let settings: ReplicaSchedulerSettings = serde_json::from_value(json!({ "vllm_v1": ours })).unwrap();
    let mut faults = Faults::default();
    settings.check(1, &mut faults);
    assert_eq!(faults.found, []);
    settings
}

fn speculative(theirs: &Value) -> Value {
    json!({
        "num_speculative_tokens": theirs["num_speculative_tokens"],
        "acceptance_rate": theirs["acceptance_rate"],
        "drafter": theirs["method"],
    })
}

fn offloading(blocks: &Value, block_size_tokens: u64) -> Value {
    let block_bytes = SHAPE.kv_bytes_per_token * f64::from(SHAPE.tensor_parallel) * block_size_tokens as f64;
    // Half a block more, so that rounding takes none away.
    json!({"size_gib": (number(blocks) as f64 + 0.5) * block_bytes / f64::from(1_u32 << 30)})
}

fn replay(case: &Value) -> Replayed {
    let settings = scheduler_settings(case);
    let common = settings.common();
    let rule = settings.build(&ReplicaShape { max_request_tokens: 1 << 20, ..SHAPE });
    let kv = KvBlocks::new(common.num_blocks.unwrap(), common.block_size_tokens, 0.0);
    let mut replica = ReplicaState::new(kv);
    let mut requests = Requests::default();
    let mut prefix = PrefixBlocks::new(HASH_TOKENS);
    let (mut arrivals, mut lengths) = (Vec::new(), Vec::new());
    for (id, request) in (0..).zip(case["requests"].as_array().unwrap()) {
        let [prefill, decode, first] = [0, 1, 2].map(|place| number(&request[place]));
        let ids: Vec<u64> =
            request.get(3).map_or(Vec::new(), |ids| ids.as_array().unwrap().iter().map(number).collect());
        prefix.push(&ids, prefill as u32);
        arrivals.push((first, id));
        lengths.push((prefill as u32, decode as u32));
    }
    if !prefix.ids().is_empty() {
        requests.know(Some(&prefix));
    }
    arrivals.sort();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut replayed = Replayed {
        steps: Vec::new(),
        restarts: vec![0; lengths.len()],
        cached_at_first_admission: vec![0; lengths.len()],
        readmissions: Vec::new(),
        refused: Vec::new(),
    };
    let is_async = case["settings"].get("async").is_some_and(|value| value == true);
    let (mut call, mut batch): (u64, _) = (0, Batch::default());
    loop {
        // While a batch runs requests arrive for the next call of `schedule`, which was made when it started,
        // and for the one after that.
        let until = if batch.is_empty() { call } else { call + u64::from(is_async) };
        while let Some((first, id)) = arrivals.next_if(|&(first, _)| first <= until) {
            if !rule.lets_in(&replica, &requests) {
                replayed.refused.push(id);
                continue;
            }
            let (prefill, decode) = lengths[id as usize];
            // Those of one step came in order.
            let slot = requests.insert(Request::new(id, first as f64, prefill, decode));
            if let Some(priorities) = case.get("priorities") {
                requests[slot].priority = priorities[id as usize].as_i64().unwrap() as i32;
            }
            replica.queue.push_back(slot);
        }
        if !batch.is_empty() {
            replica.batch_started_at_s = call as f64;
            let slots: Vec<(Slot, u32)> = batch.entries.clone();
            for &(slot, tokens) in &slots {
                requests[slot].advance(tokens, call as f64);
                let request = &requests[slot];
                if request.is_completed() {
                    replayed.restarts[request.id as usize] += request.restarts;
                }
            }
            rule.end_batch(&mut replica, &mut requests, &batch);
            batch.clear();
        }
        if replica.outstanding() == 0 {
            let Some(&(first, _)) = arrivals.peek() else { break };
            // Whoever comes while nothing runs is seen at once, once the step is over that was scheduled in
            // vain.
            if call + u64::from(is_async) < first
                && let Some(own) = &mut replica.vllm_v1
            {
                own.a_batch_just_ended = false;
            }
            call = (call + u64::from(is_async)).max(first);
            continue;
        }
        rule.form_batch(&mut replica, &mut requests, &mut batch);
        for &(slot, _) in &batch.entries {
            let request = &requests[slot];
            if request.processed_tokens == request.cached_tokens
                && request.restarts == 0
                && !request.prefill_complete
            {
                replayed.cached_at_first_admission[request.id as usize] = request.cached_tokens;
            }
        }
        let calls = std::mem::take(&mut replica.vllm_v1.as_mut().unwrap().log);
        for scheduled in calls {
            replayed.steps.push((call, scheduled));
            call += 1;
        }
        for id in replica.preempted_when_finished.drain(..) {
            replayed.restarts[id as usize] += 1;
        }
        assert!(call < 1_000_000, "it does not end");
    }
    assert_eq!(replica.kv.free, replica.kv.total, "blocks in use at the end");
    // A preempted request that is scheduled again.
    let mut gone = vec![false; lengths.len()];
    for (step, scheduled) in &replayed.steps {
        for &(id, computed, tokens) in &scheduled.entries {
            if std::mem::take(&mut gone[id as usize]) {
                replayed.readmissions.push(json!([step, id, computed, tokens]));
            }
        }
        scheduled.preempted.iter().for_each(|&id| gone[id as usize] = true);
    }
    replayed
}

/// Everything a case says beside what we do; the first difference.
fn compare(case: &Value) -> Result<(), String> {
    let replayed = replay(case);
    let did: Vec<&(u64, Scheduled)> = replayed
        .steps
        .iter()
        .filter(|(_, scheduled)| !scheduled.entries.is_empty() || !scheduled.preempted.is_empty())
        .collect();
    let rows = case["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| std::iter::repeat_n(&row.as_array().unwrap()[1..], number(&row[0]) as usize));
    let ours = |(_, one): &(u64, Scheduled)| {
        vec![
            json!(one.entries.len() + one.in_vain),
            json!(one.prefill_tokens),
            json!(one.decode_tokens),
            json!(one.preempted.len()),
            json!(one.used_blocks),
        ]
    };
    let mut number_of_rows = 0;
    for (place, row) in rows.enumerate() {
        let Some(one) = did.get(place) else { return Err(format!("row {place}: {row:?}, ours ended")) };
        if ours(one) != row {
            return Err(format!("row {place}: {row:?}, ours {:?} (step {}: {:?})", ours(one), one.0, one.1));
        }
        number_of_rows += 1;
    }
    if did.len() != number_of_rows {
        return Err(format!("{} rows, ours {}", number_of_rows, did.len()));
    }
    if let Some(steps) = case.get("steps").and_then(Value::as_array) {
        for (theirs, (step, one)) in steps.iter().zip(&did) {
            let entries: Vec<_> =
                one.entries.iter().map(|&(id, computed, tokens)| json!([id, computed, tokens])).collect();
            let ours = json!([step, entries, one.preempted, one.used_blocks]);
            if *theirs != ours {
                return Err(format!("step {theirs}, ours {ours}"));
            }
        }
    }
    let refused = case.get("refused").cloned().unwrap_or_else(|| json!([]));
    if refused != json!(replayed.refused) {
        return Err(format!("refused: {refused}, ours {:?}", replayed.refused));
    }
    for (what, ours) in [
        ("restarts", json!(replayed.restarts)),
        ("cached_at_first_admission", json!(replayed.cached_at_first_admission)),
        ("readmissions", json!(replayed.readmissions)),
    ] {
        if let Some(theirs) = case.get(what)
            && *theirs != ours
        {
            return Err(format!("{what}: {theirs}, ours {ours}"));
        }
    }
    Ok(())
}

fn check(cases: &Value) {
    let mut failed = Vec::new();
    for (name, case) in cases["cases"].as_object().unwrap() {
        let mut case = case.clone();
        if let Some(version) = cases.get("vllm") {
            case["version"] = version.clone();
        }
        if let Err(difference) = compare(&case) {
            failed.push(format!("{name} {}: {difference}", case.get("version").unwrap_or(&Value::Null)));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases differ:\n{}",
        failed.len(),
        cases["cases"].as_object().unwrap().len(),
        failed.join("\n")
    );
}

#[test]
fn shared_cases() {
    let root = std::env::var_os("SCALEFRONT_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let file = root.join("data/vllm_scheduler/vllm_v1_0.33.0.json");
    match std::fs::read_to_string(&file) {
        Ok(text) => check(&serde_json::from_str(&text).unwrap()),
        Err(error) if std::env::var_os("SCALEFRONT_SHARED_REQUIRED").is_some() => {
            panic!("{}: {error}", file.display())
        }
        Err(_) => eprintln!("skipped: {} is not there", file.display()),
    }
}

fn check_own(file: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vllm_scheduler").join(file);
    check(&serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap());
}

#[test]
fn options_as_vllm_has_them() {
    check_own("options_0.33.0.json");
}

#[test]
fn speculative_decoding_as_vllm_schedules_it() {
    check_own("speculative_0.33.0.json");
}

#[test]
fn the_host_keeps_what_vllm_keeps_there() {
    check_own("offloading_0.33.0.json");
}

#[test]
fn versions_as_they_were() {
    for version in ["0.33.0", "0.22.1", "0.18.1"] {
        check_own(&format!("versions_{version}.json"));
    }
}

/// Requests `[prompt, output, first step (, hash ids)]` under settings as in the file of cases.
fn run(settings: Value, requests: Value) -> Replayed {
    replay(&json!({"settings": settings, "requests": requests}))
}

fn rows(replayed: &Replayed) -> Vec<[u64; 4]> {
    let row = |(_, one): &(u64, Scheduled)| {
        [one.entries.len() as u64, one.prefill_tokens, one.decode_tokens, one.preempted.len() as u64]
    };
    replayed.steps.iter().map(row).filter(|row| row[0] + row[3] > 0).collect()
}

fn prefill_tokens(replayed: &Replayed) -> u64 {
    replayed.steps.iter().map(|(_, one)| one.prefill_tokens).sum()
}

/// The following figures are vLLM 0.33.0's own scheduler's, run on the same requests.
#[test]
fn a_prompt_waits_until_all_of_it_fits() {
    let requests = json!([[200, 8, 0], [200, 8, 0], [200, 8, 0], [40, 8, 0]]);
    let settings = json!({"num_blocks": 24, "budget": 64, "max_num_seqs": 8});
    let replayed = run(settings, requests.clone());
    assert_eq!((rows(&replayed).len(), prefill_tokens(&replayed), replayed.restarts), (33, 640, vec![0; 4]));
    let settings = json!({"num_blocks": 24, "budget": 64, "max_num_seqs": 8, "sched": {"version": "0.18"}});
    let replayed = run(settings, requests);
    assert_eq!(
        (rows(&replayed).len(), prefill_tokens(&replayed), replayed.restarts.iter().sum::<u32>()),
        (29, 1128, 4)
    );
}

#[test]
fn blocks_of_finished_requests_come_a_step_late() {
    let settings = json!({"num_blocks": 8, "budget": 256, "max_num_seqs": 8, "async": true});
    let replayed = run(settings, json!([[60, 3, 0], [60, 6, 0], [60, 3, 0], [60, 3, 0]]));
    let expected = [
        [2, 120, 0, 0],
        [2, 0, 2, 0],
        [2, 0, 2, 0],
        [1, 0, 1, 0],
        [2, 60, 1, 0],
        [1, 0, 1, 1],
        [2, 121, 0, 0],
        [2, 0, 2, 0],
        [1, 0, 1, 0],
    ];
    assert_eq!(rows(&replayed), expected);
}

#[test]
fn blocks_that_cache_nothing_are_overwritten_first() {
    let requests = |number: u64| {
        let prefix = 10 * (number % 4);
        json!([1100, 2, 4 * number, [prefix, prefix + 1, 1000 + number]])
    };
    let requests: Vec<Value> = (0..12).map(requests).collect();
    for (version, expected) in [("0.33", 5008), ("0.22", 13_200)] {
        let settings = json!({"num_blocks": 9, "block_size": 512, "budget": 8192, "max_num_seqs": 1, "prefix_caching": true, "sched": {"version": version}});
        assert_eq!(prefill_tokens(&run(settings, json!(requests))), expected, "{version}");
    }
}

#[test]
fn a_preempted_request_finds_what_it_generated() {
    let settings = json!({"num_blocks": 12, "block_size": 512, "budget": 8192, "max_num_seqs": 8, "prefix_caching": true});
    let replayed = run(settings, json!([[1500, 600, 0], [2500, 500, 0], [1000, 700, 0]]));
    let found: Vec<(u64, u64)> =
        replayed.readmissions.iter().map(|one| (number(&one[2]), number(&one[3]))).collect();
    assert_eq!(found, [(1024, 37)]);
}

/// Of 16,000 prompt tokens that preempted requests give up in the middle none are computed again, as long as
/// nobody needed their blocks.
#[test]
fn prompts_without_names_are_cached_too() {
    let requests: Vec<Value> =
        (0..24).map(|number| json!([6000 + 337 * (number * 7 % 24), 70 + 5 * number, 0])).collect();
    let prompts: u64 = requests.iter().map(|request| number(&request[0])).sum();
    let computed = |caching: bool| {
        let settings = json!({"num_blocks": 2000, "budget": 2048, "max_num_seqs": 128, "prefix_caching": caching,
            "sched": {"reserve_full_prompt": false}});
        let replayed = run(settings, json!(requests));
        (prefill_tokens(&replayed), replayed.restarts.iter().sum::<u32>())
    };
    let ((cached, some), (uncached, many)) = (computed(true), computed(false));
    assert!(
        cached < prompts + prompts / 10 && uncached > 3 * prompts,
        "{prompts} prompt tokens, {cached} and {uncached} computed"
    );
    assert!(some > 0 && many > some, "{some} and {many} restarts");
}
