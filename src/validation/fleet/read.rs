//! Folders of measured runs in which the fleet scaled.
//!
//! A run is a folder with `run.json` (engine, load, controller) and, as far as they were recorded,
//! `requests.csv` (`arrived_at_s`, `prompt_tokens`, `output_tokens` by the server's count, `ttft_s`, `e2e_s`,
//! `outcome`), `serving_replicas.csv` (`t_s`, `serving`: replicas that requests were routed to),
//! `replicas.csv` (`t_s`, `desired`, `ready`) and `engine_counters.csv` (counters of each engine at each
//! scrape). What is missing is told in [`FleetRun::missing`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Nothing is sent for so long between two stages of load.
const PAUSE_S: f64 = 5.0;

/// What `run.json` says; fields not named here are prose and ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    pub id: String,
    /// None where it is prose.
    #[serde(default, deserialize_with = "described")]
    pub engine: Option<FleetEngine>,
    #[serde(default)]
    pub controller: Value,
    #[serde(default)]
    pub boot: Boot,
    /// What was counted over the whole run.
    #[serde(default)]
    pub measured: Value,
}

fn described<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FleetEngine>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_object() {
        FleetEngine::deserialize(value).map(Some).map_err(D::Error::custom)
    } else {
        Ok(None)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct FleetEngine {
    #[serde(default)]
    pub engine: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    pub model: String,
    pub gpu: String,
    #[serde(default)]
    pub tensor_parallel: Option<u32>,
    #[serde(default)]
    pub kv_blocks: Option<u32>,
    #[serde(default)]
    pub block_size_tokens: Option<u32>,
    #[serde(default)]
    pub gpu_memory_utilization: Option<f64>,
    #[serde(default)]
    pub prefix_caching: Option<bool>,
    /// Numbers, or prose where they are not on record.
    #[serde(default)]
    pub max_tokens_in_batch: Value,
    #[serde(default)]
    pub max_num_seqs: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Boot {
    pub desired_to_ready: Vec<Lag>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Lag {
    #[serde(default)]
    pub lag_s: Option<f64>,
}

/// One request as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FleetRequest {
    pub arrived_at_s: f64,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    pub ttft_s: f64,
    pub e2e_s: f64,
    /// Answered in full.
    pub ok: bool,
    /// Of load, from 0, and when that began.
    pub stage: usize,
    pub stage_from_s: f64,
}

impl FleetRequest {
    pub fn tpot_s(&self) -> Option<f64> {
        (self.output_tokens > 1).then(|| (self.e2e_s - self.ttft_s) / f64::from(self.output_tokens - 1))
    }
}

/// A count of replicas from a time on.
pub type Steps = Vec<(f64, u32)>;

/// Counters of one engine at one scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scrape {
    pub pod: u32,
    pub t_s: f64,
    pub steps: f64,
    pub prompt_tokens: f64,
    pub prompt_tokens_cached: f64,
    pub output_tokens: f64,
    pub first_tokens: f64,
    pub preemptions: f64,
    pub running: f64,
    pub kv_use: f64,
}

#[derive(Debug, Clone)]
pub struct FleetRun {
    pub description: Description,
    pub requests: Vec<FleetRequest>,
    pub serving: Steps,
    pub desired: Steps,
    pub ready: Steps,
    pub counters: Vec<Scrape>,
    /// What is not on record, with what it leaves open.
    pub missing: Vec<&'static str>,
}

/// The runs of a folder: itself, or its folders; none if it is of something else.
pub fn folders(path: &Path) -> Vec<PathBuf> {
    if path.join("run.json").is_file() {
        return vec![path.into()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = entries.filter(|path| path.join("run.json").is_file()).collect();
    found.sort();
    found
}

impl FleetRun {
    /// Reads a run.
    ///
    /// Errors: a file, line or column that cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("run.json");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let description: Description = serde_path_to_error::deserialize(&mut deserializer)
            .with_context(|| format!("{}: no description of a run", file.display()))?;
        let mut missing = Vec::new();
        let mut read = |name: &str, open: &'static str| -> Result<Option<Table>> {
            let file = dir.join(name);
            if !file.is_file() {
                missing.push(open);
                return Ok(None);
            }
            Table::read(&file).map(Some)
        };
        let requests = read("requests.csv", "single requests (requests.csv): no latency can be replayed")?;
        let replicas = read(
            "replicas.csv",
            "replicas asked for and ready (replicas.csv): decisions cannot be compared",
        )?;
        let serving = read(
            "serving_replicas.csv",
            "replicas that served (serving_replicas.csv): `ready` is taken, which is late",
        )?;
        let counters = read(
            "engine_counters.csv",
            "the engines' counters (engine_counters.csv): step times cannot be compared",
        )?;
        let steps = |table: &Option<Table>, column: &str| {
            table.as_ref().map_or(Ok(Vec::new()), |table| table.steps(column))
        };
        let (desired, ready) = (steps(&replicas, "desired")?, steps(&replicas, "ready")?);
        let serving = if serving.is_some() { steps(&serving, "serving")? } else { ready.clone() };
        Ok(Self {
            requests: requests.map_or(Ok(Vec::new()), |table| table.requests())?,
            counters: counters.map_or(Ok(Vec::new()), |table| table.scrapes())?,
            description,
            serving,
            desired,
            ready,
            missing,
        })
    }

    /// When the last request was answered.
    pub fn ends_at_s(&self) -> f64 {
        self.requests.iter().map(|request| request.arrived_at_s + request.e2e_s).fold(0.0, f64::max)
    }
}

/// Time integral of replicas up to a time, in hours.
pub fn replica_hours(steps: &[(f64, u32)], until_s: f64) -> f64 {
    let ends = steps.iter().skip(1).map(|step| step.0).chain([until_s]);
    steps
        .iter()
        .zip(ends)
        .map(|(&(from_s, replicas), to_s)| f64::from(replicas) * (to_s.min(until_s) - from_s).max(0.0))
        .sum::<f64>()
        / 3600.0
}

/// A CSV with a header.
struct Table {
    file: PathBuf,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read(file: &Path) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(file)
            .with_context(|| file.display().to_string())?;
        let header = reader.headers().with_context(|| file.display().to_string())?.clone();
        let rows = reader.records().collect::<Result<_, _>>().with_context(|| file.display().to_string())?;
        Ok(Self { file: file.into(), header, rows })
    }

    fn column(&self, name: &str) -> Result<usize> {
        let place = self.header.iter().position(|column| column == name);
        place.with_context(|| format!("{}, line 1: no column `{name}`", self.file.display()))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let column = self.column(name)?;
        let number = |(row, record): (usize, &csv::StringRecord)| match record[column].parse::<f64>() {
            Ok(value) if value.is_finite() && (0.0..1e12).contains(&value) => Ok(value),
            _ => bail!(
                "{}, line {}: column `{name}` is `{}`, expected a number of at least 0",
                self.file.display(),
                row + 2,
                &record[column]
            ),
        };
        self.rows.iter().enumerate().map(number).collect()
    }

    fn steps(&self, name: &str) -> Result<Steps> {
        let mut steps: Steps = Vec::new();
        for (t_s, count) in self.numbers("t_s")?.into_iter().zip(self.numbers(name)?) {
            if steps.last().is_some_and(|last| t_s < last.0) {
                bail!("{}: time goes back to {t_s} s", self.file.display());
            }
            if steps.last().is_none_or(|last| last.1 != count as u32) {
                steps.push((t_s, count as u32));
            }
        }
        if steps.is_empty() {
            bail!("{}: no line in it", self.file.display());
        }
        Ok(steps)
    }

    fn requests(&self) -> Result<Vec<FleetRequest>> {
        let [arrived, prompt, output, ttft, e2e] =
            ["arrived_at_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s"].map(|c| self.numbers(c));
        let (arrived, prompt, output, ttft, e2e) = (arrived?, prompt?, output?, ttft?, e2e?);
        let outcome = self.column("outcome")?;
        let mut requests: Vec<FleetRequest> = (0..self.rows.len())
            .map(|i| FleetRequest {
                arrived_at_s: arrived[i],
                prompt_tokens: (prompt[i] as u32).max(1),
                output_tokens: (output[i] as u32).max(1),
                ttft_s: ttft[i],
                e2e_s: e2e[i],
                ok: &self.rows[i][outcome] == "ok",
                stage: 0,
                stage_from_s: 0.0,
            })
            .collect();
        requests.sort_by(|a, b| a.arrived_at_s.total_cmp(&b.arrived_at_s));
        let (mut stage, mut from_s, mut before_s) =
            (0, requests.first().map_or(0.0, |one| one.arrived_at_s), f64::INFINITY);
        for request in &mut requests {
            if request.arrived_at_s - before_s > PAUSE_S {
                (stage, from_s) = (stage + 1, request.arrived_at_s);
            }
            before_s = request.arrived_at_s;
            (request.stage, request.stage_from_s) = (stage, from_s);
        }
        Ok(requests)
    }

    fn scrapes(&self) -> Result<Vec<Scrape>> {
        let [pod, t_s, steps, prompt] =
            ["pod", "t_s", "steps", "prompt_tokens"].map(|column| self.numbers(column));
        let [cached, output, first] =
            ["prompt_tokens_cached", "output_tokens", "first_tokens"].map(|column| self.numbers(column));
        let preemptions = self.numbers("preemptions")?;
        let [running, kv_use] = ["running", "kv_use"].map(|column| self.numbers(column));
        let (pod, t_s, steps, prompt, cached, output, first, running, kv_use) =
            (pod?, t_s?, steps?, prompt?, cached?, output?, first?, running?, kv_use?);
        let scrape = |i: usize| Scrape {
            pod: pod[i] as u32,
            t_s: t_s[i],
            steps: steps[i],
            prompt_tokens: prompt[i],
            prompt_tokens_cached: cached[i],
            output_tokens: output[i],
            first_tokens: first[i],
            preemptions: preemptions[i],
            running: running[i],
            kv_use: kv_use[i],
        };
        Ok((0..self.rows.len()).map(scrape).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_counted_up_to_the_end() {
        let steps = [(0.0, 1), (1800.0, 3), (3600.0, 2)];
        assert_eq!(replica_hours(&steps, 1800.0), 0.5);
        assert_eq!(replica_hours(&steps, 2700.0), 1.25);
        assert_eq!(replica_hours(&steps, 7200.0), 4.0);
        assert_eq!(replica_hours(&[], 10.0), 0.0);
    }
}
