//! What was tried, written down as it ends: whoever asks the same again goes on from there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{Broken, Tried};
use crate::RESULTS_VERSION;
use crate::simulation::metric::find;
use crate::sweep::answers::recommend::space::Candidate;
use crate::sweep::objectives::constraints::Constraint;
use crate::sweep::plan::Plan;

/// A line a load, in the directory of the answer.
pub const JOURNAL: &str = "loads.jsonl";

/// A setting, and the bits of the factor on its traffic.
type Key = (Candidate, u64);

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The question it answers: see [`question`].
    of: String,
    cluster: u64,
    autoscaler: usize,
    combination: u64,
    factor: f64,
    keeps: bool,
    /// Workload, metric, limit, and what was found.
    broken: Option<(String, String, f64, Option<f64>)>,
    rate_per_s: f64,
    usd_per_month: f64,
    usd_per_request: f64,
}

/// Loads that were tried before, and where those of now go.
pub struct Journal {
    path: PathBuf,
    of: String,
    known: BTreeMap<Key, Tried>,
    file: Mutex<File>,
}

/// What an answer depends on. Lines of another grid, of other limits or of another version stay where they
/// are, and count for nothing.
fn question(plan: &Plan) -> Result<String> {
    let all = (RESULTS_VERSION, &plan.runs_hash, plan.provenance(), &plan.grid.objectives.constraints);
    Ok(blake3::hash(&serde_json::to_vec(&all)?).to_hex()[..16].to_owned())
}

impl Journal {
    /// Errors: it cannot be read or written.
    pub fn open(dir: &Path, plan: &Plan) -> Result<Self> {
        let path = dir.join(JOURNAL);
        let of = question(plan)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("{}: cannot read; remove it to begin anew", path.display()));
            }
        };
        // A last line may have been cut off by whatever ended the command.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let known = lines.filter(|line| line.of == of).filter_map(Line::into_tried).collect();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("{}: cannot write", path.display()))?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").with_context(|| format!("{}: cannot write", path.display()))?;
        }
        Ok(Self { path, of, known, file: Mutex::new(file) })
    }

    pub fn known(&self, candidate: Candidate, factor: f64) -> Option<&Tried> {
        self.known.get(&(candidate, factor.to_bits()))
    }

    pub fn write(&self, candidate: Candidate, factor: f64, tried: &Tried) -> Result<()> {
        let Candidate { cluster, autoscaler, combination } = candidate;
        let &Tried { keeps, rate_per_s, usd_per_month, usd_per_request, .. } = tried;
        let broken = tried.broken.as_ref().map(|Broken { workload, constraint, value }| {
            (
                workload.clone(),
                constraint.metric.name.clone(),
                constraint.limit,
                value.filter(|value| value.is_finite()),
            )
        });
        let of = self.of.clone();
        let line = Line {
            of,
            cluster,
            autoscaler,
            combination,
            factor,
            keeps,
            broken,
            rate_per_s,
            usd_per_month,
            usd_per_request,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).map_err(|error| anyhow!("{}: cannot write: {error}", self.path.display()))
    }
}

impl Line {
    fn into_tried(self) -> Option<(Key, Tried)> {
        let Self {
            cluster,
            autoscaler,
            combination,
            factor,
            keeps,
            rate_per_s,
            usd_per_month,
            usd_per_request,
            ..
        } = self;
        let broken = match self.broken {
            None => None,
            Some((workload, metric, limit, value)) => {
                Some(Broken { workload, constraint: Constraint { metric: find(&metric)?, limit }, value })
            }
        };
        let tried = Tried { keeps, broken, rate_per_s, usd_per_month, usd_per_request };
        Some(((Candidate { cluster, autoscaler, combination }, factor.to_bits()), tried))
    }
}
