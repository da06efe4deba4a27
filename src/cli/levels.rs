//! `scalefront levels`: few settings of a knob, chosen on other draws before the run.

use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use scalefront::files::write_json;
use scalefront::oracle::informed::InformedSettings;
use scalefront::sweep::answers::levels::{self, Chosen, LevelSettings};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Interrupted;
use serde_json::json;

use super::Exit;
use super::common::{CommonArgs, catch_interrupts, command_line, say, threads, watched};

/// Choose few settings of each family that together do nearly what all do, on other draws of the traffic than
/// the sweep's
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grid file, with knobs of many values and objectives.reference; looked for under sweeps/ too
    grid: PathBuf,

    /// Settings to choose of each family that has more
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    levels: u32,

    /// Only this family of the grid; may be given several times
    #[arg(long = "family", value_name = "NAME")]
    families: Vec<String>,

    /// Draws to choose on, none of them the sweep's; of a trace so many of each half
    #[arg(long, value_name = "N", default_value_t = InformedSettings::default().fitting_draws, value_parser = clap::value_parser!(u32).range(1..=1000))]
    fitting_draws: u32,

    /// Seed that these draws come from
    #[arg(long, value_name = "N", default_value_t = InformedSettings::default().search_seed)]
    search_seed: u64,

    /// Store what was chosen as JSON, too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Threads to run on [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<std::num::NonZeroUsize>,

    /// Print no progress
    #[arg(long)]
    quiet: bool,

    /// Add N to every seed of the grid
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed_offset: u64,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let mut grid = Grid::read(&self.grid)?;
        if let Some(out) = &self.out {
            let same =
                out.canonicalize().is_ok_and(|out| self.grid.canonicalize().is_ok_and(|grid| out == grid));
            ensure!(!same, "--out: the grid itself found, expected another file");
        }
        grid.offset_seeds(self.seed_offset).map_err(|error| anyhow!(error))?;
        let settings = LevelSettings {
            levels: self.levels as usize,
            fitting_draws: self.fitting_draws,
            search_seed: self.search_seed,
            families: self.families.clone(),
        };
        let common =
            CommonArgs { out: None, threads: self.threads, quiet: self.quiet, seed_offset: self.seed_offset };
        let pool = common.pool()?;
        let plan = pool.install(|| Plan::new(grid))?;
        levels::check(&plan, &settings)?;
        catch_interrupts()?;
        let count = levels::simulations(&plan, &settings);
        let chosen = match watched(&common, "Choosing", count, |bar| {
            pool.install(|| levels::choose(&plan, &settings, bar))
        }) {
            Err(error) if error.is::<Interrupted>() => {
                eprintln!("interrupted: nothing was chosen");
                return Ok(Exit::Interrupted);
            }
            chosen => chosen?,
        };
        if let Some(out) = &self.out {
            let answer = json!({"chosen": chosen, "settings": settings, "command": command_line(), "grid": plan.grid.as_given,
                "results_version": scalefront::RESULTS_VERSION});
            write_json(out, &answer)?;
        }
        for (number, chosen) in chosen.iter().enumerate() {
            if number > 0 {
                say("")?;
            }
            tell(chosen)?;
        }
        Ok(Exit::Done)
    }
}

fn tell(chosen: &Chosen) -> Result<()> {
    let clusters: String = chosen.cluster.iter().map(|(name, value)| format!(", {name} {value}")).collect();
    say(format!(
        "{}, {}{clusters}: {} of {} settings, chosen on {}",
        chosen.workload, chosen.family, chosen.count, chosen.of, chosen.chosen_on
    ))?;
    for entry in &chosen.entries {
        say(format!("  {entry}"))?;
    }
    for judged in &chosen.judged {
        let (whole, own, equal) = (judged.whole, judged.chosen, judged.equal_steps);
        say(format!("  {}: hypervolume {own:.4} of {whole:.4}; equal steps {equal:.4}", judged.on))?;
    }
    if chosen.count == 0 {
        return say(
            "  no setting came inside `objectives.reference` on these draws: give a larger latency and cost, or see with `scalefront sweep` \
             what its runs come to",
        );
    }
    let [own, equal] = chosen.lost().map(|lost| 100.0 * lost);
    // Where the draws differ more than the settings do, as the halves of a trace may, a choice is one for the
    // wrong traffic.
    let remark = if own - equal >= 0.05 { ": equal steps are the better choice here" } else { "" };
    say(format!("  lost to the whole knob: {own:.1} %; with equal steps {equal:.1} %{remark}"))
}
