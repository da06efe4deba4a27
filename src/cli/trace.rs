//! `scalefront trace`: look at, make and translate request traces.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use scalefront::sweep::grid::Grid;
use scalefront::workload::describe::describe;
use scalefront::workload::formats::TraceFormat;
use scalefront::workload::{self, TraceSpec, Workload, trace};

use super::common::say;
use super::{Exit, tables};

/// Look at, make and translate request traces
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print rates, burstiness and lengths of a trace
    Describe(DescribeArgs),
    /// Write a workload that a grid file generates
    Generate(GenerateArgs),
    /// Write a trace in another format
    Convert(ConvertArgs),
}

/// How a trace is read.
#[derive(Debug, clap::Args)]
struct Reading {
    /// The trace, plain or compressed with gzip or Zstandard
    trace: PathBuf,

    /// The trace's format [default: told by its first line]
    #[arg(long, value_enum)]
    from: Option<Format>,

    /// Factor on arrival times: 0.5 is twice the rate
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,

    /// Only so many requests, the earliest
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,

    /// Cut requests to so many tokens, prefill and decode together
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,

    /// Put requests in order of arrival
    #[arg(long)]
    sort: bool,
}

#[derive(Debug, clap::Args)]
struct DescribeArgs {
    #[command(flatten)]
    reading: Reading,

    /// Draw rate over time and lengths into DIR
    #[arg(long, value_name = "DIR")]
    picture: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    /// A grid file; looked for under sweeps/ too
    grid: PathBuf,

    /// Which of its workloads [default: the only one]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,

    /// Seed of the draws [default: the grid's first]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Where the trace goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[arg(long, value_enum, default_value_t = Format::Vidur)]
    to: Format,
}

#[derive(Debug, clap::Args)]
struct ConvertArgs {
    #[command(flatten)]
    reading: Reading,

    /// Where the trace goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[arg(long, value_enum, default_value_t = Format::Vidur)]
    to: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// arrived_at,num_prefill_tokens,num_decode_tokens
    Vidur,
    /// TIMESTAMP,ContextTokens,GeneratedTokens
    Azure,
    /// JSON lines with timestamp, input_length, output_length, hash_ids
    Mooncake,
    /// Read only
    Burstgpt,
}

impl From<Format> for TraceFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Vidur => Self::Vidur,
            Format::Azure => Self::Azure,
            Format::Mooncake => Self::Mooncake,
            Format::Burstgpt => Self::BurstGpt,
        }
    }
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        match &self.command {
            Command::Describe(args) => args.run()?,
            Command::Generate(args) => args.run()?,
            Command::Convert(args) => args.run()?,
        }
        Ok(Exit::Done)
    }
}

impl Reading {
    fn read(&self) -> Result<Workload> {
        let spec = TraceSpec {
            format: self.from.map(Into::into),
            time_scale: self.time_scale,
            max_requests: self.max_requests,
            max_tokens: self.max_tokens,
            sort: self.sort,
            ..TraceSpec::new(&self.trace)
        };
        let (workload, notes) = trace::read(&spec, &[])?;
        if notes.skipped > 0 {
            eprintln!("{}: {} failed requests skipped", self.trace.display(), notes.skipped);
        }
        if notes.cut > 0 {
            eprintln!("{}: {} requests cut to {} tokens", self.trace.display(), notes.cut, self.max_tokens.unwrap_or_default());
        }
        Ok(workload)
    }
}

impl DescribeArgs {
    fn run(&self) -> Result<()> {
        let workload = self.reading.read()?;
        let description = describe(&workload).ok_or_else(|| anyhow!("{}: no requests found", self.reading.trace.display()))?;
        say(&description)?;
        if let Some(dir) = &self.picture {
            let name = self.reading.trace.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match tables::draw_workload(&workload, &name, dir)? {
                Some(picture) => say(format!("Look at {}", picture.display()))?,
                None => tables::check_available()?,
            }
        }
        Ok(())
    }
}

impl GenerateArgs {
    fn run(&self) -> Result<()> {
        let grid = Grid::read(&self.grid)?;
        let named = |name: &str| self.workload.as_deref().is_none_or(|wanted| wanted == name);
        let specs: Vec<_> = grid
            .workloads
            .iter()
            .flat_map(|section| (0..section.count()).map(|i| section.get(i)))
            .filter(|spec| named(&spec.name))
            .collect();
        let spec = match &specs[..] {
            [only] => only,
            [] => bail!("{}: no workload is called `{}`", grid.source.file, self.workload.as_deref().unwrap_or_default()),
            several => bail!(
                "{}: {} workloads found, one is expected: name it with --workload and give its settings one value each",
                grid.source.file,
                several.len()
            ),
        };
        let seed = self.seed.unwrap_or(grid.seeds[0]);
        let workload =
            workload::load(spec, seed, &grid.base_dirs).with_context(|| format!("{}: workload `{}`", grid.source.file, spec.name))?;
        let workload = workload.streamed.as_ref().map_or(workload.clone(), |streamed| streamed.kept());
        write(&workload, self.to, &self.out)
    }
}

impl ConvertArgs {
    fn run(&self) -> Result<()> {
        write(&self.reading.read()?, self.to, &self.out)
    }
}

fn write(workload: &Workload, format: Format, path: &Path) -> Result<()> {
    TraceFormat::from(format).write(workload, path)?;
    say(format!("{}: {} requests", path.display(), workload.len()))?;
    Ok(())
}
