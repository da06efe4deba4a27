//! Joins the shards of one sweep, and says what is missing, doubled or foreign.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::files::{shell_path, shell_word};
use crate::sweep::grid::Grid;
use crate::sweep::plan::Plan;
use crate::sweep::run::journal::{self, Header, Recorded};

/// Problems that are shown; the rest are counted.
const MOST_SHOWN: usize = 20;

/// The runs of the shards in `dirs`, every run exactly once.
///
/// A directory that is no shard but holds some (`shard-1-of-4`, ..) stands for these. Errors: a directory
/// without a journal; shards that are missing, unfinished, given twice or of another sweep, all of them
/// named.
pub fn join(dirs: &[PathBuf]) -> Result<Recorded> {
    let mut shards = Vec::new();
    for dir in dirs {
        shards.extend(expand(dir)?);
    }
    let headers = shards.iter().map(|dir| journal::read_header(dir)).collect::<Result<Vec<_>>>()?;
    // The sweep most of them are of is the one that is meant.
    let votes = |header: &Header| headers.iter().filter(|other| other.differs_from(header).is_none()).count();
    let most = headers.iter().map(votes).max().context("no shards given")?;
    let meant = headers.iter().find(|header| votes(header) == most).context("no shards given")?;

    let mut problems = Vec::new();
    let mut own: Vec<(&Path, &Header)> = Vec::new();
    for (dir, header) in shards.iter().zip(&headers) {
        let shown = dir.display();
        if let Some(difference) = header.differs_from(meant) {
            problems.push(format!("{shown}: foreign, it holds runs of {difference}; leave it out"));
        } else {
            own.push((dir, header));
        }
    }
    let own_dirs: Vec<&Path> = own.iter().map(|(dir, _)| *dir).collect();
    let recorded = Recorded::read(&own_dirs)?;
    find_doubled(&recorded, &own, &mut problems);
    find_missing(&recorded, &own, meant, &mut problems);
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(MOST_SHOWN);
        problems.truncate(MOST_SHOWN);
        if more > 0 {
            problems.push(format!("... and {more} more"));
        }
        bail!("{}", problems.join("\n"));
    }
    Ok(recorded)
}

fn expand(dir: &Path) -> Result<Vec<PathBuf>> {
    if journal::is_in(dir) {
        return Ok(vec![dir.into()]);
    }
    let shown = dir.display();
    let mut within = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{shown}: cannot read the directory"))? {
        let path = entry.with_context(|| format!("{shown}: cannot read the directory"))?.path();
        if journal::is_in(&path) {
            within.push(path);
        }
    }
    within.sort();
    ensure!(
        !within.is_empty(),
        "{shown}: no shard found, expected a directory that `scalefront sweep --shard K/N` has written"
    );
    Ok(within)
}

/// Pairs of directories that hold the same runs.
fn find_doubled(recorded: &Recorded, own: &[(&Path, &Header)], problems: &mut Vec<String>) {
    let mut pairs: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for &(run, one, other) in &recorded.doubled {
        pairs.entry((one, other)).or_default().push(run);
    }
    for ((one, other), runs) in pairs {
        let [one, other] = [one, other].map(|journal| own[journal as usize].0.display());
        problems
            .push(format!("{one} and {other}: doubled, both hold {}; leave one of them out", places(&runs)));
    }
}

fn find_missing(recorded: &Recorded, own: &[(&Path, &Header)], meant: &Header, problems: &mut Vec<String>) {
    let missing: Vec<usize> = (0..meant.runs).filter(|&run| !recorded.holds(run)).collect();
    if missing.is_empty() {
        return;
    }
    let mut explained = 0;
    for (place, (dir, header)) in (0..).zip(own) {
        let unfinished = header.share.saturating_sub(recorded.in_journal(place));
        if unfinished > 0 {
            explained += unfinished;
            let flag = header.shard.map_or(String::new(), |shard| format!(" --shard {shard}"));
            problems.push(format!(
                "{}: unfinished, {unfinished} of {} runs are missing; `scalefront sweep {}{flag} --out {} --resume` goes on",
                dir.display(),
                header.share,
                shell_word(&header.grid_file),
                out(dir, header)
            ));
        }
    }
    let of = own.iter().filter_map(|(_, header)| header.shard).map(|shard| shard.of).max().unwrap_or(1);
    let absent = (1..=of).filter(|number| {
        own.iter().all(|(_, header)| header.shard.is_none_or(|shard| shard.number != *number))
    });
    let absent: Vec<u32> = absent.collect();
    if missing.len() > explained {
        let count = missing.len() - explained;
        problems.push(match absent.is_empty() {
            true => format!("missing: {count} of {} runs, among them {}", meant.runs, places(&missing)),
            false => format!(
                "missing: shard{} {} of {of}, with {count} of {} runs; `scalefront sweep {} --shard {}/{of} --out {}` runs {}",
                if absent.len() == 1 { "" } else { "s" },
                listed(&absent),
                meant.runs,
                shell_word(&meant.grid_file),
                absent[0],
                own.first().map_or_else(String::new, |(dir, header)| out(dir, header)),
                if absent.len() == 1 { "it" } else { "the first" },
            ),
        });
    }
}

/// What `--out` was for the journal in `dir`: shards have folders of their own below it.
fn out(dir: &Path, header: &Header) -> String {
    shell_path(header.shard.and(dir.parent()).unwrap_or(dir))
}

fn places(runs: &[usize]) -> String {
    let what = if runs.len() == 1 { "run" } else { "runs" };
    format!("{} {what} (of the plan's order: {})", runs.len(), listed(runs))
}

fn listed<T: ToString>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(8).map(T::to_string).collect();
    let more = items.len() - shown.len();
    if more > 0 { format!("{}, and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// The plan the shards were run from, from the grid they carry. Traces and tables are looked for beside where
/// the grid file was, and here.
///
/// Errors: they cannot be read, or have changed since.
pub fn plan(header: &Header) -> Result<Plan> {
    let plan = Plan::new(Grid::stored(&header.grid_file, &header.grid)?)?;
    ensure!(
        plan.runs_hash == header.runs_hash,
        "{}: the traces or hardware tables here are not those the shards were run with; run `scalefront merge` where they are",
        header.grid_file
    );
    Ok(plan)
}
