//! The recommended setting under circumstances a little different: more traffic, slower cold starts.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::answer::{Limit, Setting, tightest};
use super::space;
use crate::simulation::{Inputs, Workspace};
use crate::sweep::plan::Plan;
use crate::sweep::run::{Interrupted, Progress, Workspaces};

/// Seeds that are tried.
const MOST_SEEDS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    /// So many times the requests.
    Traffic(f64),
    /// Replicas take so many times as long to start.
    ColdStart(f64),
}

const CHANGES: [Change; 4] =
    [Change::Traffic(1.1), Change::Traffic(1.2), Change::ColdStart(1.5), Change::ColdStart(2.0)];

impl Change {
    fn name(self) -> (&'static str, f64) {
        match self {
            Self::Traffic(times) => ("traffic", times),
            Self::ColdStart(times) => ("cold_start", times),
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Traffic(times) => format!("with {:.0} % more traffic", 100.0 * (times - 1.0)),
            Self::ColdStart(times) => format!("with cold starts {times} times as long"),
        }
    }
}

/// Runs that the trials of a setting take.
pub fn count(plan: &Plan) -> usize {
    CHANGES.len() * plan.workloads() * plan.grid.seeds.len().min(MOST_SEEDS)
}

/// How the setting stands under each change, on every workload under the first seeds: the limit with the
/// least room, and whether all were kept. On the current rayon pool.
pub fn of(plan: &Plan, setting: &Setting, progress: &dyn Progress) -> Result<Vec<Value>, Interrupted> {
    let pairs: Vec<space::Pair> =
        space::pairs(&plan.grid).into_iter().filter(|pair| pair.seed < MOST_SEEDS).collect();
    let workspaces = Workspaces::<Workspace>::default();
    // What starts nothing does not mind how long that takes.
    let fixed = setting.policy == "static";
    let changes: Vec<Change> =
        CHANGES.into_iter().filter(|change| !fixed || matches!(change, Change::Traffic(_))).collect();
    let trial = |change: &Change| {
        // All limits on all workloads; one that could not run counts as one without a value.
        let mut limits: Vec<Option<Limit>> = Vec::new();
        for &pair in &pairs {
            if progress.is_interrupted() {
                return Err(Interrupted);
            }
            limits.extend(run(plan, setting, pair, *change, &workspaces));
            progress.run_ended(0);
        }
        let kept = limits.iter().all(|limit| limit.as_ref().is_some_and(|limit| limit.kept));
        let missing = limits.iter().any(Option::is_none);
        let limits: Vec<Limit> = limits.into_iter().flatten().collect();
        let tightest = tightest(&limits).filter(|_| !missing);
        let (name, amount) = change.name();
        let how = match tightest {
            Some(limit) if !kept => format!("breaks {} ({})", limit.constraint, limit.shown()),
            Some(limit) if limit.constraint.limit > 0.0 => {
                format!("keeps every limit; the least room is to {} ({})", limit.constraint, limit.shown())
            }
            _ if kept => "keeps every limit".into(),
            _ => "has no result".into(),
        };
        Ok(json!({
            "change": name, "amount": amount, "kept": kept,
            "margin": tightest.and_then(|limit| limit.margin),
            "tightest": tightest.map(|limit| json!({"workload": limit.workload, "metric": limit.constraint.metric.name,
                "limit": limit.constraint.limit, "value": limit.value})),
            "sentence": format!("{} it {how}", change.sentence()),
        }))
    };
    changes.par_iter().with_max_len(1).map(trial).collect()
}

/// One run against every limit on its workload; one None if it could not be run.
fn run(
    plan: &Plan,
    setting: &Setting,
    pair: space::Pair,
    change: Change,
    workspaces: &Workspaces<Workspace>,
) -> Vec<Option<Limit>> {
    let nothing = vec![None];
    let mut cell = plan.cell(space::cell(&plan.grid, setting.candidate, pair));
    let content = &plan.inputs.workloads[cell.workload_input].content;
    let scaled = match change {
        Change::Traffic(times) => content.scaled(times, cell.seed),
        Change::ColdStart(times) => {
            cell.cluster.change(|cluster| {
                cluster.scale_up_delay_s *= times;
                let bandwidth = &mut cluster.cold_start.load_bandwidth_gb_per_s;
                *bandwidth = bandwidth.map(|gb_per_s| gb_per_s / times);
            });
            None
        }
    };
    let workload = match (&scaled, change) {
        (Some(workload), _) => workload,
        // Too many requests to be held.
        (None, Change::Traffic(_)) => return nothing,
        (None, Change::ColdStart(_)) => content,
    };
    let constraints = plan.grid.objectives.constraints.on(&cell.workload_name());
    let times = plan.inputs.times(&cell);
    let Ok(inputs) = Inputs::new(workload, &cell.cluster, &cell.autoscaler, &times, cell.seed) else {
        return nothing;
    };
    let inputs = inputs.with_programs(&*plan.inputs.programs);
    let Some(metrics) = workspaces.run(|workspace| inputs.simulate(workspace).ok()).ok().flatten() else {
        return nothing;
    };
    constraints
        .iter()
        .map(|limit| Some(Limit::new(cell.workload_name(), *limit, limit.check_run(&metrics))))
        .collect()
}
