//! Decisions of Dynamo's planner.

use scalefront::autoscaler::bill::Bill;
use scalefront::autoscaler::{
    Arrivals, Autoscaler, AutoscalerSettings, Completion, Decision, ForwardPass, Part, PolicyContext,
    ReplicaSignals, Snapshot,
};
use scalefront::replica_scheduler::KvBlocks;
use serde_json::{Map, Value, json};

use super::{Row, Series, Tally, series};
use crate::scenario::execution_time;

/// One interval of throughput scaling.
const TICKS_BEFORE: u32 = 36;

/// An engine as the rows have it: 640 blocks of 16 tokens and 16 sequences, or 12,500 blocks and 128.
struct Engine {
    kv_blocks: u32,
    max_num_seqs: u32,
    /// Time of a pass, without work, a token of prompt, a token in the cache.
    law_s: [f64; 3],
    /// Decodes and their context in the passes it is profiled with.
    profile: ([u32; 5], u64),
}

const SMALL: Engine =
    Engine { kv_blocks: 640, max_num_seqs: 16, law_s: [0.02, 1e-4, 3e-6], profile: ([1, 4, 8, 12, 16], 550) };
const LARGE: Engine = Engine {
    kv_blocks: 12_500,
    max_num_seqs: 128,
    law_s: [0.01, 2e-5, 2e-7],
    profile: ([1, 8, 32, 64, 128], 1100),
};

impl Engine {
    fn pass(&self, prefill_tokens: u64, decode_requests: u32, decode_kv_tokens: u64) -> ForwardPass {
        let [idle_s, prompt_s, cache_s] = self.law_s;
        ForwardPass {
            prefill_requests: u32::from(prefill_tokens > 0),
            prefill_tokens,
            prefill_cached_tokens: 0,
            decode_requests,
            decode_kv_tokens,
            duration_s: idle_s + prompt_s * prefill_tokens as f64 + cache_s * decode_kv_tokens as f64,
        }
    }

    fn profile(&self) -> impl Iterator<Item = ForwardPass> {
        let (decodes, context) = self.profile;
        [0, 64, 256, 512, 1024, 2048, 4096]
            .into_iter()
            .flat_map(move |prompt| decodes.map(|count| self.pass(prompt, count, context * u64::from(count))))
    }

    fn policy(&self, name: &str, settings: Value) -> Box<dyn Autoscaler> {
        let settings: AutoscalerSettings = serde_json::from_value(json!({ name: settings })).unwrap();
        let context = PolicyContext {
            execution_time: execution_time(4, 1),
            kv: KvBlocks::new(self.kv_blocks, 16, 0.01),
            batch_size_cap: self.max_num_seqs,
            pipeline_parallel: 1,
            part: Part::Whole,
            max_request_tokens: 4096,
            bill: Bill {
                devices_per_replica: 1,
                devices_per_node: 1,
                whole_nodes: true,
                cold_start: false,
                drain: true,
                minimum_s: 0.0,
            },
            calls_off_starts: true,
            router_sees_load: false,
            tune_interval_s: 5.0,
            scale_up_delay_s: 10.0,
            scale_down_delay_s: 0.0,
            min_replicas: 0,
            max_replicas: 1000,
            seed: 0,
            programs: None,
        };
        settings.settings().build(&context).unwrap()
    }

    /// Lets a policy observe the passes of the profile in the three minutes before the rows, one a tick.
    fn teach(&self, policy: &mut dyn Autoscaler) {
        let mut passes = self.profile();
        for tick in 0..TICKS_BEFORE {
            let replica =
                passes.next().map(|pass| ReplicaSignals { pass: Some(pass), ..ReplicaSignals::default() });
            let snapshot =
                Snapshot { serving: 1, starting: 1, replicas: replica.as_slice(), ..Snapshot::default() };
            policy.decide(5.0 * (f64::from(tick) - f64::from(TICKS_BEFORE)), &snapshot);
        }
    }

    /// `running:KV tokens:queued:queued prompt tokens[:prompt tokens of the pass]`.
    fn replica(&self, id: u32, text: &str) -> ReplicaSignals {
        let parts: Vec<u64> = text.split(':').map(|part| part.parse().unwrap()).collect();
        let [running, kv_tokens, queued, queued_tokens] = parts[..4] else { panic!("{text}") };
        ReplicaSignals {
            id,
            queued_requests: queued as u32,
            queued_prefill_tokens: queued_tokens,
            running_requests: running as u32,
            kv_used_blocks: (kv_tokens / 16) as u32,
            kv_total_blocks: self.kv_blocks,
            pass: Some(self.pass(parts.get(4).copied().unwrap_or(0), running as u32, kv_tokens)),
            ..ReplicaSignals::default()
        }
    }
}

fn decided(policy: &mut dyn Autoscaler, now_s: f64, snapshot: &Snapshot) -> String {
    match policy.decide(now_s, snapshot) {
        Decision::Hold => String::new(),
        decision => (i64::from(snapshot.committed()) + decision.signed()).to_string(),
    }
}

/// A recorded target of what is there already is a hold.
fn recorded(row: Row, committed: u32) -> String {
    let decision = row.text("decision");
    if decision == committed.to_string() { String::new() } else { decision.into() }
}

/// `a=1;b=c` as settings of `dynamo_load` or `dynamo_combined`.
fn load_settings(series: &Series) -> (&'static str, Value) {
    let mut settings = Map::new();
    let mut name = "dynamo_load";
    for setting in series.settings.split(';') {
        let Some((key, value)) = setting.split_once('=') else {
            if setting == "load with throughput floor" {
                name = "dynamo_combined";
            }
            continue;
        };
        let number = || value.parse::<f64>().unwrap();
        let (key, value): (&str, Value) = match key {
            "optimization_target" if name == "dynamo_combined" => continue,
            "ttft_ms" => ("ttft_s", (number() / 1000.0).into()),
            "itl_ms" => ("itl_s", (number() / 1000.0).into()),
            "max_gpu_budget" | "min_gpu_budget" => (key, (number() as u32).into()),
            "up_kv_rate" => ("scale_up_kv_percent", number().into()),
            "down_kv_rate" => ("scale_down_kv_percent", number().into()),
            key => (key, value.into()),
        };
        settings.insert(key.into(), value);
    }
    if name == "dynamo_combined" {
        settings.insert("throughput_adjustment_interval_s".into(), 60.into());
    }
    (name, settings.into())
}

/// Requests of mean length, all of which came and were finished within an interval.
fn tell_traffic(
    policy: &mut dyn Autoscaler,
    requests: usize,
    prefill_tokens: u32,
    decode_tokens: u32,
    at_s: f64,
) {
    let (times, prompts, outputs) =
        (vec![at_s; requests], vec![prefill_tokens; requests], vec![decode_tokens; requests]);
    policy.observe_arrivals(Arrivals {
        arrived_at_s: &times,
        prefill_tokens: &prompts,
        decode_tokens: &outputs,
    });
    let completion = Completion {
        arrived_at_s: at_s,
        first_token_at_s: at_s,
        completed_at_s: at_s,
        prefill_tokens,
        decode_tokens,
    };
    policy.observe_latencies(&[], &vec![completion; requests]);
}

/// The toy's requests, as the rows' arrivals count them.
fn toy_lengths(request: u32) -> (u32, u32) {
    (400 + 100 * (request % 3), 40 + 20 * (request % 4))
}

fn tell_toy_arrivals(policy: &mut dyn Autoscaler, first: u32, until: u32, at_s: f64) {
    for request in first..until {
        let (prefill_tokens, decode_tokens) = toy_lengths(request);
        tell_traffic(policy, 1, prefill_tokens, decode_tokens, at_s);
    }
}

fn replay_load(series: &Series) {
    let mut tally = Tally::default();
    let (name, settings) = load_settings(series);
    let mut policy = SMALL.policy(name, settings);
    if series.settings.contains("sla") && !series.settings.contains("learned") {
        SMALL.teach(policy.as_mut());
    }
    let mut arrived = 0;
    for row in series.rows() {
        let replicas: Vec<ReplicaSignals> =
            row.list("replicas").enumerate().map(|(i, text)| SMALL.replica(i as u32, text)).collect();
        let (ready, starting) = (row.count("ready"), row.count("starting"));
        let snapshot = Snapshot {
            serving: ready,
            draining: row.count("draining"),
            starting,
            replicas: &replicas,
            ..Snapshot::default()
        };
        let now_s = row.number("time_s");
        if name == "dynamo_combined" {
            let now = row.count("arrived");
            tell_toy_arrivals(policy.as_mut(), arrived, now, now_s);
            arrived = now;
        }
        let found = decided(policy.as_mut(), now_s, &snapshot);
        tally.compare(|| format!("{now_s} s"), found, recorded(row, ready + starting));
    }
    tally.conclude(&series.name);
}

pub fn load_over_time() {
    series("dynamo").iter().filter(|series| series.looped == "closed").for_each(replay_load);
}

/// What a series' name says of its settings.
fn throughput_settings(name: &str) -> Value {
    let mut settings = json!({"itl_s": 0.05, "ttft_s": 0.5});
    for part in name.split('_') {
        match part {
            "constant" | "kalman" | "arima" => settings["load_predictor"] = part.into(),
            "itl12" => settings["itl_s"] = 0.012.into(),
            "itl5" => settings["itl_s"] = 0.005.into(),
            "ttft10" => settings["ttft_s"] = 0.01.into(),
            "min0" => settings["min_endpoint"] = 0.into(),
            "max6" => settings["max_gpu_budget"] = 6.into(),
            "kalman1" => settings["kalman_min_points"] = 1.into(),
            "load1" => settings["load_predictor_log1p"] = true.into(),
            _ => {}
        }
    }
    settings
}

/// Windows of 180 s, each a tick of throughput scaling; ticks between them see no engine.
fn replay_throughput(series: &Series) {
    let name = &series.name;
    let mut tally = Tally::default();
    let mut policy = LARGE.policy("dynamo_throughput", throughput_settings(name));
    LARGE.teach(policy.as_mut());
    for (window, row) in (0..).zip(series.rows()) {
        let (ready, pending) = (row.count("ready"), row.count("pending"));
        let snapshot = Snapshot { serving: ready, starting: pending, ..Snapshot::default() };
        let due_s = 180.0 * f64::from(window);
        tell_traffic(
            policy.as_mut(),
            row.count("requests") as usize,
            row.count("isl"),
            row.count("osl"),
            0.0,
        );
        let found = decided(policy.as_mut(), due_s, &snapshot);
        tally.compare(|| format!("{} s", row.text("time_s")), found, recorded(row, ready + pending));
        // Fits of near-unit roots end where rounding leads them: forecasts are compared where they are no
        // such.
        if !row.text("engine_rps").is_empty() && !name.ends_with("_arima") {
            let evidence = policy.evidence();
            let close = |found: f64, recorded: f64| (found - recorded).abs() <= 1e-6 * recorded.abs();
            assert!(
                close(180.0 * evidence[0].1, row.number("forecast_requests")),
                "{name} {}: {evidence:?}",
                row.text("time_s")
            );
            assert!(
                close(evidence[1].1, row.number("engine_rps")),
                "{name} {}: {evidence:?}",
                row.text("time_s")
            );
        }
        for tick in 1..TICKS_BEFORE {
            assert_eq!(policy.decide(due_s + 5.0 * f64::from(tick), &snapshot), Decision::Hold);
        }
    }
    tally.conclude(name);
}

pub fn throughput_over_time() {
    series("dynamo")
        .iter()
        .filter(|series| series.name.starts_with("throughput_"))
        .for_each(replay_throughput);
}

/// One sizing each, from one engine.
pub fn sizings() {
    for series in series("dynamo").iter().filter(|series| series.name.starts_with("targets_")) {
        let mut tally = Tally::default();
        for row in series.rows() {
            let engine = Engine { max_num_seqs: row.count("max_num_seqs"), ..LARGE };
            let settings = json!({
                "load_predictor": "constant",
                "max_throughput_scaling_replicas": 10_000,
                "itl_s": row.number("itl_target_ms") / 1000.0,
                "ttft_s": row.number("ttft_target_ms") / 1000.0,
            });
            let mut policy = engine.policy("dynamo_throughput", settings);
            engine.teach(policy.as_mut());
            let snapshot = Snapshot { serving: 1, ..Snapshot::default() };
            let requests = (row.number("demand_rps") * 180.0).round() as usize;
            tell_traffic(policy.as_mut(), requests, row.count("isl"), row.count("osl"), 0.0);
            let found = 1 + policy.decide(0.0, &snapshot).signed();
            tally.compare(|| format!("row {}", row.text("row")), found, row.count("desired").into());
        }
        tally.conclude(&series.name);
    }
}

/// Values in, the next value out after each. Near a unit root the fit of an ARIMA is led by rounding, in the
/// program as here: of its forecasts three in four have to be within 0.5 %, the rest are told.
pub fn forecasts() {
    for series in series("dynamo").iter().filter(|series| series.name.starts_with("forecast_")) {
        for (column, settings, within) in [
            ("constant", json!({"load_predictor": "constant"}), 1e-9),
            ("kalman", json!({"load_predictor": "kalman"}), 1e-6),
            ("kalman_log1p", json!({"load_predictor": "kalman", "load_predictor_log1p": true}), 1e-6),
            ("arima", json!({"load_predictor": "arima"}), 5e-3),
        ] {
            let mut policy = LARGE.policy("dynamo_throughput", settings);
            let snapshot = Snapshot { serving: 1, ..Snapshot::default() };
            policy.decide(-180.0, &snapshot);
            let (mut values, mut close, mut worst) = (0, 0, 0.0_f64);
            for row in series.rows() {
                let due_s = 180.0 * f64::from(values);
                for tick in 1..TICKS_BEFORE {
                    policy.decide(due_s - 180.0 + 5.0 * f64::from(tick), &snapshot);
                }
                tell_traffic(policy.as_mut(), row.number("value").round() as usize, 100, 100, 0.0);
                policy.decide(due_s, &snapshot);
                let (found, recorded) = (180.0 * policy.evidence()[0].1, row.number(column));
                let off = (found - recorded).abs() / recorded.abs().max(1.0);
                values += 1;
                close += u32::from(off <= within);
                worst = worst.max(off);
            }
            println!(
                "{}, {column}: {values} values, {close} within {within:.0e}, worst {worst:.1e}",
                series.name
            );
            let enough = if column == "arima" { values * 3 / 4 } else { values };
            assert!(close >= enough, "{}, {column}: {close} of {values} within {within}", series.name);
        }
    }
}
