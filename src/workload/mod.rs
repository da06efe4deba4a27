//! Request traces: read, generated, described.
//!
//! A [`WorkloadSpec`] says where requests come from, [`load`] makes them, a [`Workload`] is columns in
//! arrival order. Its content alone decides its identity: two workloads with equal columns have the same
//! [`Workload::fingerprint`], wherever they came from.
//!
//! ```
//! use scalefront::workload::{WorkloadSpec, describe::describe, load};
//!
//! let spec: WorkloadSpec = serde_json::from_str(r#"{
//!     "name": "bursty",
//!     "generate": {
//!         "arrivals": {"gamma": {"rate_per_s": 20, "duration_s": 600, "cv": 3}},
//!         "lengths": {"lognormal": {
//!             "prefill": {"median_tokens": 800, "sigma": 1.1, "max_tokens": 8000},
//!             "decode": {"mean_tokens": 200, "cv": 0.8}}},
//!         "max_tokens": 4096
//!     }
//! }"#)?;
//! let workload = load(&spec, 1, &[])?;
//! println!("{}", describe(&workload).expect("requests"));
//! # assert!(workload.len() > 10_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `arrivals` is one of [`poisson`](arrivals::Poisson), [`gamma`](arrivals::Gamma),
//! [`weibull`](arrivals::Weibull), [`static`](arrivals::Static) (these four at one rate or in `phases`),
//! [`diurnal`](arrivals::Diurnal), [`bursts`](arrivals::Bursts), [`trace`](TraceSpec); `lengths` one of
//! [`fixed`](lengths::Fixed), [`uniform`](lengths::Uniform), [`zipf`](lengths::Zipf),
//! [`lognormal`](lengths::LogNormal), [`empirical`](lengths::Empirical), [`trace`](TraceSpec).
//! [`servegen`](servegen::ServeGen) gives both at once.

pub mod arrivals;
pub mod bench;
mod csv;
pub mod describe;
mod error;
pub mod formats;
pub mod generate;
pub mod lengths;
pub mod outputs;
mod mix;
mod perturbed;
mod prefix;
mod priorities;
mod prefix_runs;
pub mod prompts;
mod scaled;
pub mod servegen;
pub mod drawn_sessions;
pub mod sessions;
pub mod source;
mod stream;
mod time_unit;
mod told;
pub mod trace;
mod trace_spec;

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::drawn_sessions::SessionSpec;
pub use self::error::WorkloadError;
pub use self::generate::GenerateSpec;
pub use self::mix::{MixPart, Models};
pub use self::outputs::{OutputLimits, OutputSettings, Outputs};
pub use self::prefix::PrefixBlocks;
pub use self::prefix_runs::{PrefixRuns, Prompt, Run};
pub use self::priorities::{Priorities, PriorityClass};
pub use self::sessions::Sessions;
pub use self::stream::{MOST_KEPT, RequestStream, Streamed, Totals};
pub use self::told::Told;
pub use self::trace::{TraceNotes, TraceSpec};
use crate::settings::{Faults, quoted};

/// The most tokens a prefill or a decode may have: twice as many still fit 32 bits.
pub const MAX_TOKENS: u32 = 1_000_000_000;

/// The latest arrival, some thirty years from the start: there a clock of 64-bit floats still tells 0.1 us
/// apart.
pub const MAX_ARRIVAL_S: f64 = 1e9;

/// The most requests of a workload; 3.2 GB of columns, where they have to be kept.
pub const MAX_REQUESTS: usize = 200_000_000;

/// One entry of a grid's `workloads`: a name, and one of `generate`, `trace`, `sessions` and `mix`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Names the workload in tables and reports; once in a grid.
    pub name: String,
    /// Requests drawn from distributions, under the run's seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSpec>,
    /// Requests read from a file, whatever the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSpec>,
    /// Conversations and agents: requests that wait for answers, drawn from distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionSpec>,
    /// Requests for several models, each with its own source; for clusters with pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixPart>,
    /// What requests may generate, for engines that reserve room for it: what a trace says
    /// (`max_new_tokens`), otherwise just what they do, unless told here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputSettings>,
    /// How urgent requests are: each is drawn a class. If empty, as a trace says (`priority`), otherwise all
    /// alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<PriorityClass>,
}

impl WorkloadSpec {
    pub fn check(&self, faults: &mut Faults) {
        faults.require(!self.name.trim().is_empty(), "name", || "an empty name found".into());
        faults.require(self.name != "*", "name", || {
            "`*` found, which stands for all workloads together; choose another name".into()
        });
        faults.require(!self.name.contains(char::is_control), "name", || {
            format!("{:?} found, expected a name without line breaks and other control characters", self.name)
        });
        let sources = [
            ("generate", self.generate.is_some()),
            ("trace", self.trace.is_some()),
            ("sessions", self.sessions.is_some()),
            ("mix", !self.mix.is_empty()),
        ];
        let given: Vec<&str> = sources.iter().filter(|source| source.1).map(|source| source.0).collect();
        match given[..] {
            [] => faults.add(
                "generate",
                "none of `generate`, `trace`, `sessions` and `mix` found, expected one of them",
            ),
            [_] => {}
            [.., last] => faults.add(last, format!("{} found, expected one of them", quoted(&given))),
        }
        if let Some(generate) = &self.generate {
            faults.within("generate", |faults| generate.check(faults));
        }
        if let Some(trace) = &self.trace {
            faults.within("trace", |faults| trace.check(faults));
        }
        if let Some(sessions) = &self.sessions {
            faults.within("sessions", |faults| sessions.check(faults));
        }
        mix::check(&self.name, &self.mix, faults);
        if let Some(outputs) = &self.outputs {
            faults.within("outputs", |faults| outputs.check(faults));
        }
        priorities::check(&self.priorities, faults);
    }
}

/// Reads or generates a workload. Files are looked for relative to each of `base_dirs` in turn.
///
/// The same settings, files and seed give the same workload, bit for bit.
///
/// Errors: settings that [`WorkloadSpec::check`] finds fault with; a file that is missing or broken.
pub fn load(spec: &WorkloadSpec, seed: u64, base_dirs: &[PathBuf]) -> Result<Workload, WorkloadError> {
    load_with_notes(spec, seed, base_dirs).map(|(workload, _)| workload)
}

/// The same, and what there is to tell of each trace that was read for it.
pub fn load_with_notes(
    spec: &WorkloadSpec,
    seed: u64,
    base_dirs: &[PathBuf],
) -> Result<(Workload, Vec<TraceNotes>), WorkloadError> {
    let (mut workload, notes) = load_requests(spec, seed, base_dirs)?;
    workload.outputs = Outputs { settings: spec.outputs.clone().unwrap_or_default(), seed };
    workload.priorities = Priorities { classes: spec.priorities.clone(), seed };
    Ok((workload, notes))
}

fn load_requests(
    spec: &WorkloadSpec,
    seed: u64,
    base_dirs: &[PathBuf],
) -> Result<(Workload, Vec<TraceNotes>), WorkloadError> {
    let mut faults = Faults::default();
    spec.check(&mut faults);
    match spec {
        _ if !faults.found.is_empty() => {}
        WorkloadSpec { generate: Some(generate), .. } => {
            let mut notes = Vec::new();
            let workload = match Streamed::if_large(generate, seed) {
                Some(streamed) => streamed,
                None => generate::generate(generate, seed, base_dirs, &mut notes)?,
            };
            match (!workload.is_empty()).then(|| workload.totals().last_arrival_s) {
                Some(last_s) if last_s > MAX_ARRIVAL_S => {
                    faults.add(
                        "generate",
                        format!("an arrival at {last_s} s drawn, expected none after {MAX_ARRIVAL_S} s"),
                    );
                }
                Some(_) if workload.duration_s.is_some_and(|duration_s| duration_s > MAX_ARRIVAL_S) => {
                    faults.add(
                        "generate",
                        format!("longer than {MAX_ARRIVAL_S} s, expected shorter phases or durations"),
                    );
                }
                Some(_) => return Ok((workload, notes)),
                None => faults.add(
                    "generate",
                    format!(
                        "no request drawn under seed {seed}, expected at least one; raise rates or durations"
                    ),
                ),
            }
        }
        WorkloadSpec { sessions: Some(sessions), .. } => {
            let mut notes = Vec::new();
            let workload = drawn_sessions::generate(sessions, seed, base_dirs, &mut notes, &mut faults)?;
            let last_s = workload.arrived_at_s.last().copied();
            match last_s {
                _ if !faults.found.is_empty() => {}
                Some(last_s) if last_s > MAX_ARRIVAL_S => {
                    let message = format!("a turn not before {last_s:e} s drawn, expected none after {MAX_ARRIVAL_S} s");
                    faults.add("sessions.think_time_s", message);
                }
                Some(_) => return Ok((workload, notes)),
                None => faults.add(
                    "sessions",
                    format!("no turn drawn under seed {seed}, expected at least one; raise rates or durations, or `max_context_tokens`"),
                ),
            }
        }
        WorkloadSpec { mix, .. } if !mix.is_empty() => {
            let mut notes = Vec::new();
            let workload = mix::load(spec, seed, base_dirs, &mut notes, &mut faults)?;
            if faults.found.is_empty() {
                return Ok((workload, notes));
            }
        }
        WorkloadSpec { trace: Some(trace), .. } => {
            return trace::read(trace, base_dirs).map(|(workload, notes)| (workload, vec![notes]));
        }
        _ => {} // neither: a fault
    }
    Err(WorkloadError::Settings { workload: spec.name.clone(), faults: faults.found })
}

/// Whether another seed gives other requests. A trace is the same under every seed, unless what its requests
/// may generate is drawn.
pub fn depends_on_seed(spec: &WorkloadSpec) -> bool {
    spec.generate.as_ref().is_some_and(GenerateSpec::depends_on_seed)
        || spec.sessions.as_ref().is_some_and(SessionSpec::depends_on_seed)
        || spec.mix.iter().any(|part| {
            part.generate.as_ref().is_some_and(GenerateSpec::depends_on_seed)
                || part.sessions.as_ref().is_some_and(SessionSpec::depends_on_seed)
        })
        || spec.outputs.as_ref().is_some_and(OutputSettings::depends_on_seed)
        || !spec.priorities.is_empty()
}

/// Cuts a request to at most `max_tokens` in all: first the prefill down to 1, then the decode.
fn cut(prefill_tokens: u32, decode_tokens: u32, max_tokens: Option<u32>) -> (u32, u32) {
    let Some(most) = max_tokens else { return (prefill_tokens, decode_tokens) };
    let decode = decode_tokens.min(most - 1);
    (prefill_tokens.min(most - decode), decode)
}

/// Requests in arrival order, as columns of equal length.
///
/// Invariants: `arrived_at_s` is finite, non-negative and never decreases; `prefill_tokens` and
/// `decode_tokens` are at least 1; `duration_s`, where given, is finite and not before the last arrival.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workload {
    /// Arrival of each request, seconds from the start of the run.
    pub arrived_at_s: Vec<f64>,
    /// Prompt tokens of each request.
    pub prefill_tokens: Vec<u32>,
    /// Tokens each request generates, counting the one its prefill yields.
    pub decode_tokens: Vec<u32>,
    /// Which prompts begin alike, where that is known.
    pub prefix: Option<PrefixBlocks>,
    /// How long the workload lasts from time 0, the silence after its last request included: the sum of
    /// generated phases, or the length of a trace's window. `None` where nothing says so and it ends with its
    /// last request.
    pub duration_s: Option<f64>,
    /// What requests may generate.
    pub outputs: Outputs,
    /// How urgent they are.
    pub priorities: Priorities,
    /// What of these two a trace tells. Settings go before it.
    pub told: Told,
    /// Set where requests wait for answers: then arrivals are the earliest there can be.
    pub sessions: Option<Box<Sessions>>,
    /// Set where requests ask for several models.
    pub models: Option<Box<Models>>,
    /// Set where the columns are only the beginning of what is generated.
    pub streamed: Option<Streamed>,
}

impl Workload {
    /// Requests kept in the columns.
    pub fn len(&self) -> usize {
        self.arrived_at_s.len()
    }

    /// What is known of prompts that begin alike.
    pub fn prompts(&self) -> Option<&Arc<PrefixRuns>> {
        let of_sessions = self.sessions.as_ref().and_then(|sessions| sessions.prompts.as_ref());
        of_sessions.or_else(|| self.prefix.as_ref().map(PrefixBlocks::runs))
    }

    /// Requests in all, those included that are not kept.
    pub fn num_requests(&self) -> u64 {
        self.streamed.as_ref().map_or(self.len() as u64, |streamed| streamed.totals.requests)
    }

    /// What all requests add up to.
    pub fn totals(&self) -> Totals {
        self.streamed.as_ref().map_or_else(
            || {
                let mut totals = Totals::default();
                totals.add(self);
                totals
            },
            |streamed| streamed.totals,
        )
    }

    /// When it is over: once it has lasted as long as it says, and everything has arrived.
    pub fn end_s(&self) -> f64 {
        self.totals().last_arrival_s.max(self.duration_s.unwrap_or(0.0))
    }

    pub fn is_empty(&self) -> bool {
        self.arrived_at_s.is_empty()
    }

    /// Adds a request without prompt blocks to a workload without them.
    pub fn push(&mut self, arrived_at_s: f64, prefill_tokens: u32, decode_tokens: u32) {
        self.arrived_at_s.push(arrived_at_s);
        self.prefill_tokens.push(prefill_tokens);
        self.decode_tokens.push(decode_tokens);
    }

    /// The most tokens that one request after the other may generate, told what it does; `None` if just that.
    pub fn output_limits(&self) -> Option<OutputLimits> {
        if self.outputs.settings != OutputSettings::default() {
            return self.outputs.limits();
        }
        self.told.max_new_tokens.clone().map(|column| OutputLimits::Drawn(Box::new(column.into_iter())))
    }

    /// The priority of one request after the other; `None` if all are 0.
    pub fn priorities(&self) -> Option<Box<dyn Iterator<Item = i32> + Send + Sync>> {
        self.priorities.draws().or_else(|| Some(Box::new(self.told.priorities.clone()?.into_iter())))
    }

    /// Keeps the first `len` requests.
    pub fn truncate(&mut self, len: usize) {
        self.arrived_at_s.truncate(len);
        self.prefill_tokens.truncate(len);
        self.decode_tokens.truncate(len);
        if let Some(prefix) = &mut self.prefix {
            prefix.truncate(len);
        }
        self.told.truncate(len);
    }

    /// Drops the first `requests`.
    fn skip(&mut self, requests: usize) {
        self.arrived_at_s.drain(..requests);
        self.prefill_tokens.drain(..requests);
        self.decode_tokens.drain(..requests);
        if let Some(prefix) = &mut self.prefix {
            prefix.skip(requests);
        }
        self.told.skip(requests);
    }

    /// Puts requests in order of arrival; those of the same instant stay in the order they have.
    pub fn sort(&mut self) {
        if self.arrived_at_s.is_sorted() {
            return;
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by(|&a, &b| self.arrived_at_s[a as usize].total_cmp(&self.arrived_at_s[b as usize]));
        self.arrived_at_s = order.iter().map(|&i| self.arrived_at_s[i as usize]).collect();
        self.prefill_tokens = order.iter().map(|&i| self.prefill_tokens[i as usize]).collect();
        self.decode_tokens = order.iter().map(|&i| self.decode_tokens[i as usize]).collect();
        self.prefix = self.prefix.as_ref().map(|prefix| prefix.reordered(&order));
        self.told = self.told.reordered(&order);
    }

    /// BLAKE3 of the columns' little-endian bytes, in hexadecimal; prompt blocks and a duration count only
    /// where there are any.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.len() as u64).to_le_bytes());
        for at in &self.arrived_at_s {
            hasher.update(&at.to_bits().to_le_bytes());
        }
        for column in [&self.prefill_tokens, &self.decode_tokens] {
            for tokens in column {
                hasher.update(&tokens.to_le_bytes());
            }
        }
        if let Some(prefix) = &self.prefix {
            prefix.hash(&mut hasher);
        }
        if let Some(duration_s) = self.duration_s {
            hasher.update(b"duration");
            hasher.update(&duration_s.to_bits().to_le_bytes());
        }
        self.outputs.hash(&mut hasher);
        self.priorities.hash(&mut hasher);
        self.told.hash(&mut hasher);
        if let Some(sessions) = &self.sessions {
            sessions.hash(&mut hasher);
        }
        if let Some(models) = &self.models {
            models.hash(&mut hasher);
        }
        if let Some(Streamed { generate, seed, totals }) = &self.streamed {
            hasher.update(
                &serde_json::to_vec(&(generate, seed, totals.requests)).expect("settings are plain data"),
            );
        }
        hasher.finalize().to_hex().to_string()
    }
}
