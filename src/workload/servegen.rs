//! ServeGen's clients: production traffic as a sum of clients, each with its own rate, burstiness and lengths
//! over the day.
//!
//! A directory holds `chunk-<i>-trace.csv` and `chunk-<i>-dataset.json` for each client, as published at
//! <https://github.com/alibaba/ServeGen>. The CSV has no header; each line is a window: start in s, rate,
//! coefficient of variation, pattern (`Gamma`, `Weibull`, or empty for Poisson), shape, scale. The JSON
//! gives, from a start time on, the lengths' histograms as Python dictionaries in strings; these are parsed,
//! never evaluated.
//!
//! Within a window the spacing has the pattern's shape and, on average, the window's rate times `rate_scale`
//! (the published scale is of a fit that misses the rate slightly). Every client has random streams of its
//! own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_distr::Exp1;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::phases::{self, Phase};
use super::arrivals::{gamma, weibull};
use super::csv;
use super::error::{WorkloadError, excerpt};
use super::source::{self, DECOMPRESSED_LIMIT_BYTES, Line, Lines};
use super::{MAX_REQUESTS, MAX_TOKENS, Workload};
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeGen {
    /// The directory of the clients' files.
    pub dir: PathBuf,
    /// Time of the published windows that becomes time 0.
    #[serde(default)]
    pub start_s: f64,
    /// How much time from there; to the end of the last window if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Factor on every client's rate.
    #[serde(default = "one")]
    pub rate_scale: f64,
}

fn one() -> f64 {
    1.0
}

/// A stretch of a client's time. It ends where the next begins, the last one after as long as the one before.
struct Window {
    start_s: f64,
    end_s: f64,
    rate_per_s: f64,
    spacing: Spacing,
}

#[derive(Clone, Copy)]
enum Spacing {
    Poisson,
    Gamma(gamma::Spacing),
    Weibull(weibull::Spacing),
}

impl Spacing {
    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match self {
            Self::Poisson => random.sample(Exp1),
            Self::Gamma(spacing) => spacing.draw(random),
            Self::Weibull(spacing) => spacing.draw(random),
        }
    }
}

/// Lengths by how often they occur.
struct Histogram {
    tokens: Vec<u32>,
    cumulative: Vec<f64>,
}

impl Histogram {
    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> u32 {
        let at = random.random::<f64>() * self.cumulative[self.cumulative.len() - 1];
        self.tokens[self.cumulative.partition_point(|&below| below <= at).min(self.tokens.len() - 1)]
    }
}

/// Histograms of prefill and decode tokens, by the time from which they hold.
type Datasets = BTreeMap<u64, (Histogram, Histogram)>;

impl ServeGen {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require(!self.dir.as_os_str().is_empty(), "dir", || {
            "an empty path found, expected a directory".into()
        });
        faults.not_negative("start_s", self.start_s);
        faults.positive("rate_scale", self.rate_scale);
        if let Some(duration_s) = self.duration_s {
            faults.positive("duration_s", duration_s);
        }
    }

    /// Errors: the directory has no clients, a client lacks one of its files, or a file is broken.
    pub(super) fn generate(&self, seed: u64, base_dirs: &[PathBuf]) -> Result<Workload, WorkloadError> {
        let dir = source::find(&self.dir, base_dirs)?;
        let mut workload = Workload { duration_s: self.duration_s, ..Workload::default() };
        for (id, trace) in clients(&dir)? {
            let last_window_ends_s = self.add_client(
                id,
                &trace,
                &dir.join(format!("chunk-{id}-dataset.json")),
                seed,
                &mut workload,
            )?;
            if self.duration_s.is_none() {
                let until_s = last_window_ends_s - self.start_s;
                workload.duration_s = Some(workload.duration_s.unwrap_or_default().max(until_s));
            }
        }
        workload.sort();
        Ok(workload)
    }

    /// Adds the requests of a client; returns where its last window ends.
    fn add_client(
        &self,
        id: u64,
        trace: &Path,
        dataset: &Path,
        seed: u64,
        workload: &mut Workload,
    ) -> Result<f64, WorkloadError> {
        let windows = read_windows(trace)?;
        let last_window_ends_s = windows.last().map_or(0.0, |window| window.end_s);
        let end_s = self.duration_s.map_or(f64::INFINITY, |duration_s| self.start_s + duration_s);
        let mut used = Vec::new();
        let mut phases = Vec::new();
        let mut covered_s = self.start_s;
        for window in windows.iter().filter(|window| window.end_s > self.start_s && window.start_s < end_s) {
            // Silence before a client's first window.
            let from_s = window.start_s.max(self.start_s);
            if from_s > covered_s {
                used.push(window);
                phases.push(Phase { duration_s: from_s - covered_s, rate_per_s: 0.0 });
            }
            covered_s = window.end_s.min(end_s);
            used.push(window);
            phases.push(Phase {
                duration_s: covered_s - from_s,
                rate_per_s: window.rate_per_s * self.rate_scale,
            });
        }
        let expected = phases::expected_requests(&phases);
        if expected == 0.0 {
            return Ok(last_window_ends_s);
        }
        if workload.len() as f64 + expected > MAX_REQUESTS as f64 {
            return Err(file_error(
                trace,
                format!("about {expected:.0} requests more, expected at most {MAX_REQUESTS} in all"),
            ));
        }

        let mut spacings = random::stream(seed, &format!("workload.servegen.{id}.arrivals"));
        let arrived_at_s =
            phases::arrivals(phases, |phase| used[phase].spacing.draw(&mut spacings)).collect::<Vec<_>>();

        let datasets = read_datasets(dataset)?;
        let mut lengths = random::stream(seed, &format!("workload.servegen.{id}.lengths"));
        let mut window = 0;
        for at_s in arrived_at_s {
            while window + 1 < windows.len() && windows[window].end_s <= at_s + self.start_s {
                window += 1;
            }
            let since = windows[window].start_s as u64;
            let in_force = datasets.range(..=since).next_back().or_else(|| datasets.iter().next());
            let Some((_, (prefill, decode))) = in_force else {
                return Err(file_error(
                    dataset,
                    "no histogram found, expected lengths for a client that has requests",
                ));
            };
            let prefill = prefill.draw(&mut lengths);
            workload.push(at_s, prefill, decode.draw(&mut lengths));
        }
        Ok(last_window_ends_s)
    }
}

fn file_error(file: &Path, message: impl Into<String>) -> WorkloadError {
    WorkloadError::File { file: file.into(), message: message.into() }
}

/// The clients' trace files by the clients' numbers.
fn clients(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, WorkloadError> {
    let io_error = |reason| WorkloadError::Io { file: dir.into(), reason };
    let mut clients = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(id) = name
            .strip_prefix("chunk-")
            .and_then(|rest| rest.strip_suffix("-trace.csv"))
            .and_then(|id| id.parse().ok())
        {
            clients.insert(id, path);
        }
    }
    if clients.is_empty() {
        return Err(file_error(
            dir,
            "no client found, expected files `chunk-<number>-trace.csv` and `chunk-<number>-dataset.json`",
        ));
    }
    Ok(clients)
}

fn read_windows(file: &Path) -> Result<Vec<Window>, WorkloadError> {
    let mut lines = Lines::open(file, DECOMPRESSED_LIMIT_BYTES)?;
    let mut windows: Vec<Window> = Vec::new();
    while let Some(line) = lines.next()? {
        let (start_s, rate_per_s, spacing) = read_window(&line)?;
        if let Some(before) = windows.last_mut() {
            if start_s <= before.start_s {
                return Err(line.error(format!(
                    "window at {start_s} s after that at {} s, expected windows in order of time",
                    before.start_s
                )));
            }
            before.end_s = start_s;
        }
        windows.push(Window { start_s, end_s: f64::INFINITY, rate_per_s, spacing });
    }
    match windows.as_mut_slice() {
        [.., before, last] => last.end_s = last.start_s + (last.start_s - before.start_s),
        _ => {
            return Err(file_error(
                file,
                "fewer than two windows found, expected a line for each window of the day",
            ));
        }
    }
    Ok(windows)
}

/// Start, rate and spacing of a window.
fn read_window(line: &Line) -> Result<(f64, f64, Spacing), WorkloadError> {
    let fields = csv::fields(line)?;
    let [start, rate, _cv, pattern, shape, _scale] = fields.as_slice() else {
        return Err(line.error(format!(
            "{} fields found, expected start, rate, cv, pattern and its two arguments",
            fields.len()
        )));
    };
    let number = |column: &str, text: &str, least: f64| match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value >= least => Ok(value),
        _ => Err(line.value_error(column, text, format!("a finite number of at least {least}"))),
    };
    let shape = |least| number("shape", shape, least);
    let spacing = match pattern.trim() {
        "" => Spacing::Poisson,
        "Gamma" => Spacing::Gamma(gamma::Spacing::of_shape(shape(1e-4)?)),
        "Weibull" => Spacing::Weibull(weibull::Spacing::of_shape(shape(0.05)?)),
        other => return Err(line.value_error("pattern", other, "`Gamma`, `Weibull` or nothing")),
    };
    Ok((number("start", start, 0.0)?, number("rate", rate, 0.0)?, spacing))
}

#[derive(Deserialize)]
struct Dataset {
    input_tokens: String,
    output_tokens: String,
}

/// Empty histograms are left out: what held before goes on.
fn read_datasets(file: &Path) -> Result<Datasets, WorkloadError> {
    let text = match source::read_text(file) {
        Err(WorkloadError::Io { reason, .. }) if reason.kind() == std::io::ErrorKind::NotFound => {
            return Err(file_error(file, "no such file, expected a client's lengths beside its trace"));
        }
        other => other?,
    };
    let raw: BTreeMap<String, Dataset> = serde_json::from_str(&text).map_err(|error| {
        file_error(file, format!("{error}, expected `input_tokens` and `output_tokens` for each start time"))
    })?;
    let mut datasets = Datasets::new();
    for (start, dataset) in raw {
        let start_s = start.parse().map_err(|_| {
            file_error(file, format!("`{}` found, expected a start in whole seconds", excerpt(&start)))
        })?;
        let histogram = |column: &str, text: &str| {
            parse_histogram(text).map_err(|found| {
                let place = format!("`{column}` at {start_s} s");
                file_error(
                    file,
                    format!("{place}: {found} found, expected `{{tokens: probability, ..}}` with probabilities that add up to 1"),
                )
            })
        };
        let prefill = histogram("input_tokens", &dataset.input_tokens)?;
        let decode = histogram("output_tokens", &dataset.output_tokens)?;
        if let (Some(prefill), Some(decode)) = (prefill, decode) {
            datasets.insert(start_s, (prefill, decode));
        }
    }
    Ok(datasets)
}

/// Reads `{45: 0.25, 46: 0.75}`; `None` if empty. The error is what was found instead.
fn parse_histogram(text: &str) -> Result<Option<Histogram>, String> {
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(|| format!("`{}`", excerpt(text)))?;
    if inner.trim().is_empty() {
        return Ok(None);
    }
    let mut histogram = Histogram { tokens: Vec::new(), cumulative: Vec::new() };
    let mut sum = 0.0;
    for item in inner.split(',') {
        let pair = item.split_once(':').and_then(|(tokens, probability)| {
            Some((tokens.trim().parse::<u32>().ok()?, probability.trim().parse::<f64>().ok()?))
        });
        match pair {
            Some((tokens, probability)) if tokens <= MAX_TOKENS && (0.0..=1.0).contains(&probability) => {
                sum += probability;
                histogram.tokens.push(tokens.max(1));
                histogram.cumulative.push(sum);
            }
            _ => return Err(format!("`{}`", excerpt(item.trim()))),
        }
    }
    if (sum - 1.0).abs() > 1e-3 {
        return Err(format!("a sum of {sum}"));
    }
    Ok(Some(histogram))
}
