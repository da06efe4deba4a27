//! What SGLang's own scheduler did, iteration by iteration: recorded cases, replayed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::state::{Kind, State};
use super::{Rules, Sglang, SglangSettings};
use crate::replica_scheduler::bench::SHAPE;
use crate::replica_scheduler::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Request, Requests};
use crate::workload::PrefixBlocks;

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number")) as u32
}

/// What an iteration ran.
struct Ran {
    iteration: u32,
    kind: u32,
    /// Request, tokens before, tokens, whether it decodes.
    rows: Vec<(u32, u32, u32, bool)>,
    retracted: Vec<u32>,
    held: u32,
    evictable: u32,
    share: f64,
}

struct Replay {
    scheduler: Sglang,
    replica: ReplicaState,
    requests: Requests,
    ran: Vec<Ran>,
    cached_at_first: BTreeMap<u32, u32>,
    /// The batch in flight.
    batch: Batch,
    unfinished: usize,
}

fn settings(case: &Value) -> SglangSettings {
    let (given, none) = (&case["settings"], json!({}));
    let mut args = given.get("args").unwrap_or(&none).as_object().unwrap().clone();
    let page_tokens = given.get("page_size").map_or(1, number);
    let chunk = given.get("chunk").map_or(8192, |chunk| chunk.as_i64().unwrap());
    let mut settings = json!({
        "batch_size_cap": given["max_running"], "block_size_tokens": page_tokens, "num_blocks": number(&given["kv_tokens"]) / page_tokens,
        "chunk_size_tokens": chunk.max(0), "overlap": given.get("overlap").unwrap_or(&json!(false)),
    });
    for (ours, theirs) in [
        ("max_prefill_tokens", "max_prefill_tokens"),
        ("policy", "policy"),
        ("mixed_chunks", "mixed"),
        ("prefix_caching", "radix"),
    ] {
        if let Some(value) = given.get(theirs) {
            settings[ours] = value.clone();
        }
    }
    for (ours, theirs) in [
        ("conservativeness", "schedule_conservativeness"),
        ("prefill_decode_interval", "prefill_decode_interval"),
        ("priority_scheduling", "enable_priority_scheduling"),
        ("preemption_threshold", "priority_scheduling_preemption_threshold"),
    ] {
        if let Some(value) = args.remove(theirs) {
            settings[ours] = value;
        }
    }
    assert!(args.is_empty(), "server arguments that are not modelled: {args:?}");
    serde_json::from_value(settings).unwrap()
}

/// Ids of blocks of one token: equal ids are equal tokens after equal beginnings. Those of a request go on
/// through its output.
fn prompts(requests: &[Value]) -> Option<PrefixBlocks> {
    if requests.iter().all(|request| request.get(4).is_none()) {
        return None;
    }
    let (mut known, mut prefix) = (BTreeMap::new(), PrefixBlocks::new(1));
    for (index, request) in (0_i64..).zip(requests) {
        let (prompt, output) = (number(&request[0]), number(&request[1]));
        let own = [json!([1_000_000 + index, prompt])];
        let pieces = request.get(4).map_or(&own[..], |pieces| pieces.as_array().unwrap());
        let pieces = pieces.iter().map(|piece| (piece[0].as_i64().unwrap(), number(&piece[1])));
        let (mut ids, mut at) = (Vec::new(), u64::MAX);
        for (stream, tokens) in pieces.chain([(-index - 1, output)]) {
            for place in 0..tokens {
                let next = known.len() as u64;
                at = *known.entry((at, stream, place)).or_insert(next);
                ids.push(at);
            }
        }
        assert_eq!(ids.len() as u32, prompt + output);
        prefix.push(&ids, prompt + output);
    }
    Some(prefix)
}

impl Replay {
    fn new(case: &Value) -> Self {
        let settings = settings(case);
        let (page_tokens, blocks) = (settings.block_size_tokens, settings.num_blocks.unwrap());
        let mut requests = Requests::default();
        requests.know(prompts(case["requests"].as_array().unwrap()).as_ref());
        Self {
            scheduler: Sglang { rules: Rules::new(&settings, &SHAPE) },
            replica: ReplicaState::new(KvBlocks::new(blocks, page_tokens, 0.0)),
            requests,
            ran: Vec::new(),
            cached_at_first: BTreeMap::new(),
            batch: Batch::default(),
            unfinished: 0,
        }
    }

    fn state(&self) -> Option<&State> {
        self.scheduler.state(&self.replica)
    }

    /// Takes down the batch that was put together in an iteration.
    fn record(&mut self, iteration: u32) {
        let state = self.state().unwrap();
        let launch = state.ahead.as_ref().unwrap_or(&state.last);
        let Some(launch) = launch else { return };
        let id = |slot| self.requests[slot].id;
        let mut retracted: Vec<u32> = state.retracted.iter().map(|&slot| id(slot)).collect();
        retracted.sort_unstable();
        let evictable = state.tree.evictable_tokens();
        let ran = Ran {
            iteration,
            kind: match launch.kind {
                Kind::Prefill => 0,
                Kind::Decode => 1,
                Kind::Mixed => 2,
            },
            rows: launch.rows.iter().map(|row| (id(row.slot), row.before, row.tokens, row.decodes)).collect(),
            retracted,
            held: state.kv_tokens - state.free_tokens - evictable,
            evictable,
            share: state.reserved_share,
        };
        for &(id, before, ..) in &ran.rows {
            self.cached_at_first.entry(id).or_insert(before);
        }
        self.ran.push(ran);
    }

    /// Ends the batch in flight: planning ahead, counting of tokens, results.
    fn end(&mut self, iteration: Option<u32>) {
        if let Some(iteration) = iteration {
            self.scheduler.look_ahead(&mut self.replica, &mut self.requests, &mut self.batch, f64::INFINITY);
            self.record(iteration);
        }
        for &(slot, tokens) in &self.batch.entries {
            let request = &mut self.requests[slot];
            if !request.is_completed() {
                request.advance(tokens, 1.0);
                self.unfinished -= usize::from(request.is_completed());
            }
        }
        self.scheduler.end_batch(&mut self.replica, &mut self.requests, &self.batch);
        self.batch.clear();
    }

    fn run(&mut self, case: &Value) {
        let ignore_eos = case["settings"].get("ignore_eos").is_none_or(|given| given.as_bool().unwrap());
        let all = case["requests"].as_array().unwrap();
        let mut to_come: Vec<(u32, u32)> =
            all.iter().zip(0..).map(|(request, id)| (number(&request[3]), id)).collect();
        to_come.sort();
        to_come.reverse();
        self.unfinished = all.len();
        let (mut iteration, mut idle) = (0, true);
        while self.unfinished > 0 || !self.batch.is_empty() {
            if let Some(&(first, _)) = to_come.last()
                && idle
            {
                iteration = iteration.max(first);
            }
            while let Some((_, id)) = to_come.pop_if(|&mut (first, _)| first <= iteration) {
                let request = &all[id as usize];
                let mut request = Request {
                    max_new_tokens: number(&request[2]),
                    ..Request::new(id, 0.0, number(&request[0]), number(&request[1]))
                };
                request.ignore_eos = ignore_eos;
                request.priority = case["priorities"]
                    .get(id as usize)
                    .map_or(0, |priority| priority.as_i64().unwrap() as i32);
                let slot = self.requests.insert(request);
                self.replica.queue.push_back(slot);
            }
            let overlap = self.scheduler.rules.overlap;
            if overlap && !self.batch.is_empty() {
                self.end(Some(iteration));
                self.scheduler.iterate(&mut self.replica, &mut self.requests, &mut self.batch);
                idle = false;
            } else {
                idle = !self.scheduler.iterate(&mut self.replica, &mut self.requests, &mut self.batch);
                self.record(iteration);
                if !overlap && !self.batch.is_empty() {
                    self.end(None);
                }
            }
            iteration += 1;
            assert!(iteration < 1_000_000, "no end");
        }
    }

    fn told(&self, case: &Value) -> Value {
        let (mut rows, mut held, mut steps): (Vec<(u32, [u32; 5])>, _, _) =
            (Vec::new(), Vec::new(), Vec::new());
        let without_plain = case.get("steps_without_plain_decode").is_some();
        for (number, ran) in self.ran.iter().enumerate() {
            let sum = |decodes| ran.rows.iter().filter(|row| row.3 == decodes).map(|row| row.2).sum::<u32>();
            let row = [ran.kind, ran.rows.len() as u32, sum(false), sum(true), ran.retracted.len() as u32];
            match rows.last_mut() {
                Some((times, last)) if *last == row => *times += 1,
                _ => rows.push((1, row)),
            }
            let plain = ran.kind == 1 && ran.retracted.is_empty();
            if !plain {
                held.push(json!([
                    number,
                    ran.held,
                    ran.evictable,
                    (ran.share * 1e4).round_ties_even() / 1e4
                ]));
            }
            if !(plain && without_plain) {
                let rows: Vec<_> =
                    ran.rows.iter().map(|&(id, before, tokens, _)| json!([id, before, tokens])).collect();
                steps.push(json!([ran.iteration, ran.kind, rows, ran.retracted, ran.held, ran.evictable]));
            }
        }
        let row = |(times, [kind, requests, prefill, decode, retracted]): (u32, [u32; 5])| {
            json!([times, kind, requests, prefill, decode, retracted])
        };
        let rows: Vec<Value> = rows.into_iter().map(row).collect();
        let cached: Vec<u32> = self.cached_at_first.values().copied().collect();
        let (mut retractions, mut out, mut readmissions) =
            (vec![0; cached.len()], vec![false; cached.len()], Vec::new());
        for ran in &self.ran {
            for &(id, before, tokens, _) in &ran.rows {
                if std::mem::take(&mut out[id as usize]) {
                    readmissions.push(json!([ran.iteration, id, before, tokens]));
                }
            }
            for &id in &ran.retracted {
                retractions[id as usize] += 1;
                out[id as usize] = true;
            }
        }
        json!({
            "rows": rows, "held": held, "steps": steps, "cached_at_first_admission": cached, "retractions": retractions,
            "readmissions": readmissions,
        })
    }
}

/// The first difference of what a replay tells from what was recorded.
fn difference(case: &Value) -> Option<String> {
    let mut replay = Replay::new(case);
    replay.run(case);
    let told = replay.told(case);
    let pool = (
        replay.state()?.available_tokens(),
        replay.replica.kv.free,
        replay.replica.allocated,
        replay.requests.len(),
    );
    if pool != (replay.state()?.kv_tokens, replay.replica.kv.total, 0, 0) {
        return Some(format!("left at the end: {pool:?}"));
    }
    told.as_object()?.iter().filter(|(name, _)| case.get(*name).is_some()).find_map(|(name, ours)| {
        let (ours, theirs) = (ours.as_array()?, case[name].as_array()?);
        let place = ours.iter().zip(theirs).position(|(ours, theirs)| !same(ours, theirs));
        let place = place.or_else(|| (ours.len() != theirs.len()).then(|| ours.len().min(theirs.len())))?;
        Some(format!(
            "{name}[{place}]: {:?}, recorded {:?}",
            ours.get(place).map(Value::to_string),
            theirs.get(place).map(Value::to_string)
        ))
    })
}

/// Numbers as numbers: 0 and 0.0 are the same.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| same(one, other))
        }
        _ => ours.as_f64() == theirs.as_f64(),
    }
}

/// Files of recorded cases beside the repository, or where `SCALEFRONT_SHARED` says.
fn recorded() -> Vec<PathBuf> {
    let root = std::env::var_os("SCALEFRONT_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let dir = root.join("data/sglang_scheduler");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        writeln!(std::io::stderr(), "SKIPPED: {} is not there", dir.display()).unwrap();
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

#[test]
fn recorded_iterations_are_replayed() {
    let mut different = Vec::new();
    let mut replayed = 0;
    for file in recorded() {
        let all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for (name, case) in all["cases"].as_object().unwrap() {
            let found =
                std::panic::catch_unwind(|| difference(case)).unwrap_or_else(|_| Some("panics".into()));
            different.extend(found.map(|found| format!("{name}: {found}")));
            replayed += 1;
        }
    }
    assert!(
        different.is_empty(),
        "{} of {replayed} cases differ:\n{}",
        different.len(),
        different.join("\n")
    );
}
