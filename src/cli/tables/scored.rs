//! The leaderboard through the library.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use scalefront::analysis::{TableFormat, write_table};
use scalefront::files::make_directory;
use scalefront::files::{write_atomically, write_json};
use scalefront::leaderboard::{self, Board, Job, PolicyScore, Scores};
use scalefront::oracle::OracleSettings;
use scalefront::sweep::run::Interrupted;

use super::LeaderboardArgs;
use crate::cli::Exit;
use crate::cli::common::watched;
use crate::cli::common::{CommonArgs, catch_interrupts, say};

/// Scores, stores and shows.
pub fn leaderboard(args: &LeaderboardArgs) -> Result<Exit> {
    let board = Board::read(&args.cases)?;
    let search = OracleSettings { budget: args.edge_runs, ..OracleSettings::default() };
    let pinned = board.pinned();
    if args.markdown {
        let scores = board.read_pinned()?;
        say(leaderboard::page(&board, &scores).trim_end())?;
        return Ok(Exit::Done);
    }
    let board = args.seed.map_or(Ok(board.clone()), |seed| board.drawn(seed))?;
    let policies = match args.policies.as_slice() {
        [] => vec![board.all_policies()?],
        named => named.iter().map(|named| board.policies(named)).collect::<Result<_>>()?,
    };
    let out = args.out.clone().unwrap_or_else(|| {
        let name = args.seed.map_or("leaderboard".into(), |seed| format!("leaderboard-{seed}"));
        PathBuf::from("results").join(name)
    });
    let stored = out.join("leaderboard.json");
    let known = match board.stored(&stored, &search)? {
        Some(scores) => scores,
        None => {
            if stored.exists() {
                eprintln!(
                    "{}: rows of other cases, another search or another version found; the table begins anew",
                    stored.display()
                );
            }
            board.stored(&pinned, &search)?.unwrap_or_else(|| board.scores(&search))
        }
    };
    let mut scores = known;
    let common = CommonArgs { out: None, threads: args.threads, quiet: args.quiet, seed_offset: 0 };
    let pool = common.pool()?;
    catch_interrupts()?;
    let job = pool.install(|| Job::new(&board, &policies, &scores, &search))?;
    if job.searches() && !args.quiet {
        eprintln!(
            "the edge of these cases is not known yet: it is searched first, {} runs a seed",
            search.budget
        );
    }
    let simulations = job.simulations();
    let names =
        match watched(&common, "Scoring", simulations, |bar| pool.install(|| job.run(&mut scores, bar))) {
            Ok(names) => names,
            Err(Interrupted) => {
                eprintln!("interrupted: nothing was stored");
                return Ok(Exit::Interrupted);
            }
        };
    make_directory(&out).with_context(|| format!("{}: cannot make the directory", out.display()))?;
    write_json(&stored, &scores)?;
    write_table(leaderboard::columns(&scores), &out.join("leaderboard.csv"), TableFormat::Csv)?;
    let page = out.join("leaderboard.md");
    write_atomically(&page, |file| Ok(file.write_all(leaderboard::page(&board, &scores).as_bytes())?))?;
    if args.pin {
        write_json(&pinned, &scores)?;
    }
    let scored: Vec<&PolicyScore> =
        scores.rows.iter().filter(|row| names.contains(&row.policy.family)).collect();
    if !args.quiet {
        scored.iter().try_for_each(|row| say(line(row, &scores)))?;
        say(format!("{} of {} rows: {}", scored.len(), scores.rows.len(), page.display()))?;
    }
    let failed: usize = scored.iter().map(|row| row.failed()).sum();
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let first = scored.iter().flat_map(|row| &row.cases).find_map(|case| Some((case, case.error.as_ref()?)));
    if let Some((case, error)) = first {
        eprintln!("error: {failed} runs failed; the first, on {}: {error}", case.case);
    }
    Ok(Exit::SomeRunsFailed)
}

fn line(row: &PolicyScore, scores: &Scores) -> String {
    let cost = row
        .over_fixed_fleet(&scores.yardsticks)
        .map_or(String::new(), |ratio| format!(" at {ratio:.2} of a fixed fleet's cost"));
    let tail = row.of_limit().map_or(String::new(), |tail| format!(", tail {tail:.2} of the limits"));
    let churn =
        row.scale_ups_per_day().map_or(String::new(), |churn| format!(", {churn:.0} scale-ups a day"));
    let (share, kept, of) = (100.0 * row.share(), row.kept(), row.cases.len());
    format!(
        "{}: {share:.1} % of the edge, limits kept in {kept} of {of} cases{cost}{tail}{churn}",
        row.policy.family
    )
}
