//! `scalefront hardware calibrate`: engine overheads from a folder of measured runs, or from result files of
//! one server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use scalefront::files::make_directory;
use scalefront::files::write_atomically;
use scalefront::hardware::Overheads;
use scalefront::sweep::plan::hardware_files::CALIBRATIONS_DIR;
use scalefront::validation::calibrate::{Fit, calibrate};
use scalefront::validation::results::{self, Constant, Fitted, Quantity, ResultFile};
use scalefront::validation::{Experiment, Replay};
use serde_json::json;

use super::common::warn;
use super::validate::{Prepared, prepared, print_errors, print_stages, store};

#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// Result files of one server (vllm bench serve, GuideLLM, AIPerf, inference-perf), several if each holds
    /// one rate; or a folder with experiments.json, measured.csv and traces
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Of a folder: only runs with this in their id
    #[arg(long)]
    only: Option<String>,

    /// Of a folder: drawn requests, where none are on record, of so many seeds together
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,

    /// Of a folder: where table and picture go
    #[arg(long, value_name = "DIR", default_value = "results/validation")]
    out: PathBuf,

    /// Of result files: the model served, of the catalogue
    #[arg(long)]
    model: Option<String>,

    /// Of result files: the node or device it was served on, of the catalogue
    #[arg(long)]
    node: Option<String>,

    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    tensor_parallel: u32,

    /// bf16 or fp8
    #[arg(long, value_name = "FORMAT", default_value = "bf16", value_parser = ["bf16", "fp8"])]
    weights: String,

    /// vLLM's version, whose rules the simulated server follows [default: the latest known]
    #[arg(long, value_name = "VERSION")]
    engine_version: Option<String>,

    /// The server's --max-num-seqs, where it was given [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_num_seqs: Option<u32>,

    /// The server's --max-num-batched-tokens, where it was given [default: 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_num_batched_tokens: Option<u32>,

    /// The server's --gpu-memory-utilization, where it was given [default: 0.9]
    #[arg(long, value_name = "FRACTION")]
    gpu_memory_utilization: Option<f64>,

    /// Of result files: what the calibration is called, as `engine_overheads` takes it
    #[arg(long, default_value = "mine")]
    name: String,
}

impl CalibrateArgs {
    pub fn run(&self, out: &mut String) -> Result<()> {
        match &self.paths[..] {
            [path] if path.is_dir() || path.file_name().is_some_and(|name| name == "experiments.json") => {
                self.fit_folder(path, out)
            }
            paths => self.fit_results(paths, out),
        }
    }

    /// A folder of measured runs of several models.
    fn fit_folder(&self, path: &Path, out: &mut String) -> Result<()> {
        let Prepared { experiments, replays, skipped, seeds } =
            prepared(path, self.only.as_deref(), self.seeds)?;
        let calibration = calibrate(&replays, &experiments.measured, &seeds, |left_out, round, error| {
            let fit = left_out.map_or("fit to all".into(), |model| format!("fit without {model}"));
            eprintln!("{fit}: round {round}, weighted mean error {:.2} %", 100.0 * error);
        })?;
        writeln!(
            out,
            "{}: fitted to {} measured runs, {} skipped\n",
            path.display(),
            replays.len(),
            skipped.len()
        )?;
        let fit = &calibration.fit;
        writeln!(
            out,
            "left out                                step ms  us a sequence  ns a logit  API ms  factor of {}",
            fit.devices.join(", ")
        )?;
        print_fit(out, "nothing", fit)?;
        for (model, fit) in &calibration.without {
            print_fit(out, model, fit)?;
        }
        if let [(model, _)] = &calibration.without[..] {
            writeln!(
                out,
                "{model} is the only model: left out, nothing remains to fit to but the round numbers that every fit starts from"
            )?;
        }
        writeln!(out, "\nEvery model left out in turn")?;
        print_stages(out, &calibration.left_out)?;
        print_errors(out, &calibration.left_out)?;
        writeln!(out, "\nThe same with the fit to all runs")?;
        print_errors(out, &calibration.all)?;
        writeln!(out, "\nFor a grid file")?;
        for device in &fit.devices {
            let given = json!({"engine_overheads": {"given": rounded(fit.overheads(device))}});
            writeln!(out, "  {device}: {given}")?;
        }
        store(out, &calibration.left_out, &self.out, "left_out")
    }

    /// Result files of one server.
    fn fit_results(&self, paths: &[PathBuf], out: &mut String) -> Result<()> {
        let files = paths.iter().map(|path| ResultFile::read(path)).collect::<Result<Vec<_>>>()?;
        for ResultFile { path, tool, results, .. } in &files {
            let (requests, failed, warm_up) = (results.requests.len(), results.failed, results.warm_up);
            writeln!(
                out,
                "{}: {}, {requests} requests answered; left out: {failed} failed, {warm_up} to warm up",
                path.display(),
                tool.name
            )?;
            results.assumed.iter().for_each(|sentence| *out += &format!("  {sentence}\n"));
            let doubts: Vec<String> =
                results.doubts.iter().map(|sentence| format!("{}: {sentence}", path.display())).collect();
            warn(&doubts);
        }
        let experiment = self.server()?;
        let fitted = results::calibrate(&files, &experiment)?;
        let server = Replay::of(&experiment, Some(Vec::new())).map_err(|reason| anyhow!(reason))?;
        let stored = fitted.stored(&self.name, &files, &experiment, &server);
        print_fitted(out, &fitted)?;
        let dir = Path::new(CALIBRATIONS_DIR);
        make_directory(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
        let file = dir.join(format!("{}.json", self.name));
        write_atomically(&file, |file| Ok(writeln!(file, "{}", serde_json::to_string_pretty(&stored)?)?))?;
        let [own, shipped] = stored.held_out.e2e.map(|error| 100.0 * error);
        writeln!(
            out,
            "\nYour server: {own:.1} %, with the shipped constants {shipped:.1} % (median error of end-to-end latency over {} requests, left out \
             of the fit: {})",
            stored.held_out.requests, stored.held_out.left_out
        )?;
        if own > shipped {
            writeln!(
                out,
                "The shipped constants are nearer: this load does not carry what was fitted to the rest of it"
            )?;
        }
        writeln!(
            out,
            "Kept: {}\nFor a grid file: {}",
            file.display(),
            json!({"engine_overheads": {"stored": {"calibration": self.name}}})
        )?;
        Ok(())
    }

    /// What the flags say of the server.
    fn server(&self) -> Result<Experiment> {
        let needed = |value: &Option<String>, flag: &str, example: &str| {
            let message = format!(
                "{flag}: missing, and no result file tells it; give what served the requests, such as {flag} {example}"
            );
            value.clone().context(message)
        };
        let model = needed(&self.model, "--model", "meta-llama/Llama-3.1-8B-Instruct")?;
        let node = needed(&self.node, "--node", "h100_dgx")?;
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            bail!("--name: `{}` found, expected letters, digits, `.`, `_` and `-`", self.name);
        }
        let description = json!({
            "id": self.name, "model": model, "gpu": node, "tp": self.tensor_parallel, "precision": self.weights.to_uppercase(),
            "engine": {
                "engine": "vllm", "version": self.engine_version, "max_num_seqs": self.max_num_seqs,
                "max_num_batched_tokens": self.max_num_batched_tokens, "gpu_memory_utilization": self.gpu_memory_utilization,
                "prefix_caching": true,
            },
            "load": {"stages": []},
        });
        serde_json::from_value(description).context("the server as the flags describe it")
    }
}

/// The constants, and every level beside its simulations.
fn print_fitted(out: &mut String, fitted: &Fitted) -> Result<()> {
    writeln!(out, "\nconstant              shipped    fitted  95 % interval")?;
    for Constant { name, value, shipped, interval } in &fitted.constants {
        let told = match interval {
            Ok([low, high]) => format!("{low:.4} to {high:.4}"),
            Err(reason) => format!("not told by the file, stays as shipped: {reason}"),
        };
        writeln!(out, "{name:20}  {shipped:7.4}  {value:8.4}  {told}")?;
    }
    writeln!(out, "\nmeans by level, ms                     measured   shipped  left out  fit to all")?;
    for (level, name) in fitted.levels.iter().enumerate() {
        writeln!(out, "{name}")?;
        for quantity in Quantity::ALL {
            let of = |observed| {
                results::means(observed, level, quantity).map(|means| means.map(|seconds| 1e3 * seconds))
            };
            let (Some([measured, shipped]), Some([_, unseen]), Some([_, all])) =
                (of(&fitted.unseen_shipped), of(&fitted.unseen), of(&fitted.all))
            else {
                continue;
            };
            let name = quantity.name();
            writeln!(out, "  {name:33}  {measured:10.2}  {shipped:8.2}  {unseen:8.2}  {all:10.2}")?;
        }
    }
    writeln!(out, "\nmedian error over requests              shipped  left out")?;
    for quantity in Quantity::ALL {
        let of = |observed| results::median_error(observed, quantity).map(|error| 100.0 * error);
        if let (Some(shipped), Some(unseen)) = (of(&fitted.unseen_shipped), of(&fitted.unseen)) {
            writeln!(out, "  {:35}  {shipped:6.1} %  {unseen:6.1} %", quantity.name())?;
        }
    }
    Ok(())
}

/// Four digits are more than a fit is worth.
fn rounded(overheads: Overheads) -> Overheads {
    let round = |value: f64| (value * 1e4).round() / 1e4;
    Overheads {
        kernel_time_factor: round(overheads.kernel_time_factor),
        step_ms: round(overheads.step_ms),
        per_sequence_us: round(overheads.per_sequence_us),
        sampling_ns_per_logit: round(overheads.sampling_ns_per_logit),
        prefill_us_per_token: round(overheads.prefill_us_per_token),
        api_ms: round(overheads.api_ms),
    }
}

fn print_fit(out: &mut String, name: &str, fit: &Fit) -> Result<()> {
    let Overheads { step_ms, per_sequence_us, sampling_ns_per_logit, api_ms, .. } = fit.overheads("");
    let factors: Vec<String> =
        fit.devices.iter().map(|device| format!("{:.4}", fit.overheads(device).kernel_time_factor)).collect();
    let factors = factors.join(", ");
    writeln!(
        out,
        "{name:38}  {step_ms:7.3}  {per_sequence_us:13.2}  {sampling_ns_per_logit:10.3}  {api_ms:6.2}  {factors}"
    )?;
    Ok(())
}
