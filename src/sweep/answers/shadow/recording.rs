//! Recorded metrics of a service, read: Prometheus' `query_range` results, or CSV.
//!
//! Everything is put on one clock of equal steps, the finest that any series has, from the first sample to
//! the last.
//!
//! | signal | from Prometheus | in CSV |
//! |---|---|---|
//! | arrivals | `inference_objective_request_total`; else completions and what the gauges below gained | `requests_per_s` |
//! | completions | `vllm:request_success_total` | |
//! | prompt tokens | `vllm:prompt_tokens_total`, `vllm:request_prompt_tokens` (histogram) | `mean_prefill_tokens`, or `prefill_tokens_per_s` |
//! | output tokens | `vllm:generation_tokens_total`, `vllm:request_generation_tokens` (histogram) | `mean_decode_tokens`, or `decode_tokens_per_s` |
//! | running, waiting, KV use | `vllm:num_requests_running`, `vllm:num_requests_waiting`, `vllm:kv_cache_usage_perc` | `running_requests`, `waiting_requests`, `kv_use` |
//! | replicas | `kube_deployment_status_replicas_ready`, `.._available` or without either; else the servers that report running requests | `replicas` |
//! | latencies | `vllm:e2e_request_latency_seconds`, `vllm:time_to_first_token_seconds` (histograms) | `mean_`, `p50_`, `p90_`, `p99_` of `e2e_s` and `ttft_s` |
//!
//! Results of queries, which have no name, go by the names of the last column; the file's name says which. A
//! row of CSV holds from its time to the next; a rate that was queried, over the step before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::series::{COLUMNS, REPLICAS, Raw, SERVERS, gap_notes, is_silent, join};

/// The longest file that is read, and the most steps of a recording.
const MAX_FILE_BYTES: u64 = 256 << 20;
const MOST_STEPS: usize = 2_000_000;

/// Counts at or below each bound, as a histogram of Prometheus has them.
pub type Buckets = Vec<(f64, f64)>;

/// What was recorded, on one clock. Rows of counts and rates are intervals, of gauges the moments at which
/// they begin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recording {
    pub step_s: f64,
    pub steps: usize,
    /// Requests that arrived in each step.
    pub arrivals: Vec<f64>,
    /// Mean tokens of the requests of each step.
    pub prefill_tokens: Vec<f64>,
    pub decode_tokens: Vec<f64>,
    /// Of all requests, where histograms were recorded.
    pub prefill_buckets: Option<Buckets>,
    pub decode_buckets: Option<Buckets>,
    /// Replicas of each step, whole ones, for the replay.
    pub replicas: Vec<u32>,
    /// The same as they were recorded, averages among them.
    pub recorded_replicas: Vec<f64>,
    pub running: Option<Vec<f64>>,
    pub waiting: Option<Vec<f64>>,
    pub kv_use: Option<Vec<f64>>,
    /// Latencies by the names that metrics of a run have.
    pub latencies: BTreeMap<String, f64>,
    /// What was made of what, a sentence each.
    pub notes: Vec<String>,
}

/// Reads a file, or every `.json` and `.csv` file of a directory. `time_scale` seconds of traffic pass in one
/// of the record.
///
/// Errors name the file, and what is missing.
pub fn read(path: &Path, time_scale: f64) -> Result<Recording, String> {
    let shown = path.display();
    let mut files: Vec<PathBuf> = vec![path.into()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| format!("{shown}: cannot be read: {error}"))?;
        files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_record(path)).collect();
        files.sort();
        if files.is_empty() {
            return Err(format!(
                "{shown}: no .json or .csv file found, expected results of query_range or tables"
            ));
        }
    }
    let mut raw = Vec::new();
    for file in &files {
        let mut series = read_file(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for part in &mut series {
            part.files = part
                .samples
                .first()
                .map(|(from_s, _)| (*from_s, name.clone().into_owned()))
                .into_iter()
                .collect();
        }
        raw.extend(series);
    }
    let mut raw = join(raw).map_err(|error| format!("{shown}: {error}"))?;
    for series in &mut raw {
        series.samples.iter_mut().for_each(|sample| sample.0 *= time_scale);
        series.files.iter_mut().for_each(|file| file.0 *= time_scale);
    }
    assemble(raw, time_scale).map_err(|error| format!("{shown}: {error}"))
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "csv")
}

fn read_file(path: &Path) -> Result<Vec<Raw>, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes; record with a coarser step"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if path.extension().is_some_and(|extension| extension == "csv") {
        of_csv(&text)
    } else {
        of_json(&text, &stem)
    }
}

/// A result of `query_range`; series without a name are called `name`.
fn of_json(text: &str, name: &str) -> Result<Vec<Raw>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}"))?;
    if value["status"] == "error" {
        return Err(format!(
            "Prometheus' error, not its data: {}",
            value["error"].as_str().unwrap_or_default()
        ));
    }
    let kind = value["data"]["resultType"].as_str().unwrap_or_default();
    if kind != "matrix" {
        return Err(format!(
            "data.resultType: `{kind}` found, expected `matrix`, a result of /api/v1/query_range"
        ));
    }
    let mut all = Vec::new();
    for (i, result) in value["data"]["result"].as_array().into_iter().flatten().enumerate() {
        let labels: BTreeMap<String, String> = result["metric"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let mut samples = Vec::new();
        for (j, sample) in result["values"].as_array().into_iter().flatten().enumerate() {
            let fault = || {
                format!("data.result[{i}].values[{j}]: {sample} found, expected a time and a value in quotes")
            };
            let at_s = sample[0].as_f64().ok_or_else(fault)?;
            let value: f64 = sample[1].as_str().and_then(|text| text.parse().ok()).ok_or_else(fault)?;
            // Prometheus writes NaN where a quotient has no value.
            if value.is_finite() {
                samples.push((at_s, value));
            }
        }
        if samples.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("data.result[{i}].values: times that do not increase found"));
        }
        let name = labels.get("__name__").cloned().unwrap_or_else(|| name.to_owned());
        all.push(Raw { name, labels, samples, ..Raw::default() });
    }
    Ok(all)
}

/// A table: `time_s`, and columns of known names. An empty field is a gap.
fn of_csv(text: &str) -> Result<Vec<Raw>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let names: Vec<&str> = header.iter().collect();
    let Some(time) = names.iter().position(|name| *name == "time_s") else {
        return Err(format!(
            "columns {} found, expected `time_s` among them",
            crate::settings::quoted(&names)
        ));
    };
    for name in names.iter().filter(|name| **name != "time_s") {
        if !COLUMNS.contains(name) {
            let meant = crate::settings::closest(name, COLUMNS.iter().copied());
            let hint = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            return Err(format!(
                "unknown column `{name}`, expected `time_s` and some of {}{hint}",
                crate::settings::quoted(&COLUMNS)
            ));
        }
    }
    let mut all: Vec<Raw> =
        names.iter().map(|name| Raw { name: (*name).into(), ahead: true, ..Raw::default() }).collect();
    for (row, record) in reader.records().enumerate() {
        let line = row + 2;
        let record = record.map_err(|error| error.to_string())?;
        let number = |column: usize| {
            let text = record.get(column).unwrap_or_default();
            if text.is_empty() {
                return Ok(None);
            }
            let parsed = text.parse::<f64>().ok().filter(|number| number.is_finite());
            parsed
                .map(Some)
                .ok_or_else(|| format!("line {line}: {}: `{text}` found, expected a number", names[column]))
        };
        let at_s =
            number(time)?.ok_or_else(|| format!("line {line}: time_s: nothing found, expected seconds"))?;
        for (column, series) in all.iter_mut().enumerate().filter(|(column, _)| *column != time) {
            let Some(value) = number(column)? else { continue };
            if value < 0.0 {
                return Err(format!("line {line}: {}: {value} found, expected at least 0", series.name));
            }
            if series.samples.last().is_some_and(|(last_s, _)| *last_s >= at_s) {
                return Err(format!(
                    "line {line}: time_s: {at_s} found, expected more than in the row before"
                ));
            }
            series.samples.push((at_s, value));
        }
    }
    all.remove(time);
    Ok(all)
}

/// The clock: beginning, step and number of steps.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start_s: f64,
    step_s: f64,
    steps: usize,
}

impl Clock {
    fn of(raw: &[Raw]) -> Result<Self, String> {
        let start_s =
            raw.iter().filter_map(|series| Some(series.samples.first()?.0)).fold(f64::INFINITY, f64::min);
        let step_s = raw.iter().map(Raw::shortest_s).fold(f64::INFINITY, f64::min);
        if !step_s.is_finite() {
            return Err("fewer than two samples found, expected a recording of some length".into());
        }
        let end_s = raw.iter().map(|series| Self::end_s(series, step_s)).fold(f64::NEG_INFINITY, f64::max);
        let steps = ((end_s - start_s) / step_s).round() as usize;
        if steps > MOST_STEPS {
            return Err(format!(
                "{steps} steps of {step_s} s found, expected at most {MOST_STEPS}; record with a coarser step"
            ));
        }
        Ok(Self { start_s, step_s, steps })
    }

    fn step(&self, at_s: f64) -> usize {
        ((at_s - self.start_s) / self.step_s).round().max(0.0) as usize
    }

    /// When a series ends; the last row of a table holds for as long as its shortest.
    fn end_s(series: &Raw, step_s: f64) -> f64 {
        let shortest_s = if series.shortest_s().is_finite() { series.shortest_s() } else { step_s };
        let last_s = series.samples.last().map_or(f64::NEG_INFINITY, |(at_s, _)| *at_s);
        last_s + if series.ahead { shortest_s } else { 0.0 }
    }

    /// A value for each step, the last one before it where there is none; None before the first, and where
    /// the series has long ended while others of its name, which are `all`, go on. Where they do not, it was
    /// the recorder that was away, and the value holds. So it does to the end, if that is wished.
    fn held(&self, series: &Raw, all: &[&Raw], to_end: bool) -> Vec<Option<f64>> {
        let mut values = vec![None; self.steps + 1];
        let most = (series.limit_s() / self.step_s) as usize;
        for window in series.samples.windows(2) {
            let [(from_s, value), (until_s, _)] = [window[0], window[1]];
            let (from, until) = (self.step(from_s), self.step(until_s));
            let whole = series.ahead || until - from <= most || is_silent(all, from_s, until_s);
            let until = if whole { until } else { from + most };
            values[from..until.min(self.steps + 1)].fill(Some(value));
        }
        if let Some(&(at_s, value)) = series.samples.last() {
            let from = self.step(at_s).min(self.steps);
            let own = self.step(Self::end_s(series, self.step_s)).clamp(from + 1, self.steps + 1);
            let until = if to_end && is_silent(all, at_s, f64::INFINITY) { self.steps + 1 } else { own };
            values[from..until].fill(Some(value));
        }
        values
    }

    /// What a counter gained in each step. A smaller value is a server that began anew; a series that begins
    /// later has gained all it has.
    fn gained(&self, series: &Raw) -> Vec<f64> {
        let mut gained = vec![0.0; self.steps];
        let mut last: Option<(f64, f64)> = None;
        for &(at_s, value) in &series.samples {
            let (gain, from) = match last {
                Some((before_s, before)) => {
                    (if value < before { value } else { value - before }, self.step(before_s))
                }
                None if at_s > self.start_s + 0.5 * self.step_s => (value, self.step(at_s).saturating_sub(1)),
                None => (0.0, 0),
            };
            let until = self.step(at_s).min(self.steps);
            let over = until.saturating_sub(from).max(1);
            let steps = from.min(self.steps)..(from + over).min(self.steps);
            gained[steps].iter_mut().for_each(|step| *step += gain / over as f64);
            last = Some((at_s, value));
        }
        gained
    }
}

struct Assembly {
    raw: Vec<Raw>,
    clock: Clock,
    notes: Vec<String>,
}

impl Assembly {
    fn named(&self, name: &str) -> Vec<&Raw> {
        self.raw.iter().filter(|series| series.name == name && !series.samples.is_empty()).collect()
    }

    /// The sum over series of one name, at the beginning of each step.
    fn sum(&self, names: &[&str]) -> Option<Vec<f64>> {
        let found = names.iter().map(|name| self.named(name)).find(|found| !found.is_empty())?;
        let mut sum = vec![0.0; self.clock.steps];
        for series in &found {
            for (sum, value) in sum.iter_mut().zip(self.clock.held(series, &found, true)) {
                *sum += value.unwrap_or(0.0);
            }
        }
        Some(sum)
    }

    /// The mean over the series that are there.
    fn mean(&self, names: &[&str]) -> Option<Vec<f64>> {
        let found = names.iter().map(|name| self.named(name)).find(|found| !found.is_empty())?;
        let (mut sum, mut count) = (vec![0.0; self.clock.steps], vec![0_u32; self.clock.steps]);
        for series in &found {
            for (step, value) in
                self.clock.held(series, &found, true).into_iter().take(self.clock.steps).enumerate()
            {
                sum[step] += value.unwrap_or(0.0);
                count[step] += u32::from(value.is_some());
            }
        }
        Some(
            sum.into_iter()
                .zip(count)
                .map(|(sum, count)| if count > 0 { sum / f64::from(count) } else { 0.0 })
                .collect(),
        )
    }

    /// A value that was recorded as it is, of each step.
    fn column(&self, name: &str, rate: bool) -> Option<Vec<f64>> {
        let found = self.named(name);
        let series = *found.first()?;
        let held = self.clock.held(series, &found, !rate);
        // Lengths and latencies are what they are first said to be; a rate is nothing until it is said.
        let first = if rate { 0.0 } else { held.iter().flatten().next().copied().unwrap_or(0.0) };
        let mut held: Vec<f64> = held.into_iter().map(|value| value.unwrap_or(first)).collect();
        // A rate that was queried looks back: what it says at a time belongs to the step before.
        if rate && !series.ahead {
            held.remove(0);
        }
        held.truncate(self.clock.steps);
        Some(held)
    }

    fn counter(&self, name: &str) -> Option<Vec<f64>> {
        let found = self.named(name);
        if found.is_empty() {
            return None;
        }
        let mut sum = vec![0.0; self.clock.steps];
        for series in found {
            sum.iter_mut().zip(self.clock.gained(series)).for_each(|(sum, gain)| *sum += gain);
        }
        Some(sum)
    }

    /// Replicas of each step for a replay, which has whole ones: to the nearest, but one at least where there
    /// was any.
    ///
    /// Errors: requests come to the end of the record, and no replica that could serve them.
    fn whole_replicas(
        &mut self,
        recorded: &[f64],
        arrivals: &[f64],
        time_scale: f64,
    ) -> Result<Vec<u32>, String> {
        let whole = |count: &f64| if *count > 0.0 { count.round().max(1.0) as u32 } else { 0 };
        let replicas: Vec<u32> = recorded.iter().map(whole).collect();
        let parts = recorded.iter().filter(|count| count.fract() != 0.0).count();
        if parts > 0 {
            let hours = self.clock.step_s / 3600.0;
            self.notes.push(format!(
                "replicas: parts of replicas in {parts} of {} steps, rounded for the replay, but 1 at least: {:.4} replica hours were \
                 recorded, {:.4} are replayed",
                recorded.len(),
                hours * recorded.iter().sum::<f64>(),
                hours * replicas.iter().map(|&count| f64::from(count)).sum::<f64>()
            ));
        }
        let shown = |seconds: f64| (seconds / time_scale * 1000.0).round() / 1000.0;
        let at = |step: usize| self.clock.start_s + step as f64 * self.clock.step_s;
        let came = |steps: std::ops::Range<usize>| arrivals[steps].iter().sum::<f64>();
        let unserved = replicas.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        let left_s = (replicas.len() - unserved) as f64 * self.clock.step_s;
        let series =
            REPLICAS.iter().chain([&SERVERS]).map(|name| self.named(name)).find(|found| !found.is_empty());
        let (name, file, limit_s) = series.map_or(("", "", 0.0), |found| {
            (found[0].name.as_str(), found[0].file_at(at(unserved)), found[0].limit_s())
        });
        if (unserved == 0 || left_s > limit_s) && came(unserved..replicas.len()) >= 1.0 - 1e-9 {
            let (from_s, requests) = (shown(at(unserved)), came(unserved..replicas.len()));
            return Err(format!(
                "{file}: `{name}`: 0 replicas found from {from_s} s to the end of the record, while {requests:.0} requests arrive, \
                 expected at least 1 to serve them; mend the count, or leave out the time without replicas"
            ));
        }
        let (mut without, mut waiting, mut first) = (0, 0.0, None);
        for (step, _) in
            replicas.iter().enumerate().filter(|(step, count)| **count == 0 && arrivals[*step] > 0.0)
        {
            (without, waiting) = (without + 1, waiting + arrivals[step]);
            first.get_or_insert(step);
        }
        if let Some(first) = first {
            let note = format!(
                "replicas: 0 in {without} steps, first at {} s ({file}), in which {waiting:.0} requests arrived: they wait for the next replica",
                shown(at(first))
            );
            self.notes.push(note);
        }
        Ok(replicas)
    }

    /// What a histogram gained in all: counts at or below each bound.
    fn histogram(&self, name: &str) -> Option<Buckets> {
        let mut counts: BTreeMap<u64, f64> = BTreeMap::new();
        for series in self.named(&format!("{name}_bucket")) {
            let bound = match series.labels.get("le").map(String::as_str) {
                Some("+Inf") => f64::INFINITY,
                Some(text) => text.parse::<f64>().ok().filter(|bound| *bound >= 0.0)?,
                None => return None,
            };
            *counts.entry(bound.to_bits()).or_default() += self.clock.gained(series).iter().sum::<f64>();
        }
        let buckets: Buckets =
            counts.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect();
        buckets.last().is_some_and(|(_, count)| *count > 0.0).then_some(buckets)
    }

    /// Sum over count of a histogram.
    fn histogram_mean(&self, name: &str) -> Option<f64> {
        let total = |suffix: &str| Some(self.counter(&format!("{name}_{suffix}"))?.iter().sum::<f64>());
        let (sum, count) = (total("sum")?, total("count")?);
        (count > 0.0).then(|| sum / count)
    }
}

/// The value below which a share of a histogram lies, within its bucket as if evenly spread, as Prometheus'
/// `histogram_quantile` has it.
pub fn quantile(buckets: &Buckets, share: f64) -> f64 {
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let rank = share * total;
    let (mut below, mut from) = (0.0, 0.0);
    for &(bound, count) in buckets {
        if count >= rank && count > below {
            return if bound.is_finite() {
                from + (bound - from) * (rank - below) / (count - below)
            } else {
                from
            };
        }
        (below, from) = (count, bound);
    }
    from
}

fn assemble(raw: Vec<Raw>, time_scale: f64) -> Result<Recording, String> {
    let clock = Clock::of(&raw)?;
    let step_s = clock.step_s;
    let notes = gap_notes(&raw, clock.start_s + clock.steps as f64 * step_s, time_scale);
    let mut all = Assembly { raw, clock, notes };
    let running = all.sum(&["vllm:num_requests_running", "running_requests"]);
    let waiting = all.sum(&["vllm:num_requests_waiting", "waiting_requests"]);
    let completions = all.counter("vllm:request_success_total");
    // A rate per second of the record's clock.
    let per_step =
        |rate: Vec<f64>| rate.into_iter().map(|rate| rate * step_s / time_scale).collect::<Vec<f64>>();
    let arrivals = match (
        all.column("requests_per_s", true),
        all.counter("inference_objective_request_total"),
        &completions,
    ) {
        (Some(rate), _, _) => per_step(rate),
        (None, Some(counted), _) => counted,
        (None, None, Some(done)) => {
            let inside: Vec<f64> = (0..clock.steps)
                .map(|step| [&running, &waiting].iter().filter_map(|gauge| Some(gauge.as_ref()?[step])).sum())
                .collect();
            let gained = |step: usize| inside.get(step + 1).unwrap_or(&inside[step]) - inside[step];
            all.notes
                .push("arrivals: completions and what running and waiting requests gained, as no gateway's counter was recorded".into());
            // Samples of gauges and counters are not of one instant; what comes out below zero is taken from
            // what follows.
            let mut owed = 0.0;
            (0..clock.steps)
                .map(|step| {
                    let net = done[step] + gained(step) + owed;
                    owed = net.min(0.0);
                    net.max(0.0)
                })
                .collect()
        }
        (None, None, None) => {
            return Err(
                "no arrivals found, expected `requests_per_s`, `inference_objective_request_total`, or \
                        `vllm:request_success_total` with the gauges of running and waiting requests"
                    .into(),
            );
        }
    };
    let recorded_replicas = match all.sum(&REPLICAS) {
        Some(replicas) => replicas,
        None => {
            let servers = all.named(SERVERS);
            if servers.is_empty() {
                return Err("no replicas found, expected `replicas`, `kube_deployment_status_replicas_ready` or a series \
                            `vllm:num_requests_running` of each server"
                    .into());
            }
            let held: Vec<Vec<Option<f64>>> =
                servers.iter().map(|series| clock.held(series, &servers, true)).collect();
            all.notes.push("replicas: the servers that reported running requests".into());
            (0..clock.steps)
                .map(|step| held.iter().filter(|held| held[step].is_some()).count() as f64)
                .collect()
        }
    };
    let replicas = all.whole_replicas(&recorded_replicas, &arrivals, time_scale)?;
    let per_request = completions.as_ref().unwrap_or(&arrivals).clone();
    let mut lengths = |mean: &str, rate: &str, counter: &str, histogram: &str| -> Result<Vec<f64>, String> {
        if let Some(means) = all.column(mean, false) {
            return Ok(means);
        }
        let tokens = all
            .column(rate, true)
            .map(per_step)
            .or_else(|| all.counter(counter))
            .or_else(|| all.counter(&format!("{histogram}_sum")));
        let tokens = tokens.ok_or_else(|| {
            format!("no lengths found, expected `{mean}`, `{rate}`, `{counter}` or `{histogram}`")
        })?;
        all.notes.push(format!("lengths: tokens over requests, over windows of {WINDOW} steps"));
        Ok(ratio(&tokens, &per_request))
    };
    let prefill_tokens = lengths(
        "mean_prefill_tokens",
        "prefill_tokens_per_s",
        "vllm:prompt_tokens_total",
        "vllm:request_prompt_tokens",
    )?;
    let decode_tokens = lengths(
        "mean_decode_tokens",
        "decode_tokens_per_s",
        "vllm:generation_tokens_total",
        "vllm:request_generation_tokens",
    )?;
    let mut latencies = BTreeMap::new();
    for (quantity, histogram) in
        [("e2e_s", "vllm:e2e_request_latency_seconds"), ("ttft_s", "vllm:time_to_first_token_seconds")]
    {
        if let Some(mean) = all.histogram_mean(histogram) {
            latencies.insert(format!("mean_{quantity}"), mean * time_scale);
        }
        let buckets = all.histogram(histogram);
        for (percent, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            if let Some(buckets) = &buckets {
                latencies.insert(format!("{percent}_{quantity}"), quantile(buckets, share) * time_scale);
            }
        }
        for statistic in ["mean", "p50", "p90", "p99"] {
            let name = format!("{statistic}_{quantity}");
            if let Some(values) = all.column(&name, false) {
                let weight: f64 = arrivals.iter().sum();
                let mean =
                    values.iter().zip(&arrivals).map(|(value, weight)| value * weight).sum::<f64>() / weight;
                latencies.entry(name).or_insert(mean * time_scale);
            }
        }
    }
    all.notes.dedup();
    Ok(Recording {
        step_s,
        steps: clock.steps,
        prefill_buckets: all.histogram("vllm:request_prompt_tokens"),
        decode_buckets: all.histogram("vllm:request_generation_tokens"),
        kv_use: all.mean(&["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "kv_use"]),
        arrivals,
        prefill_tokens,
        decode_tokens,
        replicas,
        recorded_replicas,
        running,
        waiting,
        latencies,
        notes: all.notes,
    })
}

/// Steps over which tokens and requests are set against each other: tokens are counted as they come, requests
/// when they end.
const WINDOW: usize = 20;

/// Tokens per request around each step; the mean of all where there are none.
fn ratio(tokens: &[f64], requests: &[f64]) -> Vec<f64> {
    let overall = tokens.iter().sum::<f64>() / requests.iter().sum::<f64>().max(1.0);
    let around = |step: usize| step.saturating_sub(WINDOW / 2)..(step + WINDOW / 2).min(tokens.len());
    let mean = |step: usize| {
        let (tokens, requests) =
            (tokens[around(step)].iter().sum::<f64>(), requests[around(step)].iter().sum::<f64>());
        if requests > 0.0 { tokens / requests } else { overall }
    };
    (0..tokens.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_slips_named() {
        let table = "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas,p90_e2e_s\n0,2,100,10,1,0.5\n60,4,,10,2,1\n";
        let recording = assemble(of_csv(table).unwrap(), 1.0).unwrap();
        assert_eq!((recording.steps, recording.step_s), (2, 60.0));
        assert_eq!((recording.arrivals, recording.replicas), (vec![120.0, 240.0], vec![1, 2]));
        assert!((recording.latencies["p90_e2e_s"] - (0.5 * 120.0 + 240.0) / 360.0).abs() < 1e-12);
        for (table, message) in [
            ("time,replicas\n", "expected `time_s` among them"),
            ("time_s,request_per_s\n", "did you mean `requests_per_s`?"),
            ("time_s,replicas\n0,x\n", "line 2: replicas: `x` found, expected a number"),
            ("time_s,replicas\n0,1\n0,1\n", "line 3: time_s: 0 found, expected more"),
            ("time_s,replicas\n0,-1\n", "line 2: replicas: -1 found, expected at least 0"),
        ] {
            let error = of_csv(table).unwrap_err();
            assert!(error.contains(message), "{table}: {error}");
        }
        let missing = assemble(of_csv("time_s,replicas\n0,1\n60,1\n").unwrap(), 1.0).unwrap_err();
        assert!(missing.starts_with("no arrivals found, expected `requests_per_s`"), "{missing}");
    }

    #[test]
    fn counters_gauges_and_histograms_of_prometheus() {
        let series =
            |labels: &str, values: &str| format!(r#"{{"metric": {{{labels}}}, "values": [{values}]}}"#);
        let file = |results: &[String]| {
            let text = format!(
                r#"{{"status": "success", "data": {{"resultType": "matrix", "result": [{}]}}}}"#,
                results.join(",")
            );
            of_json(&text, "requests_per_s").unwrap()
        };
        let raw = file(&[
            // The second server comes later, the first is restarted.
            series(
                r#""__name__": "vllm:request_success_total", "pod": "a""#,
                r#"[100,"10"],[115,"40"],[130,"5"],[145,"20"]"#,
            ),
            series(r#""__name__": "vllm:request_success_total", "pod": "b""#, r#"[130,"7"],[145,"9"]"#),
            series(
                r#""__name__": "vllm:num_requests_running", "pod": "a""#,
                r#"[100,"4"],[115,"6"],[130,"6"],[145,"6"]"#,
            ),
            series(r#""__name__": "vllm:num_requests_running", "pod": "b""#, r#"[130,"1"],[145,"1"]"#),
            series(r#""__name__": "vllm:prompt_tokens_total""#, r#"[100,"0"],[145,"5900"]"#),
            series(r#""__name__": "vllm:generation_tokens_total""#, r#"[100,"0"],[145,"590"]"#),
            series(
                r#""__name__": "vllm:e2e_request_latency_seconds_bucket", "le": "1""#,
                r#"[100,"0"],[145,"50"]"#,
            ),
            series(
                r#""__name__": "vllm:e2e_request_latency_seconds_bucket", "le": "3""#,
                r#"[100,"0"],[145,"100"]"#,
            ),
            series(
                r#""__name__": "vllm:e2e_request_latency_seconds_bucket", "le": "+Inf""#,
                r#"[100,"0"],[145,"100"]"#,
            ),
        ]);
        let recording = assemble(raw, 1.0).unwrap();
        assert_eq!((recording.steps, recording.step_s), (3, 15.0));
        assert_eq!(recording.replicas, [1, 1, 2]);
        // 30 done and two more inside; then 5 + 7 done and one more inside; then 15 + 2 and none.
        assert_eq!(recording.arrivals, [32.0, 13.0, 17.0]);
        assert_eq!(recording.prefill_tokens, [100.0; 3]);
        assert_eq!((recording.latencies["p50_e2e_s"], recording.latencies["p90_e2e_s"]), (1.0, 2.6));
        let rate = file(&[series("", r#"[0,"9"],[10,"2"],[20,"3"]"#)]);
        let all = Assembly { clock: Clock::of(&rate).unwrap(), raw: rate, notes: Vec::new() };
        assert_eq!(
            all.column("requests_per_s", true),
            Some(vec![2.0, 3.0]),
            "a rate that was queried is of the step before"
        );
        assert!(
            of_json(r#"{"status": "error", "error": "bad query"}"#, "x").unwrap_err().contains("bad query")
        );
        assert!(
            of_json(r#"{"data": {"resultType": "vector"}}"#, "x").unwrap_err().contains("expected `matrix`")
        );
    }
}
