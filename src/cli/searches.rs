//! Searches for edges beside a sweep, or after one.

use anyhow::Result;
use scalefront::files::write_json;
use scalefront::oracle::OracleSettings;
use scalefront::oracle::informed::InformedSettings;
use scalefront::sweep::answers::informed;
use scalefront::sweep::answers::oracle::{self, Account};
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Interrupted;
use scalefront::sweep::store::ResultsDir;
use scalefront::sweep::tables::checksum::Checksum;

use super::common::{CommonArgs, command_line, watched};
use super::tables;

/// Which edges to search for.
#[derive(Debug, Clone, Default)]
pub struct Searches {
    /// With perfect foresight.
    pub edge: Option<OracleSettings>,
    /// Without.
    pub informed: Option<InformedSettings>,
}

impl Searches {
    /// Errors: a plan that has no such edge.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        if self.edge.is_some() {
            oracle::check(plan)?;
        }
        if self.informed.is_some() {
            informed::check(plan)?;
        }
        Ok(())
    }

    /// Searches and stores; the report is to follow.
    pub fn run(&self, plan: &Plan, dir: &ResultsDir, common: &CommonArgs) -> Result<Result<(), Interrupted>> {
        if let Some(settings) = &self.edge
            && let Err(interrupted) = search(plan, settings, dir, common)?
        {
            return Ok(Err(interrupted));
        }
        match &self.informed {
            Some(settings) => search_informed(plan, settings, dir, common),
            None => Ok(Ok(())),
        }
    }
}

fn search(
    plan: &Plan,
    settings: &OracleSettings,
    dir: &ResultsDir,
    common: &CommonArgs,
) -> Result<Result<(), Interrupted>> {
    let mut account = Account::new(plan, settings, command_line());
    let rows = match watched(common, "Searching", account.simulations as usize, |bar| {
        oracle::search(plan, settings, bar)
    }) {
        Ok(rows) => rows,
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    tables::store_oracle(dir.path(), &rows)?;
    account.table = Some(Checksum::of_file(&dir.file(oracle::TABLE))?);
    write_json(&dir.file(oracle::ACCOUNT), &account)?;
    Ok(Ok(()))
}

fn search_informed(
    plan: &Plan,
    settings: &InformedSettings,
    dir: &ResultsDir,
    common: &CommonArgs,
) -> Result<Result<(), Interrupted>> {
    let count = informed::simulations(plan, settings) as usize;
    let (rows, edges) = match watched(common, "Searching without foresight", count, |bar| {
        informed::search(plan, settings, bar)
    }) {
        Ok(found) => found,
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    let mut account = informed::Account::new(plan, settings, command_line(), edges);
    tables::store_informed(dir.path(), &rows)?;
    account.table = Some(Checksum::of_file(&dir.file(informed::TABLE))?);
    write_json(&dir.file(informed::ACCOUNT), &account)?;
    Ok(Ok(()))
}
