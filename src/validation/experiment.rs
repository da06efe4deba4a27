//! Descriptions of measured runs: what was served, on what, under which load.
//!
//! `experiments.json` is a list of objects; fields not named here are prose and ignored. `load` tells stages of a rate, prompts and outputs;
//! `trace`, where there is one, is a CSV of the requests themselves. `measured.csv` beside it holds `experiment_id, stage, metric, value,
//! unit`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

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
    pub rate_per_s: f64,
    pub duration_s: f64,
    #[serde(default)]
    pub num_requests: Option<u64>,
}

impl Stage {
    pub fn requests(&self) -> u64 {
        self.num_requests.unwrap_or((self.rate_per_s * self.duration_s).round() as u64)
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
        served.or(self.nominal_tokens).filter(|tokens| (1.0..1e7).contains(tokens)).map(|tokens| tokens.round() as u32)
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
        self.tokens.as_ref().and_then(mean).filter(|tokens| (1.0..1e7).contains(tokens)).map(|tokens| tokens.round() as u32)
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

/// Whether the engine sorts logits to sample by top-k or top-p: vLLM before 0.17.
pub fn sorts_logits(engine: &Engine) -> bool {
    let version = engine.version.as_deref().unwrap_or_default();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(0), Some(17))
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

/// Reads a trace. Columns `arrived_at_s`, `prompt_tokens`, `output_tokens`; optionally `stage`, `prompt_id`, `shared_prefix_tokens`.
///
/// Errors: a file, line or column that cannot be read.
pub fn read_trace(file: &Path) -> Result<Vec<TracedRequest>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file).with_context(|| file.display().to_string())?;
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
                _ => bail!("{}, line {line}: column `{name}` is `{}`, expected a number of at least 0", file.display(), &record[index]),
            }
        };
        let required = |name: &str| number(name)?.with_context(|| format!("{}: no column `{name}`", file.display()));
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
    pub measured: Measured,
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
        let mut json = serde_json::Deserializer::from_str(&text);
        let list: Vec<Experiment> = serde_path_to_error::deserialize(&mut json).with_context(|| format!("{}", file.display()))?;
        Ok(Self { measured: read_measured(&dir.join("measured.csv"))?, dir, list })
    }
}

fn read_measured(file: &Path) -> Result<Measured> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file).with_context(|| file.display().to_string())?;
    let header = reader.headers().with_context(|| file.display().to_string())?.clone();
    let column = |name: &str| {
        header.iter().position(|column| column == name).with_context(|| format!("{}, line 1: no column `{name}`", file.display()))
    };
    let [id, stage, metric, value, unit] = ["experiment_id", "stage", "metric", "value", "unit"].map(column);
    let (id, stage, metric, value, unit) = (id?, stage?, metric?, value?, unit?);
    let mut measured = Measured::new();
    for record in reader.records() {
        let record = record.with_context(|| file.display().to_string())?;
        if &record[unit] != "ms" {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let number = record[value].parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        let number = number.with_context(|| {
            format!("{}, line {line}: column `value` is `{}`, expected a number above 0", file.display(), &record[value])
        })?;
        measured.entry(record[id].into()).or_default().entry(record[stage].into()).or_default().insert(record[metric].into(), number);
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
    }

    #[test]
    fn lengths_are_numbers_or_means() {
        let prompt: Prompt = serde_json::from_str(r#"{"nominal_tokens": 547, "served_tokens": {"mean": 574.6}}"#).unwrap();
        assert_eq!(prompt.tokens(), Some(575));
        assert_eq!(Prompt { served_tokens: None, ..prompt }.tokens(), Some(547));
        assert_eq!(Output { tokens: Some(248.into()) }.tokens(), Some(248));
        assert_eq!(Output::default().tokens(), None);
    }
}
