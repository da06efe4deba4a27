//! Descriptions of measured runs: what was served, on what, under which load.
//!
//! `experiments.json` is a list of objects; fields not named here are prose and ignored. `load` tells stages
//! of a rate, prompts and outputs; `trace`, where there is one, is a CSV of the requests themselves.
//! `measured.csv` beside it holds `experiment_id, stage, metric, value, unit`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{QUANTITIES, STATISTICS};
use crate::replica_scheduler::VllmV1Settings;

/// One measured run of a server.
#[derive(Debug, Clone, Deserialize)]
pub struct Experiment {
    pub id: String,
    pub model: String,
    #[serde(default)]
    pub model_kind: Option<String>,
    pub gpu: String,
    #[serde(default = "one")]
    pub tp: u32,
    #[serde(default)]
    pub precision: Option<String>,
    pub engine: Engine,
    pub load: Load,
    #[serde(default)]
    pub workload: Option<String>,
    /// Requests of the run, relative to the description.
    #[serde(default)]
    pub trace: Option<PathBuf>,
    #[serde(default)]
    pub regime: Option<String>,
    #[serde(default)]
    pub usable: Option<bool>,
}

fn one() -> u32 {
    1
}

/// The server and its limits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Engine {
    pub engine: Option<String>,
    pub version: Option<String>,
    pub max_num_seqs: Option<u32>,
    pub max_num_batched_tokens: Option<u32>,
    pub max_model_len: Option<u32>,
    pub gpu_memory_utilization: Option<f64>,
    pub block_size: Option<u32>,
    pub kv_blocks_gpu: Option<u32>,
    pub prefix_caching: Option<bool>,
    pub data_parallel: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Load {
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub prompt: Prompt,
    #[serde(default)]
    pub prefix: Prefix,
    #[serde(default)]
    pub output: Output,
}

/// Requests at one rate; the next stage starts when all of them have been answered.
#[derive(Debug, Clone, Deserialize)]
pub struct Stage {
    pub stage: u32,
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    #[serde(default)]
    pub duration_s: Option<f64>,
    #[serde(default)]
    pub num_requests: Option<u64>,
}

/// More requests in a stage are taken for a slip.
const MOST_REQUESTS: f64 = 1e7;

impl Stage {
    /// Number of requests and seconds they come in, as far as two of rate, duration and number tell.
    pub fn arrivals(&self) -> Option<(u64, f64)> {
        let requests = self
            .num_requests
            .map(|number| number as f64)
            .or_else(|| Some((self.rate_per_s? * self.duration_s?).round()))?;
        let duration_s = self.duration_s.or_else(|| Some(requests / self.rate_per_s?))?;
        ((0.0..=MOST_REQUESTS).contains(&requests) && duration_s.is_finite() && duration_s > 0.0)
            .then_some((requests as u64, duration_s))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Prompt {
    pub nominal_tokens: Option<f64>,
    pub served_tokens: Option<Value>,
}

impl Prompt {
    /// Tokens the server saw, if that is known, or was to see.
    pub fn tokens(&self) -> Option<u32> {
        let served = self.served_tokens.as_ref().and_then(mean);
        served
            .or(self.nominal_tokens)
            .filter(|tokens| (1.0..1e7).contains(tokens))
            .map(|tokens| tokens.round() as u32)
    }
}

/// Prompts that come again: `groups` x `prompts_per_group`, those of a group with a common beginning.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Prefix {
    pub groups: Option<u32>,
    pub prompts_per_group: Option<u32>,
    pub shared_prefix_len: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    pub tokens: Option<Value>,
}

impl Output {
    pub fn tokens(&self) -> Option<u32> {
        self.tokens
            .as_ref()
            .and_then(mean)
            .filter(|tokens| (1.0..1e7).contains(tokens))
            .map(|tokens| tokens.round() as u32)
    }
}

/// A number, or the `mean` of an object.
fn mean(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.get("mean")?.as_f64())
}

/// Whose name says that it is answered in the process that asks: nothing goes through an API server.
pub fn is_in_process(engine: &Engine) -> bool {
    engine.engine.as_deref().is_some_and(|name| name.contains("in-process"))
}

/// The first two numbers of an engine's version.
fn version(engine: &Engine) -> Option<(u32, u32)> {
    let text = engine.version.as_deref()?;
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Whether the engine sorts logits to sample by top-k or top-p: vLLM before 0.17.
pub fn sorts_logits(engine: &Engine) -> bool {
    version(engine).is_none_or(|version| version < (0, 17))
}

/// The version whose rules the engine is simulated with: its own, or the nearest that is known.
pub fn vllm_version(engine: &Engine) -> String {
    VllmV1Settings::nearest_version(version(engine))
}

/// One request of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedRequest {
    pub stage: u32,
    pub arrived_at_s: f64,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    /// Equal numbers are equal prompts.
    pub prompt_id: Option<u32>,
    /// Leading tokens that an earlier prompt began with.
    pub shared_prefix_tokens: u32,
}

/// Reads a trace. Columns `arrived_at_s`, `prompt_tokens`, `output_tokens`; optionally `stage`, `prompt_id`,
/// `shared_prefix_tokens`.
///
/// Errors: a file, line or column that cannot be read.
pub fn read_trace(file: &Path) -> Result<Vec<TracedRequest>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)
        .with_context(|| file.display().to_string())?;
    let header = reader.headers().with_context(|| file.display().to_string())?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let mut requests = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| file.display().to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |name: &str| -> Result<Option<f64>> {
            let Some(index) = column(name) else { return Ok(None) };
            match record[index].parse::<f64>() {
                Ok(value) if value.is_finite() && (0.0..1e9).contains(&value) => Ok(Some(value)),
                _ => bail!(
                    "{}, line {line}: column `{name}` is `{}`, expected a number of at least 0",
                    file.display(),
                    &record[index]
                ),
            }
        };
        let required =
            |name: &str| number(name)?.with_context(|| format!("{}: no column `{name}`", file.display()));
        let tokens = |name: &str| Ok::<_, anyhow::Error>((required(name)? as u32).max(1));
        requests.push(TracedRequest {
            stage: number("stage")?.unwrap_or_default() as u32,
            arrived_at_s: required("arrived_at_s")?,
            prompt_tokens: tokens("prompt_tokens")?,
            output_tokens: tokens("output_tokens")?,
            prompt_id: number("prompt_id")?.map(|id| id as u32),
            shared_prefix_tokens: number("shared_prefix_tokens")?.unwrap_or_default() as u32,
        });
    }
    if requests.is_empty() {
        bail!("{}: no requests in it", file.display());
    }
    Ok(requests)
}

/// Measured values in ms, by experiment, stage label and metric.
pub type Measured = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

/// A folder of measured runs.
#[derive(Debug, Clone)]
pub struct Experiments {
    pub dir: PathBuf,
    pub list: Vec<Experiment>,
    /// Descriptions that cannot be understood.
    pub unreadable: Vec<Skipped>,
    pub measured: Measured,
}

/// A measured run that cannot be simulated, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Skipped {
    pub experiment: String,
    pub reason: String,
}

impl Experiments {
    /// Reads a folder, or the `experiments.json` in it.
    ///
    /// Errors: a file that is missing or cannot be understood, with its name and place.
    pub fn read(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join("experiments.json") } else { path.to_path_buf() };
        let dir = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("{}: cannot be read, expected a folder with experiments.json and measured.csv, or its experiments.json", file.display())
        })?;
        let descriptions: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("{}: expected a list of descriptions", file.display()))?;
        let (mut list, mut unreadable) = (Vec::new(), Vec::new());
        for (number, description) in descriptions.into_iter().enumerate() {
            let id = description
                .get("id")
                .and_then(Value::as_str)
                .map_or(format!("entry {number}"), str::to_owned);
            match serde_path_to_error::deserialize::<_, Experiment>(description) {
                Ok(experiment) => list.push(experiment),
                Err(error) => unreadable
                    .push(Skipped { experiment: id, reason: format!("{}: {error}", file.display()) }),
            }
        }
        Ok(Self { measured: read_measured(&dir.join("measured.csv"))?, dir, list, unreadable })
    }
}

fn read_measured(file: &Path) -> Result<Measured> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)
        .with_context(|| file.display().to_string())?;
    let header = reader.headers().with_context(|| file.display().to_string())?.clone();
    let column = |name: &str| {
        header
            .iter()
            .position(|column| column == name)
            .with_context(|| format!("{}, line 1: no column `{name}`", file.display()))
    };
    let [id, stage, metric, value, unit] = ["experiment_id", "stage", "metric", "value", "unit"].map(column);
    let (id, stage, metric, value, unit) = (id?, stage?, metric?, value?, unit?);
    let mut measured = Measured::new();
    for record in reader.records() {
        let record = record.with_context(|| file.display().to_string())?;
        let known = record[metric]
            .split_once('_')
            .is_some_and(|(q, s)| QUANTITIES.contains(&q) && STATISTICS.contains(&s));
        if &record[unit] != "ms" || !known || record[value].is_empty() {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let number = record[value].parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        let number = number.with_context(|| {
            format!(
                "{}, line {line}: column `value` is `{}`, expected a number above 0",
                file.display(),
                &record[value]
            )
        })?;
        measured
            .entry(record[id].into())
            .or_default()
            .entry(record[stage].into())
            .or_default()
            .insert(record[metric].into(), number);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tell_how_an_engine_samples() {
        let engine = |version: &str| Engine { version: Some(version.into()), ..Engine::default() };
        assert!(sorts_logits(&engine("0.15.1 (a fork)")) && sorts_logits(&engine("v0.9")));
        assert!(!sorts_logits(&engine("0.23.0")) && !sorts_logits(&engine("1.0")));
        let versions = ["0.15.1 (a fork)", "", "0.6.3", "0.99"].map(|text| vllm_version(&engine(text)));
        assert_eq!(versions, ["0.15", "0.33", "0.8", "0.33"]);
    }

    #[test]
    fn two_of_rate_duration_and_number_are_enough() {
        let stage = |text: &str| serde_json::from_str::<Stage>(text).unwrap().arrivals();
        assert_eq!(stage(r#"{"stage": 0, "rate_per_s": 2.5, "duration_s": 600}"#), Some((1500, 600.0)));
        assert_eq!(stage(r#"{"stage": 0, "rate_per_s": 2.5, "num_requests": 10}"#), Some((10, 4.0)));
        assert_eq!(stage(r#"{"stage": 0, "duration_s": 600}"#), None);
        assert_eq!(stage(r#"{"stage": 0, "rate_per_s": 1e9, "duration_s": 600}"#), None);
    }

    #[test]
    fn lengths_are_numbers_or_means() {
        let prompt: Prompt =
            serde_json::from_str(r#"{"nominal_tokens": 547, "served_tokens": {"mean": 574.6}}"#).unwrap();
        assert_eq!(prompt.tokens(), Some(575));
        assert_eq!(Prompt { served_tokens: None, ..prompt }.tokens(), Some(547));
        assert_eq!(Output { tokens: Some(248.into()) }.tokens(), Some(248));
        assert_eq!(Output::default().tokens(), None);
    }
}
