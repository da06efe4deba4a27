//! Engine overheads from result files of benchmark tools: what people have of their own server.
//!
//! Each file's requests are replayed as they were sent, with the server's counts of tokens, on one replica of
//! the model; the overheads are those with which the sum of absolute errors is least, of the mean logarithms
//! of simulated over measured time to first token, time per output token and end-to-end latency of blocks of
//! consecutive requests, every level of load weighing alike. Only the constants that the files tell are
//! fitted (`Bench::untold`); the others stay as shipped. Intervals are of 95 %, by leaving out one block of
//! consecutive requests at a time. How good the fit is, is judged on what it has not seen: each level left
//! out in turn, or each half of the only one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::experiment::{Experiment, TracedRequest};
use super::observed::{COUNT, Fitter, NAMES, own_share, values, with};
pub use super::observed::{Observed, Quantity, means, median_error};
use super::replay::Replay;
use crate::hardware::stored::{
    self, StoredCalibration, StoredConstant, StoredErrors, StoredFile, StoredServer,
};
use crate::hardware::{Files, OverheadSettings, Overheads};
use crate::simulation::Workspace;
use crate::workload::bench::{self, Measured, Results, Tool};

/// Constants that go with the load, by their place among all.
const KERNELS: usize = 0;
const SEQUENCE: usize = 2;
const PREFILL: usize = 4;

/// Fewer requests tell nothing.
pub const FEWEST_REQUESTS: usize = 20;
/// Requests in flight at the busiest level over those at the idlest, below which levels tell no more than
/// one.
const LEVELS_APART: f64 = 1.5;
/// Prompts longer than nine in ten over prompts longer than one in ten, below which they tell no more than
/// one length.
const LENGTHS_APART: f64 = 1.5;
/// Share of a constant's effect that others cannot make up for, below which the files do not tell it from
/// them.
const OWN_SHARE: f64 = 0.02;
/// Consecutive requests that are left out together, a block: as many blocks of each level at most, at least
/// so many requests each.
const BLOCKS: usize = 10;
const FEWEST_IN_BLOCK: usize = 4;
/// A result file, read.
#[derive(Debug)]
pub struct ResultFile {
    pub path: PathBuf,
    pub tool: &'static Tool,
    pub results: Results,
    blake3: String,
}

impl ResultFile {
    /// Reads a file whose layout is told by its keys.
    ///
    /// Errors: it is unreadable, of no known layout, or lacks what a replay needs, with the flag that would
    /// record it.
    pub fn read(path: &Path) -> Result<Self> {
        let tool = bench::recognise(path)?.with_context(|| {
            format!(
                "{}: no result file of a known layout found, expected one of {}, or a folder of measured runs with experiments.json",
                path.display(),
                bench::TOOLS.map(|tool| tool.name).join(", ")
            )
        })?;
        let results = tool.read(path, bench::LIMIT_BYTES)?;
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(Self { path: path.into(), tool, results, blake3: blake3::hash(&bytes).to_hex().to_string() })
    }
}

/// A constant of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    pub name: &'static str,
    pub value: f64,
    pub shipped: f64,
    /// 95 %; or why the files do not tell it.
    pub interval: Result<[f64; 2], String>,
}

/// Overheads fitted to result files.
#[derive(Debug)]
pub struct Fitted {
    pub overheads: Overheads,
    pub shipped: Overheads,
    pub constants: Vec<Constant>,
    /// As the tools name them, with their file.
    pub levels: Vec<String>,
    /// What was left out in turn.
    pub left_out: &'static str,
    /// Every observation with the fit that has not seen it, and the same with the shipped constants.
    pub unseen: Vec<Observed>,
    pub unseen_shipped: Vec<Observed>,
    /// And with the fit to all.
    pub all: Vec<Observed>,
}

/// One file's requests, ready to be simulated.
struct Run<'f> {
    replay: Replay,
    measured: &'f [Measured],
    /// Level, block and half of each request.
    places: Vec<[usize; 3]>,
    first_level: usize,
}

/// Everything there is to fit to.
struct Bench<'f> {
    runs: Vec<Run<'f>>,
    levels: usize,
    /// How many requests were in flight at each on average.
    in_flight: Vec<f64>,
    tool: &'static Tool,
}

/// Fits overheads to result files measured on the server that `experiment` describes (its load is not asked).
///
/// Errors: the server cannot be simulated; too few requests, or none with a latency.
pub fn calibrate(files: &[ResultFile], experiment: &Experiment) -> Result<Fitted> {
    let bench = Bench::new(files, experiment)?;
    let settings: OverheadSettings = serde_json::from_str("\"calibrated\"").expect("settings that exist");
    let shipped = bench.runs[0].replay.resolve(&settings, &Files::default())?;
    let all_levels: Vec<usize> = (0..bench.levels).collect();
    let everything = |_: &Observed| true;
    let (fit, told) = bench.fit(&shipped, &all_levels, everything)?;
    let all = bench.observe(&fit)?;
    let constants = bench.constants(&shipped, &fit, &told, &all)?;
    let shipped_all = bench.observe(&shipped)?;
    let (mut unseen, mut unseen_shipped) = (Vec::new(), Vec::new());
    let by_level = bench.levels > 1;
    for part in 0..if by_level { bench.levels } else { 2 } {
        let is_out = |one: &Observed| if by_level { one.level == part } else { one.half == part };
        let others: Vec<usize> =
            all_levels.iter().copied().filter(|&level| !by_level || level != part).collect();
        let (fit, _) = bench.fit(&shipped, &others, |one| !is_out(one))?;
        unseen.extend(bench.observe(&fit)?.into_iter().filter(is_out));
        unseen_shipped.extend(shipped_all.iter().copied().filter(is_out));
    }
    let name = |file: &ResultFile| {
        file.path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
    };
    let levels = files
        .iter()
        .flat_map(|file| file.results.levels_or_one().into_iter().map(move |level| (file, level)));
    Ok(Fitted {
        overheads: fit,
        shipped,
        constants,
        levels: levels.map(|(file, level)| format!("{}: {level}", name(file))).collect(),
        left_out: if by_level {
            "each level of load in turn"
        } else {
            "each half of the only level of load in turn"
        },
        unseen,
        unseen_shipped,
        all,
    })
}

impl<'f> Bench<'f> {
    fn new(files: &'f [ResultFile], experiment: &Experiment) -> Result<Self> {
        let (mut runs, mut levels, mut blocks, mut in_flight) = (Vec::new(), 0, 0, Vec::new());
        let answered: usize = files.iter().map(|file| file.results.requests.len()).sum();
        if answered < FEWEST_REQUESTS {
            bail!(
                "{answered} answered requests found, expected at least {FEWEST_REQUESTS}: run the load for longer"
            );
        }
        for file in files {
            let measured = &file.results.requests;
            let of_file = file.results.levels_or_one().len();
            let traced = measured.iter().map(|request| TracedRequest {
                stage: request.level as u32,
                arrived_at_s: request.sent_s,
                prompt_tokens: request.prefill_tokens.max(1),
                output_tokens: request.decode_tokens.max(1),
                prompt_id: None,
                shared_prefix_tokens: 0,
            });
            let replay = Replay::of(experiment, Some(traced.collect())).map_err(|reason| {
                anyhow!("the server of {} cannot be simulated: {reason}", file.path.display())
            })?;
            let mut places = vec![[0; 3]; measured.len()];
            for level in 0..of_file {
                let own: Vec<usize> = (0..measured.len()).filter(|&i| measured[i].level == level).collect();
                let parts = (own.len() / FEWEST_IN_BLOCK).clamp(1, BLOCKS);
                for (place, &request) in own.iter().enumerate() {
                    places[request] =
                        [levels + level, blocks + place * parts / own.len(), 2 * place / own.len()];
                }
                blocks += parts;
                let busy_s: f64 = own.iter().filter_map(|&i| measured[i].e2e_s).sum();
                let ends = own.iter().map(|&i| measured[i].sent_s + measured[i].e2e_s.unwrap_or_default());
                let from_s = own.first().map_or(0.0, |&i| measured[i].sent_s);
                in_flight.push(busy_s / (ends.fold(from_s, f64::max) - from_s).max(1e-9));
            }
            runs.push(Run { replay, measured, places, first_level: levels });
            levels += of_file;
        }
        let bench = Self { runs, levels, in_flight, tool: files[0].tool };
        if bench
            .runs
            .iter()
            .flat_map(|run| run.measured)
            .all(|request| request.ttft_s.or(request.e2e_s).is_none())
        {
            bail!("no latency of any request found: nothing to fit to");
        }
        Ok(bench)
    }

    /// Simulates all files.
    fn observe(&self, overheads: &Overheads) -> Result<Vec<Observed>> {
        let (mut observed, mut workspace) = (Vec::new(), Workspace::default());
        for run in &self.runs {
            let served = run.replay.run(&run.replay.overheads(overheads), 1, &mut workspace)?;
            let mut of_level = vec![Vec::new(); self.levels - run.first_level];
            served.iter().for_each(|one| of_level[one.stage as usize].push(one));
            let mut next = vec![0; of_level.len()];
            for (request, &[level, block, half]) in run.measured.iter().zip(&run.places) {
                let place = &mut next[request.level];
                *place += 1;
                // A request that the simulated server refuses is nobody's.
                let found = of_level[request.level].binary_search_by_key(&(*place - 1), |one| one.index);
                let Ok(found) = found else { continue };
                let one = of_level[request.level][found];
                for quantity in Quantity::ALL {
                    let (measured_s, simulated_ms) = match quantity {
                        Quantity::Ttft => (request.ttft_s, Some(one.ttft_ms)),
                        Quantity::Tpot => (request.tpot_s(), one.tpot_ms),
                        Quantity::E2e => (request.e2e_s, Some(one.e2e_ms)),
                    };
                    let (Some(measured_s), Some(simulated_ms)) =
                        (measured_s.filter(|&s| s > 0.0), simulated_ms)
                    else {
                        continue;
                    };
                    observed.push(Observed {
                        level,
                        block,
                        half,
                        quantity,
                        measured_s,
                        simulated_s: simulated_ms / 1e3,
                    });
                }
            }
        }
        Ok(observed)
    }

    /// Why the levels at hand do not tell each constant, as far as the load says it.
    fn untold(&self, levels: &[usize], observed: &[Observed]) -> [Option<String>; COUNT] {
        let has =
            |quantity| observed.iter().any(|one| one.quantity == quantity && levels.contains(&one.level));
        let of = |pick: fn(f64, f64) -> f64, from| {
            levels.iter().map(|&level| self.in_flight[level]).fold(from, pick)
        };
        let (least, most) = (of(f64::min, f64::INFINITY), of(f64::max, 0.0));
        let load = if levels.len() < 2 {
            Some(format!("one rate only: {}", self.another_rate()))
        } else if most < LEVELS_APART * least {
            Some(format!("levels alike, {least:.1} to {most:.1} requests in flight: {}", self.another_rate()))
        } else {
            None
        };
        let step = (!has(Quantity::Tpot)).then(|| {
            "no time per output token, which takes answers of several tokens and their first token's time: record it streaming".to_string()
        });
        let api = (!has(Quantity::Ttft))
            .then(|| "no time to first token: record it streaming (AIPerf: `--streaming`)".to_string());
        let mut lengths: Vec<u32> = self
            .runs
            .iter()
            .flat_map(|run| run.measured.iter().map(|request| request.prefill_tokens))
            .collect();
        lengths.sort_unstable();
        let (short, long) = (lengths[lengths.len() / 10], lengths[lengths.len() * 9 / 10]);
        let prefill = (f64::from(long) < LENGTHS_APART * f64::from(short)).then(|| {
            format!(
                "prompts alike, {short} to {long} tokens: run the load with prompts of different lengths (vLLM: `--random-range-ratio`)"
            )
        });
        [step.clone().or(load.clone()), step.clone(), step.or(load), api.clone(), api.or(prefill)]
    }

    fn another_rate(&self) -> String {
        let how = match self.tool.name {
            "GuideLLM" => "run `--profile kind=sweep`, or several rates",
            "inference-perf" => "run another stage, `load.stages` with a second `rate`",
            _ => "run the load again with another `--request-rate`",
        };
        format!("{how}, and give both files")
    }

    /// Fits what `levels` tell to the observations wanted; the overheads, and why each constant stays as
    /// shipped.
    fn fit(
        &self,
        shipped: &Overheads,
        levels: &[usize],
        wanted: impl Fn(&Observed) -> bool,
    ) -> Result<(Overheads, [Option<String>; COUNT])> {
        let observed = self.observe(shipped)?;
        let mut untold = self.untold(levels, &observed);
        let observe = |overheads: &Overheads| self.observe(overheads);
        let fitter = Fitter { observe: &observe, levels: self.levels };
        let slopes = fitter.slopes(shipped, told(&untold), &observed, &wanted)?;
        if let Some(constant) = [KERNELS, PREFILL, SEQUENCE]
            .into_iter()
            .find(|&c| untold[c].is_none() && own_share(&slopes, c) < OWN_SHARE)
        {
            untold[constant] =
                Some(format!("its effect is that of the others on this load: {}", self.another_rate()));
        }
        Ok((fitter.fit(shipped, told(&untold), wanted)?, untold))
    }

    /// Values with intervals.
    fn constants(
        &self,
        shipped: &Overheads,
        fit: &Overheads,
        untold: &[Option<String>; COUNT],
        observed: &[Observed],
    ) -> Result<Vec<Constant>> {
        let observe = |overheads: &Overheads| self.observe(overheads);
        let intervals =
            Fitter { observe: &observe, levels: self.levels }.intervals(fit, told(untold), observed)?;
        let constant = |constant: usize| Constant {
            name: NAMES[constant],
            value: values(fit)[constant],
            shipped: values(shipped)[constant],
            interval: untold[constant].clone().map_or(Ok(intervals[constant]), Err),
        };
        Ok((0..NAMES.len()).map(constant).collect())
    }
}

fn told(untold: &[Option<String>; COUNT]) -> [bool; COUNT] {
    untold.each_ref().map(Option::is_none)
}

impl Fitted {
    /// What is kept of it.
    pub fn stored(
        &self,
        name: &str,
        files: &[ResultFile],
        experiment: &Experiment,
        server: &Replay,
    ) -> StoredCalibration {
        let pair = |quantity| {
            Some([median_error(&self.unseen, quantity)?, median_error(&self.unseen_shipped, quantity)?])
        };
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let errors = |quantity| pair(quantity).map(|pair| pair.map(rounded));
        let deployment = server.deployment();
        StoredCalibration {
            scalefront_calibration: stored::VERSION,
            name: name.into(),
            server: StoredServer {
                model: deployment.model.name.to_string(),
                device: deployment.device.name.into(),
                tensor_parallel: deployment.tensor_parallel,
                engine: experiment.engine.engine.clone().unwrap_or_else(|| "vllm".into()),
                version: experiment.engine.version.clone().unwrap_or_else(|| "of unknown version".into()),
            },
            overheads: with(&self.overheads, &values(&self.overheads).map(rounded)),
            constants: self
                .constants
                .iter()
                .map(|constant| StoredConstant {
                    name: constant.name.into(),
                    value: rounded(constant.value),
                    interval: constant.interval.clone().ok().map(|interval| interval.map(rounded)),
                    not_told: constant.interval.clone().err(),
                })
                .collect(),
            held_out: StoredErrors {
                left_out: self.left_out.into(),
                requests: self.unseen.iter().filter(|one| one.quantity == Quantity::E2e).count(),
                e2e: errors(Quantity::E2e).unwrap_or([0.0; 2]),
                ttft: errors(Quantity::Ttft),
                tpot: errors(Quantity::Tpot),
            },
            files: files
                .iter()
                .map(|file| StoredFile {
                    file: file
                        .path
                        .file_name()
                        .map_or(String::new(), |name| name.to_string_lossy().into_owned()),
                    tool: file.tool.name.into(),
                    requests: file.results.requests.len(),
                    failed: file.results.failed,
                    warm_up: file.results.warm_up,
                    blake3: file.blake3.clone(),
                })
                .collect(),
        }
    }
}
