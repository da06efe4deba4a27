//! A policy that is a program of its own, in any language: it reads what it wants to know as JSON lines and
//! answers with decisions.
//!
//! One process serves one run after another. The dialogue, one JSON object a line, is the host's question and
//! the program's answer in turn:
//!
//! | host | program |
//! |---|---|
//! | `{"type": "hello", "protocol": 1}` | `{"type": "hello", "protocol": 1, "observes": [..]}`: any of `arrivals`, `decode_tokens`, `batches`, `latencies`, `replicas`, `passes` |
//! | `{"type": "start", "seed", "settings", "cluster"}`: a run begins, forget the last | `{"type": "ready"}`, or with `"tick_interval_s"` |
//! | `{"type": "tick", "now_s", "serving", ..}` | `{"type": "decision"}` to hold, with `"change": n` to add or (negative) drain, or with `"target": n`; `"evidence": {name: number}` for the records |
//!
//! The host ends the dialogue by closing the program's standard input. Everything a tick tells stands in
//! `docs/external-policies.md`. True output lengths (`decode_tokens` of arrivals) are a thing to ask for: no
//! real controller has them.
//!
//! This room knows the words of the dialogue and nothing of processes: whoever runs the simulation hands in
//! [`Programs`]. A program that breaks the dialogue ends the run with what it said ([`Autoscaler::failure`]).
//! A program that is deterministic gives deterministic runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bill::Bill;
use super::{
    Arrivals, Autoscaler, BatchEnd, Checked, Completion, Decision, FirstToken, Observes, PolicyContext,
    PolicySettings, ReplicaSignals, Snapshot, Upstream,
};
use crate::settings::{Faults, MAX_REPLICAS, SHORTEST_INTERVAL_S, quoted};

/// Version of the dialogue. A program that answers with another is refused.
pub const PROTOCOL: u32 = 1;

/// Values of evidence a decision may carry.
const MOST_EVIDENCE: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalSettings {
    /// The program and its arguments, such as `["python3", "policies/reactive.py"]`. Arguments that name
    /// files are looked for beside the grid file, then in the current directory; their content is part of a
    /// run's id.
    pub command: Vec<String>,
    /// Whatever the program calls its settings. Lists and ranges in here are axes, as everywhere.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// The longest an answer may take, in seconds of real time; past it the run fails.
    #[serde(default = "ten_seconds")]
    pub timeout_s: f64,
    /// BLAKE3 of the command's files, found when the grid is planned.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub program_blake3: Option<String>,
}

fn ten_seconds() -> f64 {
    10.0
}

/// Where programs are run.
pub trait Programs: Sync + fmt::Debug {
    /// A running process of `command` that nobody else talks to, fresh or waiting for its next run.
    ///
    /// Errors: the program cannot be started, or a message to show.
    fn open(&self, command: &[String]) -> Result<Box<dyn Dialogue>, String>;
}

/// A program, one line in and one line out.
pub trait Dialogue: Send {
    /// Sends a line, its end included, and waits for the answer, which takes the place of what `answer` held.
    ///
    /// Errors: no answer in time, or the program has ended; with the last it wrote to standard error.
    fn ask(&mut self, line: &[u8], answer: &mut String, timeout_s: f64) -> Result<(), String>;

    /// Its answer to the hello if it has been greeted in an earlier run.
    fn greeting(&self) -> Option<String>;

    fn set_greeting(&mut self, answer: &str);

    /// To be called when nobody is to talk to the program again.
    fn give_up(&mut self);
}

impl PolicySettings for ExternalSettings {
    fn check(&self, faults: &mut Faults) {
        let named = self.command.first().is_some_and(|program| !program.trim().is_empty());
        faults.require(named, "command", || {
            "no program found, expected a list such as [\"python3\", \"policy.py\"]".into()
        });
        faults.positive("timeout_s", self.timeout_s);
        faults.require(self.timeout_s <= 86_400.0, "timeout_s", || {
            format!("{} found, expected at most a day (86400)", self.timeout_s)
        });
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "a program of the user's own",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "command",
            signals: "the snapshot of this instant, arrivals, batches and latencies",
            blind_to: "what the program leaves aside",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(External::begin(self, context)))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Question<'a> {
    Hello { protocol: u32 },
    Start { seed: u64, settings: &'a Map<String, Value>, cluster: Cluster },
}

/// What is paid, as the cluster's `billing` spells it.
#[derive(Serialize)]
struct Billing {
    unit: &'static str,
    cold_start: bool,
    drain: bool,
    minimum_s: f64,
}

impl Billing {
    fn of(bill: &Bill) -> Self {
        let &Bill { whole_nodes, cold_start, drain, minimum_s, .. } = bill;
        Self { unit: if whole_nodes { "node" } else { "device" }, cold_start, drain, minimum_s }
    }
}

/// What a program may know of the cluster before a run.
#[derive(Serialize)]
struct Cluster {
    tune_interval_s: f64,
    scale_up_delay_s: f64,
    scale_down_delay_s: f64,
    min_replicas: u32,
    max_replicas: u32,
    devices_per_replica: u32,
    devices_per_node: u32,
    billing: Billing,
    scale_down_order: &'static str,
    pipeline_parallel: u32,
    batch_size_cap: u32,
    kv_blocks: u32,
    kv_block_size_tokens: u32,
}

/// Without `tag` and `flatten`, which take longer than what they write: a run has hundreds of ticks.
#[derive(Serialize)]
struct Tick<'a> {
    r#type: &'static str,
    now_s: f64,
    serving: u32,
    draining: u32,
    starting: u32,
    stopping: u32,
    committed: u32,
    outstanding_requests: u32,
    unrouted_requests: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrivals: Option<&'a Columns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<&'a [BatchEnd]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_tokens: Option<&'a [FirstToken]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completions: Option<&'a [Completion]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<&'a [ReplicaSignals]>,
}

/// What has happened since the last tick, as far as the program asked.
#[derive(Default)]
struct Observed {
    arrivals: Option<Columns>,
    batches: Option<Vec<BatchEnd>>,
    first_tokens: Option<Vec<FirstToken>>,
    completions: Option<Vec<Completion>>,
}

/// Requests that arrived, a column a quantity.
#[derive(Default, Serialize)]
struct Columns {
    arrived_at_s: Vec<f64>,
    prefill_tokens: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_tokens: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Answer {
    Hello {
        protocol: u32,
        #[serde(default)]
        observes: Vec<Wish>,
    },
    Ready {
        tick_interval_s: Option<f64>,
    },
    Decision {
        change: Option<i64>,
        target: Option<i64>,
        #[serde(default)]
        evidence: BTreeMap<String, f64>,
    },
}

/// A decision without evidence, as most are: read where it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Short<'a> {
    r#type: &'a str,
    change: Option<i64>,
    target: Option<i64>,
}

/// What a program can ask to be told.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    Arrivals,
    DecodeTokens,
    Batches,
    Latencies,
    Replicas,
    /// Replicas, each with its latest forward pass.
    Passes,
}

/// A program in the midst of a run.
struct External {
    dialogue: Option<Box<dyn Dialogue>>,
    timeout_s: f64,
    wishes: Vec<Wish>,
    tick_interval_s: Option<f64>,
    observed: Observed,
    /// The latest question and its answer, kept for their room.
    question: Vec<u8>,
    answer: String,
    evidence: Vec<(&'static str, f64)>,
    failure: Option<String>,
}

impl External {
    /// Greets the program unless it has been greeted, and tells it that a run begins.
    fn begin(settings: &ExternalSettings, context: &PolicyContext) -> Self {
        let mut policy = Self {
            dialogue: None,
            timeout_s: settings.timeout_s,
            wishes: Vec::new(),
            tick_interval_s: None,
            observed: Observed::default(),
            question: Vec::new(),
            answer: String::new(),
            evidence: Vec::new(),
            failure: None,
        };
        let opened = match context.programs {
            Some(programs) => programs.open(&settings.command),
            None => Err("programs are not run here".into()),
        };
        match opened {
            Ok(dialogue) => policy.dialogue = Some(dialogue),
            Err(error) => policy.failure = Some(error),
        }
        if let Err(error) = policy.start(settings, context) {
            policy.fail(error);
        }
        policy
    }

    fn start(&mut self, settings: &ExternalSettings, context: &PolicyContext) -> Result<(), String> {
        let Some(dialogue) = &mut self.dialogue else { return Ok(()) };
        let greeting = match dialogue.greeting() {
            Some(known) => known,
            None => {
                write_line(&mut self.question, &Question::Hello { protocol: PROTOCOL });
                dialogue.ask(&self.question, &mut self.answer, self.timeout_s)?;
                dialogue.set_greeting(&self.answer);
                self.answer.clone()
            }
        };
        match parse(&greeting, "hello")? {
            Answer::Hello { protocol: PROTOCOL, observes } => self.wishes = observes,
            Answer::Hello { protocol, .. } => {
                return Err(format!(
                    "protocol {protocol} found, expected {PROTOCOL}: the program was written for another version"
                ));
            }
            _ => return Err(unexpected(&greeting, "hello")),
        }
        let wishes = |wish| self.wishes.contains(&wish);
        if wishes(Wish::DecodeTokens) && !wishes(Wish::Arrivals) {
            return Err("`decode_tokens` found without `arrivals`, whose output lengths it asks for".into());
        }
        self.observed = Observed {
            arrivals: wishes(Wish::Arrivals).then(|| Columns {
                decode_tokens: wishes(Wish::DecodeTokens).then(Vec::new),
                ..Columns::default()
            }),
            batches: wishes(Wish::Batches).then(Vec::new),
            first_tokens: wishes(Wish::Latencies).then(Vec::new),
            completions: wishes(Wish::Latencies).then(Vec::new),
        };
        let start = Question::Start {
            // JSON numbers beyond 2^53 are not exact in every language.
            seed: context.seed >> 11,
            settings: &settings.settings,
            cluster: Cluster {
                tune_interval_s: context.tune_interval_s,
                scale_up_delay_s: context.scale_up_delay_s,
                scale_down_delay_s: context.scale_down_delay_s,
                min_replicas: context.min_replicas,
                max_replicas: context.max_replicas,
                devices_per_replica: context.bill.devices_per_replica,
                devices_per_node: context.bill.devices_per_node,
                billing: Billing::of(&context.bill),
                scale_down_order: if context.calls_off_starts { "starting_first" } else { "serving_first" },
                pipeline_parallel: context.pipeline_parallel,
                batch_size_cap: context.batch_size_cap,
                kv_blocks: context.kv.total,
                kv_block_size_tokens: context.kv.block_size_tokens,
            },
        };
        write_line(&mut self.question, &start);
        self.ask()?;
        match parse(&self.answer, "ready")? {
            Answer::Ready { tick_interval_s: None } => {}
            Answer::Ready { tick_interval_s: Some(seconds) }
                if seconds.is_finite() && seconds >= SHORTEST_INTERVAL_S =>
            {
                self.tick_interval_s = Some(seconds);
            }
            Answer::Ready { tick_interval_s: Some(seconds) } => {
                return Err(format!(
                    "`tick_interval_s` {seconds} found, expected a finite number of at least {SHORTEST_INTERVAL_S}"
                ));
            }
            _ => return Err(unexpected(&self.answer, "ready")),
        }
        Ok(())
    }

    /// Puts the question; the answer is then there.
    fn ask(&mut self) -> Result<(), String> {
        let dialogue = self.dialogue.as_mut().expect("a policy without a program has failed");
        dialogue.ask(&self.question, &mut self.answer, self.timeout_s)
    }

    fn fail(&mut self, error: String) {
        self.failure.get_or_insert(error);
        if let Some(mut dialogue) = self.dialogue.take() {
            dialogue.give_up();
        }
    }

    fn next_decision(&mut self, now_s: f64, snapshot: &Snapshot) -> Result<Decision, String> {
        let replicas = self.observes().replicas.then_some(snapshot.replicas);
        let observed = &self.observed;
        let tick = Tick {
            r#type: "tick",
            now_s,
            serving: snapshot.serving,
            draining: snapshot.draining,
            starting: snapshot.starting,
            stopping: snapshot.stopping,
            committed: snapshot.committed(),
            outstanding_requests: snapshot.outstanding_requests,
            unrouted_requests: snapshot.unrouted_requests,
            arrivals: observed.arrivals.as_ref(),
            batches: observed.batches.as_deref(),
            first_tokens: observed.first_tokens.as_deref(),
            completions: observed.completions.as_deref(),
            replicas,
        };
        write_line(&mut self.question, &tick);
        self.ask()?;
        self.observed.forget();
        self.evidence.clear();
        let short =
            serde_json::from_str(&self.answer).ok().filter(|short: &Short| short.r#type == "decision");
        let (change, target) = match short.map(|short| (short.change, short.target)) {
            Some(short) => short,
            None => self.read_decision()?,
        };
        let most = i64::from(MAX_REPLICAS);
        match (change, target) {
            (Some(_), Some(_)) => Err("`change` and `target` found, expected one of them".into()),
            (None, None) | (Some(0), None) => Ok(Decision::Hold),
            (Some(change), None) if (1..=most).contains(&change) => Ok(Decision::Up(change as u32)),
            (Some(change), None) if (-most..0).contains(&change) => Ok(Decision::Down(-change as u32)),
            (Some(change), None) => {
                Err(format!("`change` {change} found, expected a whole number from -{most} to {most}"))
            }
            (None, Some(target)) if (0..=most).contains(&target) => {
                Ok(Decision::towards(snapshot.committed(), target as u32))
            }
            (None, Some(target)) => {
                Err(format!("`target` {target} found, expected a whole number from 0 to {most}"))
            }
        }
    }
}

impl External {
    /// An answer that is no short decision; keeps its evidence.
    fn read_decision(&mut self) -> Result<(Option<i64>, Option<i64>), String> {
        let Answer::Decision { change, target, evidence } = parse(&self.answer, "decision")? else {
            return Err(unexpected(&self.answer, "decision"));
        };
        if evidence.len() > MOST_EVIDENCE {
            return Err(format!(
                "{} values of evidence found, expected at most {MOST_EVIDENCE}",
                evidence.len()
            ));
        }
        self.evidence.extend(evidence.into_iter().map(|(name, value)| (interned(name), value)));
        Ok((change, target))
    }
}

impl Observed {
    /// Empties what has been told, and keeps what is to be told.
    fn forget(&mut self) {
        if let Some(columns) = &mut self.arrivals {
            columns.arrived_at_s.clear();
            columns.prefill_tokens.clear();
            columns.decode_tokens.iter_mut().for_each(Vec::clear);
        }
        self.batches.iter_mut().for_each(Vec::clear);
        self.first_tokens.iter_mut().for_each(Vec::clear);
        self.completions.iter_mut().for_each(Vec::clear);
    }
}

impl Autoscaler for External {
    fn observes(&self) -> Observes {
        let wishes = |wish| self.wishes.contains(&wish);
        Observes {
            arrivals: wishes(Wish::Arrivals),
            batches: wishes(Wish::Batches),
            latencies: wishes(Wish::Latencies),
            replicas: wishes(Wish::Replicas) || wishes(Wish::Passes),
            passes: wishes(Wish::Passes),
            ..Observes::default()
        }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        self.tick_interval_s
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        let Some(columns) = &mut self.observed.arrivals else { return };
        columns.arrived_at_s.extend_from_slice(arrivals.arrived_at_s);
        columns.prefill_tokens.extend_from_slice(arrivals.prefill_tokens);
        if let Some(decode_tokens) = &mut columns.decode_tokens {
            decode_tokens.extend_from_slice(arrivals.decode_tokens);
        }
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        self.observed.batches.iter_mut().for_each(|told| told.extend_from_slice(batches));
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.observed.first_tokens.iter_mut().for_each(|told| told.extend_from_slice(first_tokens));
        self.observed.completions.iter_mut().for_each(|told| told.extend_from_slice(completions));
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        if self.failure.is_some() {
            return Decision::Hold;
        }
        self.next_decision(now_s, snapshot).unwrap_or_else(|error| {
            self.fail(format!("at {now_s} s of simulated time: {error}"));
            Decision::Hold
        })
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.evidence.clone()
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

/// Writes a question in the place of the one before.
fn write_line(line: &mut Vec<u8>, question: &impl Serialize) {
    line.clear();
    serde_json::to_writer(&mut *line, question).expect("times and counts are finite");
    line.push(b'\n');
}

fn parse(answer: &str, expected: &str) -> Result<Answer, String> {
    serde_json::from_str(answer)
        .map_err(|error| format!("{error} in {}, expected {}", shortened(answer), example(expected)))
}

fn unexpected(answer: &str, expected: &str) -> String {
    format!("{} found, expected {}", shortened(answer), example(expected))
}

fn example(expected: &str) -> String {
    match expected {
        "hello" => format!(
            "a line such as {{\"type\": \"hello\", \"protocol\": {PROTOCOL}, \"observes\": []}}, with any of {}",
            quoted(&["arrivals", "decode_tokens", "batches", "latencies", "replicas", "passes"])
        ),
        "ready" => "a line such as {\"type\": \"ready\"}".into(),
        _ => "a line such as {\"type\": \"decision\", \"target\": 4}".into(),
    }
}

/// The line as a message shows it.
fn shortened(line: &str) -> String {
    const SHOWN: usize = 200;
    let shown: String = line.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if line.chars().count() > SHOWN { format!("`{shown}..`") } else { format!("`{shown}`") }
}

/// The name for as long as the process lives. Names are few: whatever a program calls its evidence.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name.as_str()) {
        Some(known) => known,
        None => {
            let kept: &'static str = name.leak();
            names.insert(kept);
            kept
        }
    }
}

#[cfg(test)]
mod tests;
