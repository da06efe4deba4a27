//! `scalefront trace`: look at, make and translate request traces.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use scalefront::settings::Faults;
use scalefront::sweep::grid::Grid;
use scalefront::workload::describe::describe;
use scalefront::workload::formats::{TimeUnit, TraceFormat};
use scalefront::workload::{self, TraceNotes, TraceSpec, Workload, trace};

use super::common::{say, warn};
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
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    from: Option<TraceFormat>,

    /// What timestamps count [default: as usual in the format]
    #[arg(long, value_name = "UNIT", value_parser = units())]
    time_unit: Option<TimeUnit>,

    /// Prompt tokens an id of hash_ids stands for [default: as the file or its format says]
    #[arg(long, value_name = "N")]
    block_tokens: Option<u32>,

    /// Only requests from this second of the trace's own time on, which becomes time 0
    #[arg(long, value_name = "SECONDS")]
    start_s: Option<f64>,

    /// Only so many seconds of the trace
    #[arg(long, value_name = "SECONDS")]
    duration_s: Option<f64>,

    /// Factor on arrival times: 0.5 is twice the rate
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, allow_negative_numbers = true)]
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

    #[arg(long, value_name = "FORMAT", value_parser = formats(), default_value = "vidur")]
    to: TraceFormat,
}

#[derive(Debug, clap::Args)]
struct ConvertArgs {
    #[command(flatten)]
    reading: Reading,

    /// Where the trace goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[arg(long, value_name = "FORMAT", value_parser = formats(), default_value = "vidur")]
    to: TraceFormat,
}

/// Names of formats as the library's table has them.
fn formats() -> impl TypedValueParser<Value = TraceFormat> {
    let name = |format: &TraceFormat| PossibleValue::new(format.layout().name).help(format.layout().summary);
    PossibleValuesParser::new(TraceFormat::ALL.iter().map(name)).map(|name| {
        TraceFormat::ALL
            .into_iter()
            .find(|format| format.layout().name == name)
            .expect("a value that was possible")
    })
}

fn units() -> impl TypedValueParser<Value = TimeUnit> {
    PossibleValuesParser::new(["s", "ms"])
        .map(|unit| if unit == "s" { TimeUnit::Seconds } else { TimeUnit::Milliseconds })
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
    fn read(&self) -> Result<(Workload, TraceNotes)> {
        let spec = TraceSpec {
            format: self.from,
            time_unit: self.time_unit,
            block_tokens: self.block_tokens,
            start_s: self.start_s,
            duration_s: self.duration_s,
            time_scale: self.time_scale,
            max_requests: self.max_requests,
            max_tokens: self.max_tokens,
            sort: self.sort,
            ..TraceSpec::new(&self.trace)
        };
        let mut faults = Faults::default();
        spec.check(&mut faults);
        if let Some(fault) = faults.found.first() {
            bail!("--{}: {}", fault.path.replace('_', "-"), fault.message);
        }
        let (workload, mut notes) =
            trace::read(&spec, &[]).map_err(|error| anyhow!(in_flags(&error.to_string())))?;
        for sentence in notes.doubts.iter_mut().chain(&mut notes.assumed) {
            *sentence = in_flags(sentence);
        }
        let file = self.trace.display();
        if notes.skipped > 0 {
            eprintln!("{file}: {} requests left out, which failed or warmed up", notes.skipped);
        }
        if notes.cut > 0 {
            eprintln!("{file}: {} requests cut to {} tokens", notes.cut, self.max_tokens.unwrap_or_default());
        }
        warn(&notes.doubts.iter().map(|doubt| format!("{file}: {doubt}")).collect::<Vec<_>>());
        Ok((workload, notes))
    }
}

/// Fields of a trace in a grid file, and the flags that stand for them here.
const FLAGS: [(&str, &str); 9] = [
    ("format", "--from"),
    ("time_unit", "--time-unit"),
    ("block_tokens", "--block-tokens"),
    ("start_s", "--start-s"),
    ("duration_s", "--duration-s"),
    ("time_scale", "--time-scale"),
    ("max_requests", "--max-requests"),
    ("max_tokens", "--max-tokens"),
    ("sort", "--sort"),
];

/// Fields of a trace in a grid file that no flag stands for.
const FIELDS_ALONE: [&str; 4] = ["lanes", "loop", "starts", "decompressed_limit_bytes"];

/// A sentence about a trace, which speaks of a grid file's fields, for someone who gave flags.
fn in_flags(sentence: &str) -> String {
    let mut said = sentence.replace("set `sort` to true", "give --sort");
    for (field, flag) in FLAGS {
        said = said.replace(&format!("set `{field}` to "), &format!("give {flag} "));
        said = said.replace(&format!("set `{field}`"), &format!("give {flag}"));
        // What a column of the trace is called stays.
        let column = format!("column `{field}`");
        said = said
            .split(&column)
            .map(|part| part.replace(&format!("`{field}`"), flag))
            .collect::<Vec<_>>()
            .join(&column);
    }
    if let Some(field) = FIELDS_ALONE.into_iter().find(|field| said.contains(&format!("`{field}`"))) {
        said += &format!(
            " (`{field}` is for traces in grid files alone, of which `scalefront trace generate` makes plain ones)"
        );
    }
    said
}

/// How a trace was read, as lines below its figures.
fn how_read(notes: &TraceNotes, workload: &Workload) -> String {
    let mut lines = String::new();
    let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for sentence in &notes.assumed {
        lines += &format!("\nassumed   {sentence}");
    }
    if let Some(duration_s) = workload.duration_s {
        lines += &format!("\nwindow    {duration_s} s, which a run lasts at least");
    }
    if !notes.not_read.is_empty() {
        lines += &format!("\nnot read  {}", list(&notes.not_read));
    }
    lines
}

impl DescribeArgs {
    fn run(&self) -> Result<()> {
        let (workload, notes) = self.reading.read()?;
        let description = describe(&workload)
            .ok_or_else(|| anyhow!("{}: no requests found", self.reading.trace.display()))?;
        say(format!("{description}{}", how_read(&notes, &workload)))?;
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
            [] => bail!(
                "{}: no workload is called `{}`",
                grid.source.file,
                self.workload.as_deref().unwrap_or_default()
            ),
            several => bail!(
                "{}: {} workloads found, one is expected: name it with --workload and give its settings one value each",
                grid.source.file,
                several.len()
            ),
        };
        let seed = self.seed.unwrap_or(grid.seeds[0]);
        let workload = workload::load(spec, seed, &grid.base_dirs)
            .with_context(|| format!("{}: workload `{}`", grid.source.file, spec.name))?;
        let workload =
            workload.streamed.as_ref().map_or_else(|| workload.clone(), |streamed| streamed.kept());
        write(&workload, self.to, &self.out)
    }
}

impl ConvertArgs {
    fn run(&self) -> Result<()> {
        write(&self.reading.read()?.0, self.to, &self.out)
    }
}

fn write(workload: &Workload, format: TraceFormat, path: &Path) -> Result<()> {
    format.write(workload, path)?;
    say(format!("{}: {} requests", path.display(), workload.len()))?;
    for sentence in format.lost_by(workload) {
        eprintln!("{}: {sentence}", path.display());
    }
    Ok(())
}
