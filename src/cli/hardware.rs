//! `scalefront hardware`: models, devices and nodes; how long steps take and how much fits; errors against
//! measurements.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use scalefront::hardware::analytical::{self, fits};
use scalefront::hardware::check::{self, Compared, Comparison, Refused};
use scalefront::hardware::memory::{self, MemoryPlanner, Needs, ProfiledPlanner, VllmDefaults, VllmPlanner};
use scalefront::hardware::{
    BatchShape, Deployment, ExecutionTime, ExecutionTimeSettings, Files, catalog, coverage,
};
use scalefront::settings::Faults;
use scalefront::sweep::plan::hardware_files::{CACHE_DIR, hardware_files};

use super::{Exit, calibrate, tables, validate};

/// Models, devices and nodes; measured tables in; errors against measurements
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the models, devices and nodes known by name
    List(ListArgs),
    /// Print step times, constants and memory of one deployment
    Show(ShowArgs),
    /// Import measured tables for one deployment, and keep them for later runs
    Import(ShowArgs),
    /// Compare step times with measured ones
    Check(CheckArgs),
    /// Simulate measured runs of real servers, and compare latencies
    Validate(validate::ValidateArgs),
    /// Fit engine overheads to a result file of your own server, or to measured runs of several
    Calibrate(calibrate::CalibrateArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// As the page docs/hardware.md: models x devices, with how many devices a model takes and what its step
    /// times rest on
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, clap::Args)]
struct Source {
    /// Where step times come from, as in a grid file: a name, or JSON such as '{"analytical": {"weights":
    /// "fp8"}}'
    #[arg(long, value_name = "JSON", default_value = "analytical")]
    execution_time: String,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// A model by name, or the path of a Hugging Face config.json
    #[arg(long, default_value = "meta-llama/Meta-Llama-3-70B")]
    model: String,

    #[arg(long, default_value = "a100_pairwise_nvlink")]
    node: String,

    #[arg(long, value_name = "N", default_value_t = 4)]
    tensor_parallel: u32,

    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline_parallel: u32,

    /// Groups of devices that the experts of a mixture are divided among
    #[arg(long, value_name = "N", default_value_t = 1)]
    expert_parallel: u32,

    #[command(flatten)]
    source: Source,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A CSV of measured steps or serving rows
    file: PathBuf,

    #[command(flatten)]
    source: Source,

    /// Only rows of devices with this in their name
    #[arg(long)]
    device: Option<String>,

    /// Only rows of models with this in their name
    #[arg(long)]
    model: Option<String>,

    /// Only rows of engines with this in their name and precision, such as "vllm fp8", or name and version,
    /// such as "sglang next"
    #[arg(long)]
    engine: Option<String>,

    /// Where the picture goes
    #[arg(long, value_name = "DIR", default_value = "results/hardware")]
    out: PathBuf,
}

impl Source {
    fn settings(&self) -> Result<ExecutionTimeSettings> {
        let text = self.execution_time.trim();
        let json =
            if text.starts_with('{') { text.to_string() } else { format!("{:?}", text.trim_matches('"')) };
        let mut deserializer = serde_json::Deserializer::from_str(&json);
        let settings: ExecutionTimeSettings =
            serde_path_to_error::deserialize(&mut deserializer).context("--execution-time")?;
        let mut faults = Faults::default();
        settings.check(&mut faults);
        match faults.found.first() {
            None => Ok(settings),
            Some(fault) => bail!("--execution-time: `{}`: {}", fault.path, fault.message),
        }
    }
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let mut out = String::new();
        match &self.command {
            Command::List(ListArgs { markdown: true }) => out = coverage::page(),
            Command::List(_) => list(&mut out)?,
            Command::Show(args) => args.show(&mut out)?,
            Command::Import(args) => args.import(&mut out)?,
            Command::Check(args) => args.run(&mut out)?,
            Command::Validate(args) => args.run(&mut out)?,
            Command::Calibrate(args) => args.run(&mut out)?,
        }
        match std::io::stdout().write_all(out.as_bytes()) {
            // Whoever listens has heard enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        Ok(Exit::Done)
    }
}

fn list(out: &mut String) -> Result<()> {
    writeln!(
        out,
        "Models                                 layers  hidden  heads  KV heads  head  MLP     vocabulary"
    )?;
    for model in catalog::MODELS {
        writeln!(
            out,
            "  {:35}  {:6}  {:6}  {:5}  {:8}  {:4}  {:6}  {:10}{}{}",
            model.name,
            model.num_layers,
            model.embedding_dim,
            model.num_query_heads,
            model.num_kv_heads,
            model.head_dim,
            model.mlp_hidden_dim,
            model.vocabulary,
            if model.gated_mlp { "" } else { "  plain MLP" },
            if model.qk_norm { "  QK norm" } else { "" },
        )?;
    }
    writeln!(
        out,
        "\nMixtures of experts                             layers  hidden  attention    experts        width  shared  dense  weights"
    )?;
    for model in catalog::all_models() {
        let Some(experts) = model.experts else { continue };
        writeln!(
            out,
            "  {:45}  {:6}  {:6}  {:11}  {:3} of {:3}     {:6}  {:6}  {:5}  {}",
            model.name,
            model.num_layers,
            model.embedding_dim,
            model.attention_kind(),
            experts.per_token,
            experts.count,
            experts.hidden_dim,
            experts.shared_hidden_dim,
            experts.dense_layers,
            model.weights.name(),
        )?;
    }
    writeln!(out, "  or the path of a Hugging Face config.json")?;
    writeln!(out, "\nDevices                GiB    GB/s  bf16 Tflop/s  FP8 Tflop/s  link GB/s  constants")?;
    for device in catalog::DEVICES {
        let fp8 = device.peak_fp8_tflops.map_or_else(|| "-".into(), |tflops| tflops.to_string());
        writeln!(
            out,
            "  {:19}  {:5}  {:5}  {:12}  {fp8:>11}  {:9}  {}",
            device.name,
            device.memory_gib,
            device.memory_gb_per_s,
            device.peak_bf16_tflops,
            device.link_gb_per_s,
            fits::device_constants(device).1.describe(),
        )?;
    }
    writeln!(out, "\nNodes                    device               devices  $ per hour")?;
    for node in catalog::NODES {
        let price = node
            .price_usd_per_hour
            .map_or_else(|| "yours to give (node_price_usd_per_hour)".into(), |price| format!("{price:.2}"));
        writeln!(out, "  {:21}  {:19}  {:7}  {price}", node.name, node.device, node.devices_per_node)?;
    }
    Ok(())
}

/// A batch of equal prefills and equal decodes.
fn batch(prefills: u32, tokens: u32, decodes: u32, cached: u32) -> BatchShape {
    let mut shape = BatchShape::default();
    (0..prefills).for_each(|_| shape.add_prefill(tokens, 0));
    (0..decodes).for_each(|_| shape.add_decode(cached));
    shape
}

impl ShowArgs {
    fn load(&self, settings: &ExecutionTimeSettings, files: &Files) -> Result<ExecutionTime> {
        let deployment = Deployment::resolve(
            &self.model,
            &self.node,
            self.tensor_parallel,
            self.pipeline_parallel,
            files,
        )?;
        Ok(ExecutionTime::load(settings, &deployment.with_expert_parallel(self.expert_parallel)?, files)?)
    }

    fn show(&self, out: &mut String) -> Result<()> {
        let settings = self.source.settings()?;
        let times = self.load(&settings, &hardware_files(&[]))?;
        let deployment = &times.deployment;
        let (tp, pp) = (deployment.tensor_parallel, deployment.pipeline_parallel);
        let ep = if deployment.expert_parallel > 1 {
            format!(", expert parallel {}", deployment.expert_parallel)
        } else {
            String::new()
        };
        writeln!(
            out,
            "{} on {}, tensor parallel {tp}{ep}, pipeline parallel {pp}",
            deployment.model.name, deployment.node.name
        )?;
        writeln!(out, "{}", times.provenance)?;
        for sentence in catalog::approximations(&deployment.model, times.weights) {
            writeln!(out, "{sentence}")?;
        }
        print_steps(out, &times)?;
        writeln!(out, "\nKV cache of one replica, tokens")?;
        let planners = [
            MemoryPlanner::default(),
            MemoryPlanner::Vllm(VllmPlanner::default()),
            MemoryPlanner::VllmProfiled(ProfiledPlanner::default()),
        ];
        for planner in planners {
            let needs = Needs {
                planner: &planner,
                max_request_tokens: 4096,
                block_size_tokens: 16,
                memory_margin_fraction: 0.1,
                weights: times.weights,
                kv_cache: times.kv_cache,
                vllm: VllmDefaults::default(),
            };
            match memory::plan(deployment, &needs) {
                Ok(capacity) => writeln!(
                    out,
                    "  {:13} {:10} ({} requests of {} tokens)",
                    planner.name(),
                    memory::kv_tokens(deployment, &needs),
                    capacity.max_requests,
                    needs.max_request_tokens
                )?,
                Err(error) => writeln!(out, "  {:13} {error}", planner.name())?,
            }
        }
        if let ExecutionTimeSettings::Analytical(settings) = &settings {
            writeln!(out, "\nConstants")?;
            for (name, meaning, value) in analytical::parameters(deployment, settings)?.constants.list() {
                writeln!(out, "  {name:32} {value:10}  {meaning}")?;
            }
        }
        Ok(())
    }

    fn import(&self, out: &mut String) -> Result<()> {
        let settings = self.source.settings()?;
        if !matches!(settings, ExecutionTimeSettings::Vidur(_) | ExecutionTimeSettings::Aiconfigurator(_)) {
            bail!(
                "--execution-time: nothing to import in `{}`; give '{{\"vidur\": {{\"compute_dir\": ..}}}}' or '{{\"aiconfigurator\": {{\"systems_dir\": ..}}}}'",
                settings.name()
            );
        }
        let times = self.load(&settings, &hardware_files(&[]))?;
        writeln!(out, "{}\nkept in {CACHE_DIR}", times.provenance)?;
        print_steps(out, &times)?;
        Ok(())
    }
}

fn print_steps(out: &mut String, times: &ExecutionTime) -> Result<()> {
    writeln!(out, "\nStep times, ms")?;
    for tokens in [256, 1024, 4096] {
        writeln!(
            out,
            "  prefill of 1 x {tokens:4} tokens       {:10.3}",
            times.step_time_s(&batch(1, tokens, 0, 0)) * 1e3
        )?;
    }
    for requests in [1, 16, 64] {
        writeln!(
            out,
            "  decode of {requests:2} behind 2048 tokens  {:10.3}",
            times.step_time_s(&batch(0, 0, requests, 2048)) * 1e3
        )?;
    }
    Ok(())
}

impl CheckArgs {
    fn run(&self, out: &mut String) -> Result<()> {
        let settings = self.source.settings()?;
        let contains = |part: &Option<String>, whole: &str| {
            part.as_ref().is_none_or(|part| whole.contains(part.as_str()))
        };
        let rows = check::read(&self.file)?;
        let Comparison { compared, left_out, refused } =
            check::compare(&rows, &settings, &hardware_files(&[]), |row| {
                contains(&self.device, &row.device)
                    && contains(&self.model, &row.model)
                    && contains(&self.engine, &row.engine)
            });
        if let (true, Some(first)) = (compared.is_empty(), refused.first()) {
            bail!("{}: {}: {}", self.file.display(), first.deployment, first.reason);
        }
        if compared.is_empty() {
            bail!(
                "{}: none of {} rows is of a known device and model and was asked for",
                self.file.display(),
                rows.len()
            );
        }
        writeln!(
            out,
            "{}: {} rows compared with `{}`, {left_out} left out\n",
            self.file.display(),
            compared.len(),
            settings.name()
        )?;
        print_errors(out, &compared)?;
        if !refused.is_empty() {
            writeln!(out, "\nNot answered for")?;
        }
        for Refused { deployment, rows, reason } in &refused {
            writeln!(out, "  {deployment} ({rows} rows): {reason}")?;
        }
        if let Some(picture) = tables::draw_check(&compared, &self.out)? {
            writeln!(out, "\nPicture: {}", picture.display())?;
        }
        Ok(())
    }
}

/// Errors by phase, then by phase and device, then by model too.
fn print_errors(out: &mut String, rows: &[Compared]) -> Result<()> {
    writeln!(
        out,
        "phase    device      model                               rows   MAPE    bias     P95  worst"
    )?;
    let groups: [fn(&Compared) -> [String; 3]; 3] = [
        |row| [row.measured.phase.name().into(), "all".into(), "all".into()],
        |row| [row.measured.phase.name().into(), row.measured.device.clone(), "all".into()],
        |row| [row.measured.phase.name().into(), row.measured.device.clone(), row.measured.model.clone()],
    ];
    for group in groups {
        for name in rows.iter().map(group).collect::<BTreeSet<_>>() {
            let Some(errors) = check::errors(rows.iter().filter(|row| group(row) == name)) else { continue };
            let [phase, device, model] = &name;
            writeln!(
                out,
                "{phase:7}  {device:10}  {model:32}  {:6}  {:4.1} %  {:+4.1} %  {:4.1} %  {:+.1} % ({})",
                errors.rows,
                100.0 * errors.mape,
                100.0 * errors.bias,
                100.0 * errors.p95,
                100.0 * errors.worst.error(),
                errors.worst.measured
            )?;
        }
    }
    Ok(())
}
