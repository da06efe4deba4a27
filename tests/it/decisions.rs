//! Golden decision traces: what each policy of the zoo, and our own, decides on hand-made traffic (spike,
//! ramp, idle, flapping).
//!
//! The traffic drives a cluster of toy replicas, simple enough to check by hand and independent of the
//! engine: each serves 16 requests at once, 3 s each, first come first served; new ones serve after 10 s;
//! those that start are called off first, then the newest drains. Policies have their defaults, and may go to
//! zero. Rows are written whenever a decision changes something, and once a minute.
//!
//! A rule that changes on purpose: `UPDATE_DECISIONS=1 cargo test --no-default-features decisions`, then look
//! at the difference.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;

use scalefront::autoscaler::bill::Bill;
use scalefront::autoscaler::{
    Arrivals, Autoscaler, AutoscalerSettings, BatchEnd, BatchSums, Completion, Decision, FirstToken,
    ForwardPass, Part, PolicyContext, ReplicaSignals, Snapshot,
};
use scalefront::hardware::ExecutionTime;
use scalefront::replica_scheduler::KvBlocks;
use serde_json::{Value, json};

const SLOTS: usize = 16;
const SERVICE_S: f64 = 3.0;
const FIRST_TOKEN_S: f64 = 0.4;
const COLD_START_S: f64 = 10.0;
const KV_BLOCKS: u32 = 640;
const BLOCK_TOKENS: u32 = 16;
const MAX_REPLICAS: u32 = 20;
const END_S: f64 = 900.0;

/// Requests per second at a time.
type Rate = fn(f64) -> f64;

const SERIES: [(&str, Rate); 4] = [
    ("spike", |t| if (120.0..240.0).contains(&t) { 30.0 } else { 4.0 }),
    ("ramp", |t| 2.0 + 24.0 * ((t - 60.0) / 600.0).clamp(0.0, 1.0)),
    ("idle", |t| {
        if t < 180.0 {
            10.0
        } else if t < 720.0 {
            0.0
        } else {
            6.0
        }
    }),
    ("flapping", |t| if ((t / 45.0) as u32).is_multiple_of(2) { 6.0 } else { 18.0 }),
];

/// Policies that are not of the zoo, and therefore without golden decisions here.
const NOT_OF_THE_ZOO: [&str; 6] = ["static", "inferline", "service_level", "external", "per_pool", "fleet"];

/// Settings beside the defaults, each with a trace of its own.
fn variants() -> Vec<(&'static str, Value)> {
    vec![
        ("hpa_kv_use", json!({"hpa": {"metric": "kv_use", "target_per_replica": 0.5}})),
        (
            "hpa_tokens",
            json!({"hpa": {"metric": "tokens_per_s", "target_per_replica": 2000, "behavior": {"scale_down": {"stabilization_window_s": 60}}}}),
        ),
        ("wva_v2_direct", json!({"wva_v2": {"carrier": "direct"}})),
        (
            "wva_v2_throughput",
            json!({"wva_v2": {"carrier": "direct", "analyzers": "saturation_and_throughput"}}),
        ),
        ("hpa_behavior", json!({"hpa": {"behavior": {}}})),
        ("hpa_two_metrics", json!({"hpa": {"also": [{"metric": "kv_use", "target_per_replica": 0.5}]}})),
        ("keda_epp_saturation", json!({"keda_epp": {"signal": "saturation"}})),
        ("keda_epp_guard", json!({"keda_epp": {"signal": "queue_guard"}})),
        ("keda_epp_tokens", json!({"keda_epp": {"signal": "prefill_backlog"}})),
        ("aibrix_kpa_intended", json!({"aibrix_kpa": {"rule": "as_intended"}})),
        ("knative_kpa_10", json!({"knative_kpa": {"target_per_replica": 10}})),
        (
            "knative_kpa_rps",
            json!({"knative_kpa": {"metric": "requests_per_s", "target_per_replica": 5, "scale_down_delay_s": 30}}),
        ),
        ("aibrix_apa_documented", json!({"aibrix_apa": {"cooldown": "as_documented"}})),
        (
            "dynamo_load_sla",
            json!({"dynamo_load": {"optimization_target": "sla", "ttft_s": 1.0, "itl_s": 0.2}}),
        ),
        ("dynamo_load_latency", json!({"dynamo_load": {"optimization_target": "latency"}})),
        (
            "dynamo_load_kv",
            json!({"dynamo_load": {"optimization_target": "load", "scale_up_kv_percent": 80, "scale_down_kv_percent": 20}}),
        ),
        (
            "dynamo_combined",
            json!({"dynamo_combined": {"ttft_s": 1.0, "itl_s": 0.2, "throughput_adjustment_interval_s": 60}}),
        ),
        ("ray_serve_max", json!({"ray_serve": {"aggregation_function": "max", "downscale_delay_s": 60}})),
        (
            "dynamo_throughput_constant",
            json!({"dynamo_throughput": {"load_predictor": "constant", "itl_s": 0.2, "adjustment_interval_s": 60}}),
        ),
        ("frontier_cheap", json!({"frontier": {"service_level": 0.1}})),
        ("frontier_fast", json!({"frontier": {"service_level": 0.9}})),
        ("holt_winters_season", json!({"holt_winters": {"season_s": 90}})),
        (
            "schedule",
            json!({"schedule": {"period_s": 600, "lead_s": 10, "steps": [{"at_s": 100, "replicas": 6}, {"at_s": 300, "replicas": 2}]}}),
        ),
    ]
}

/// When requests of a series arrive: whenever the integral of its rate passes an integer.
fn arrivals(rate: Rate) -> Vec<f64> {
    let (mut sum, mut times) = (0.0, Vec::new());
    for step in 0..(END_S * 100.0) as u32 {
        let at_s = f64::from(step) / 100.0;
        sum += rate(at_s) / 100.0;
        while times.len() as f64 + 1.0 <= sum {
            times.push(at_s);
        }
    }
    times
}

fn lengths(request: usize) -> (u32, u32) {
    (400 + 100 * (request % 3) as u32, 40 + 20 * (request % 4) as u32)
}

/// A request on a toy replica.
#[derive(Debug, Clone, Copy)]
struct Served {
    request: usize,
    arrived_at_s: f64,
    start_s: f64,
}

#[derive(Debug)]
struct Toy {
    id: u32,
    draining: bool,
    free_at_s: [f64; SLOTS],
    served: Vec<Served>,
}

impl Toy {
    fn take(&mut self, request: usize, arrived_at_s: f64, now_s: f64) {
        let slot = (0..SLOTS).min_by(|&a, &b| self.free_at_s[a].total_cmp(&self.free_at_s[b])).unwrap();
        let start_s = self.free_at_s[slot].max(now_s);
        self.free_at_s[slot] = start_s + SERVICE_S;
        self.served.push(Served { request, arrived_at_s, start_s });
    }

    fn signals(&self, now_s: f64) -> ReplicaSignals {
        let mut signals = ReplicaSignals {
            id: self.id,
            draining: self.draining,
            kv_total_blocks: KV_BLOCKS,
            ..ReplicaSignals::default()
        };
        // The pass under way: prompts of the last half second beside everything in memory.
        let mut pass = ForwardPass::default();
        for served in &self.served {
            let (prefill, decode) = lengths(served.request);
            if served.start_s > now_s {
                signals.queued_requests += 1;
                signals.queued_prefill_tokens += u64::from(prefill);
            } else if served.start_s + SERVICE_S > now_s {
                signals.running_requests += 1;
                let generated = (f64::from(decode) * (now_s - served.start_s) / SERVICE_S) as u32;
                signals.kv_used_blocks += (prefill + generated).div_ceil(BLOCK_TOKENS);
                if now_s - served.start_s < 0.5 {
                    pass.prefill_requests += 1;
                    pass.prefill_tokens += u64::from(prefill);
                }
            }
        }
        pass.decode_requests = signals.running_requests;
        pass.decode_kv_tokens = u64::from(signals.kv_used_blocks * BLOCK_TOKENS);
        pass.duration_s = 0.02 + 1e-4 * pass.prefill_tokens as f64 + 3e-6 * pass.decode_kv_tokens as f64;
        ReplicaSignals { pass: Some(pass), ..signals }
    }
}

/// Toy replicas, traffic, and what the policy has been told.
struct Cluster {
    arrivals: Vec<f64>,
    arrived: usize,
    unrouted: VecDeque<usize>,
    replicas: Vec<Toy>,
    next_id: u32,
    next_route: usize,
    starting: VecDeque<f64>,
    told_until_s: f64,
    told_decode_tokens: fn(usize) -> u32,
}

impl Cluster {
    fn new(rate: Rate, told_decode_tokens: fn(usize) -> u32) -> Self {
        let mut cluster = Self {
            arrivals: arrivals(rate),
            arrived: 0,
            unrouted: VecDeque::new(),
            replicas: Vec::new(),
            next_id: 0,
            next_route: 0,
            starting: VecDeque::new(),
            told_until_s: f64::NEG_INFINITY,
            told_decode_tokens,
        };
        cluster.add();
        cluster
    }

    fn add(&mut self) {
        self.replicas.push(Toy {
            id: self.next_id,
            draining: false,
            free_at_s: [0.0; SLOTS],
            served: Vec::new(),
        });
        self.next_id += 1;
    }

    fn serving(&self) -> u32 {
        self.replicas.iter().filter(|replica| !replica.draining).count() as u32
    }

    fn route(&mut self, now_s: f64) {
        let serving = self.serving() as usize;
        while serving > 0 && !self.unrouted.is_empty() {
            let request = self.unrouted.pop_front().unwrap();
            self.next_route = (self.next_route + 1) % serving;
            let arrived_at_s = self.arrivals[request];
            self.replicas.iter_mut().filter(|replica| !replica.draining).nth(self.next_route).unwrap().take(
                request,
                arrived_at_s,
                now_s,
            );
        }
    }

    /// Lets everything happen until a tick.
    fn advance(&mut self, now_s: f64) {
        // What has finished by the last tick has been told.
        self.replicas.retain(|replica| !replica.draining || !replica.served.is_empty());
        loop {
            let start_s = self.starting.front().copied().unwrap_or(f64::INFINITY);
            let arrival_s = self.arrivals.get(self.arrived).copied().unwrap_or(f64::INFINITY);
            let at_s = start_s.min(arrival_s);
            if at_s > now_s {
                break;
            }
            if start_s <= arrival_s {
                self.starting.pop_front();
                self.add();
            } else {
                self.unrouted.push_back(self.arrived);
                self.arrived += 1;
            }
            self.route(at_s);
        }
    }

    /// Tells a policy what has happened since the last tick, asks it, and does what it says within the
    /// limits. Returns the decision, whether it changed anything, and the outstanding requests.
    fn tick(&mut self, now_s: f64, policy: &mut dyn Autoscaler) -> (i64, bool, u32) {
        let observes = policy.observes();
        let since_s = std::mem::replace(&mut self.told_until_s, now_s);
        let news = |at_s: f64| since_s < at_s && at_s <= now_s;
        if observes.arrivals {
            let first = self.arrivals.partition_point(|&at_s| at_s <= since_s);
            let requests: Vec<usize> = (first..self.arrived).collect();
            let prefill: Vec<u32> = requests.iter().map(|&request| lengths(request).0).collect();
            let decode: Vec<u32> =
                requests.iter().map(|&request| (self.told_decode_tokens)(request)).collect();
            let times: Vec<f64> = requests.iter().map(|&request| self.arrivals[request]).collect();
            policy.observe_arrivals(Arrivals {
                arrived_at_s: &times,
                prefill_tokens: &prefill,
                decode_tokens: &decode,
            });
        }
        let mut served: Vec<Served> =
            self.replicas.iter().flat_map(|replica| replica.served.iter().copied()).collect();
        served.sort_by(|a, b| a.start_s.total_cmp(&b.start_s).then(a.request.cmp(&b.request)));
        let finished: Vec<&Served> =
            served.iter().filter(|served| news(served.start_s + SERVICE_S)).collect();
        if observes.batches || observes.batch_sums {
            let batches: Vec<BatchEnd> = (finished.iter())
                .map(|served| {
                    let (prefill, decode) = lengths(served.request);
                    BatchEnd {
                        scheduled_at_s: served.start_s,
                        completed_at_s: served.start_s + SERVICE_S,
                        tokens: u64::from(prefill + decode),
                        prefill_tokens: prefill.into(),
                        num_requests: 1,
                    }
                })
                .collect();
            policy.observe_batch_sums(BatchSums {
                batches: batches.len() as u64,
                tokens: batches.iter().map(|batch| batch.tokens).sum(),
                prefill_tokens: batches.iter().map(|batch| batch.prefill_tokens).sum(),
            });
            policy.observe_batches(&batches);
        }
        if observes.latencies {
            let first: Vec<FirstToken> =
                (served.iter().filter(|served| news(served.start_s + FIRST_TOKEN_S)))
                    .map(|served| FirstToken {
                        arrived_at_s: served.arrived_at_s,
                        at_s: served.start_s + FIRST_TOKEN_S,
                    })
                    .collect();
            let completions: Vec<Completion> = (finished.iter())
                .map(|served| {
                    let (prefill_tokens, decode_tokens) = lengths(served.request);
                    Completion {
                        arrived_at_s: served.arrived_at_s,
                        first_token_at_s: served.start_s + FIRST_TOKEN_S,
                        completed_at_s: served.start_s + SERVICE_S,
                        prefill_tokens,
                        decode_tokens,
                    }
                })
                .collect();
            policy.observe_latencies(&first, &completions);
        }
        let replicas: Vec<ReplicaSignals> =
            self.replicas.iter().map(|replica| replica.signals(now_s)).collect();
        let in_replicas: u32 =
            replicas.iter().map(|replica| replica.queued_requests + replica.running_requests).sum();
        let snapshot = Snapshot {
            serving: self.serving(),
            draining: self.replicas.len() as u32 - self.serving(),
            starting: self.starting.len() as u32,
            stopping: 0,
            outstanding_requests: in_replicas + self.unrouted.len() as u32,
            unrouted_requests: self.unrouted.len() as u32,
            replicas: if observes.replicas || observes.replica_requests || observes.passes {
                &replicas
            } else {
                &[]
            },
        };
        let committed = snapshot.committed();
        let decision = policy.decide(now_s, &snapshot);
        for replica in &mut self.replicas {
            replica.served.retain(|served| served.start_s + SERVICE_S > now_s);
        }
        let changes = match decision {
            Decision::Hold => 0,
            Decision::Up(more) => {
                let more = more.min(MAX_REPLICAS - committed);
                self.starting.extend((0..more).map(|_| now_s + COLD_START_S));
                more
            }
            Decision::Down(fewer) => {
                let fewer = fewer.min(committed);
                // Those that start are called off first.
                let called_off = fewer.min(self.starting.len() as u32);
                self.starting.truncate(self.starting.len() - called_off as usize);
                for _ in called_off..fewer {
                    self.replicas.iter_mut().rev().find(|replica| !replica.draining).unwrap().draining = true;
                }
                fewer
            }
        };
        (decision.signed(), changes > 0, in_replicas + self.unrouted.len() as u32)
    }
}

/// The decisions of a policy on every series, as a table.
///
/// `decode_tokens` is what a policy is told of the output length of a request on its arrival.
fn trace(settings: &AutoscalerSettings, times: &ExecutionTime, decode_tokens: fn(usize) -> u32) -> String {
    let mut table = String::from("series,time_s,arrived,outstanding,serving,starting,draining,decision\n");
    for (series, rate) in SERIES {
        let context = PolicyContext {
            execution_time: times,
            kv: KvBlocks::new(KV_BLOCKS, BLOCK_TOKENS, 0.01),
            batch_size_cap: SLOTS as u32,
            pipeline_parallel: 1,
            part: Part::Whole,
            max_request_tokens: 4096,
            bill: Bill {
                devices_per_replica: 4,
                devices_per_node: 4,
                whole_nodes: true,
                cold_start: false,
                drain: true,
                minimum_s: 0.0,
            },
            tune_interval_s: 5.0,
            scale_up_delay_s: COLD_START_S,
            scale_down_delay_s: 0.0,
            calls_off_starts: true,
            router_sees_load: false,
            min_replicas: 0,
            max_replicas: MAX_REPLICAS,
            seed: 0,
            programs: None,
        };
        let mut policy = settings.settings().build(&context).expect("a policy of the zoo decides");
        let tick_s = policy.tick_interval_s().unwrap_or(context.tune_interval_s);
        let mut cluster = Cluster::new(rate, decode_tokens);
        let (mut now_s, mut minute) = (0.0, -1.0);
        while now_s < END_S {
            cluster.advance(now_s);
            let (serving, starting, draining) = (
                cluster.serving(),
                cluster.starting.len(),
                cluster.replicas.len() as u32 - cluster.serving(),
            );
            let (decision, changed, outstanding) = cluster.tick(now_s, policy.as_mut());
            // Ticks add up to times that miss whole minutes by rounding.
            let this_minute = ((now_s + 1e-6) / 60.0).floor();
            if changed || this_minute > minute {
                minute = this_minute;
                let arrived = cluster.arrived;
                writeln!(
                    table,
                    "{series},{now_s:.2},{arrived},{outstanding},{serving},{starting},{draining},{decision}"
                )
                .unwrap();
            }
            now_s += tick_s;
        }
    }
    table
}

/// Names and settings of everything traced here.
fn cases() -> Vec<(&'static str, AutoscalerSettings)> {
    let mut cases = variants();
    let with_settings: Vec<&str> = cases.iter().map(|&(name, _)| name).collect();
    let of_the_zoo = AutoscalerSettings::NAMES
        .iter()
        .filter(|name| !NOT_OF_THE_ZOO.contains(name) && !with_settings.contains(name));
    cases.extend(of_the_zoo.map(|&name| (name, json!(name))));
    cases.into_iter().map(|(name, settings)| (name, serde_json::from_value(settings).unwrap())).collect()
}

fn true_decode_tokens(request: usize) -> u32 {
    lengths(request).1
}

#[test]
fn decisions_are_as_recorded() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decisions");
    let times = super::scenario::execution_time(4, 1);
    let update = std::env::var_os("UPDATE_DECISIONS").is_some();
    let mut drifted = Vec::new();
    for (name, settings) in cases() {
        let (file, found) = (dir.join(format!("{name}.csv")), trace(&settings, times, true_decode_tokens));
        if update {
            std::fs::write(&file, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((line, pair)) = found
            .lines()
            .zip(expected.lines().chain(std::iter::repeat("")))
            .enumerate()
            .find(|(_, (a, b))| a != b)
        {
            drifted.push(format!("{name}.csv, line {}: `{}`, recorded `{}`", line + 1, pair.0, pair.1));
        } else if found != expected {
            drifted.push(format!("{name}.csv: recorded decisions go on after the last"));
        }
    }
    assert!(
        drifted.is_empty(),
        "{}\nIf a rule changed on purpose, see this test's module on how to record anew.",
        drifted.join("\n")
    );
}

/// No server knows how long an answer will be: told nonsense about it on arrival, every policy decides the
/// same.
#[test]
fn output_lengths_are_not_seen_on_arrival() {
    let times = super::scenario::execution_time(4, 1);
    for (name, settings) in cases() {
        assert!(
            trace(&settings, times, true_decode_tokens)
                == trace(&settings, times, |request| 7919 * (request as u32 % 5)),
            "{name}"
        );
    }
}
