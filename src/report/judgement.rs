//! What reports say of a verdict.

use serde_json::Value;

use crate::analysis::verdict::Tested;
use crate::sweep::answers::verdict::{Joint, Neighbour, Standing, Verdict};

/// A verdict with all that reports say of it.
pub struct Judgement {
    pub verdict: Verdict,
    /// Number of its workload in the analysis.
    pub workload: usize,
    /// The verdict in sentences, names in backticks; the first stands alone.
    pub sentences: Vec<String>,
    /// How robust it is, likewise.
    pub robustness: Vec<String>,
    /// The setting to copy: the best, or what comes nearest.
    pub snippet: Option<Value>,
    pub tested: Vec<Tested>,
    /// Neighbours of the best on the grid.
    pub neighbours: Vec<Neighbour>,
}

impl Judgement {
    /// The setting that is named: the best, or what comes nearest.
    pub fn named(&self) -> Option<&Standing> {
        let verdict = &self.verdict;
        verdict.best.or(verdict.nearest).map(|place| &verdict.settings[place])
    }
}

/// One setting for all workloads, with what reports say of it.
pub struct JointJudgement {
    pub joint: Joint,
    pub sentence: String,
    /// The setting to copy.
    pub snippet: Option<Value>,
}
