//! The recommended setting under circumstances a little different: more traffic, slower cold starts.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::answer::Setting;
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

const CHANGES: [Change; 4] = [Change::Traffic(1.1), Change::Traffic(1.2), Change::ColdStart(1.5), Change::ColdStart(2.0)];

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

/// How the setting stands under each change, on every workload under the first seeds: the limit with the least room, and whether all were
/// kept. On the current rayon pool.
pub fn of(plan: &Plan, setting: &Setting, progress: &dyn Progress) -> Result<Vec<Value>, Interrupted> {
    let pairs: Vec<space::Pair> = space::pairs(&plan.grid).into_iter().filter(|pair| pair.seed < MOST_SEEDS).collect();
    let workspaces = Workspaces::<Workspace>::default();
    // What starts nothing does not mind how long that takes.
    let fixed = setting.policy == "static";
    let changes: Vec<Change> = CHANGES.into_iter().filter(|change| !fixed || matches!(change, Change::Traffic(_))).collect();
    let trial = |change: &Change| {
        let mut worst: Option<(f64, Value)> = None;
        for &pair in &pairs {
            if progress.is_interrupted() {
                return Err(Interrupted);
            }
            let (margin, limit) = run(plan, setting, pair, *change, &workspaces);
            progress.run_ended(0);
            if worst.as_ref().is_none_or(|(least, _)| margin < *least) {
                worst = Some((margin, limit));
            }
        }
        let (margin, limit) = worst.unwrap_or((f64::NEG_INFINITY, Value::Null));
        let (name, amount) = change.name();
        let kept = margin >= 0.0;
        let by = if margin.is_finite() { format!(", by {:.0} %", 100.0 * margin.abs()) } else { String::new() };
        let how = if kept {
            format!("keeps every limit{by} at least")
        } else {
            format!("breaks {}{by}", limit["metric"].as_str().unwrap_or("a limit"))
        };
        let sentence = format!("{} it {how}", change.sentence());
        Ok(json!({"change": name, "amount": amount, "kept": kept, "margin": Some(margin).filter(|margin| margin.is_finite()),
            "tightest": limit, "sentence": sentence}))
    };
    changes.par_iter().with_max_len(1).map(trial).collect()
}

/// The least room to any limit in one run, and that limit.
fn run(plan: &Plan, setting: &Setting, pair: space::Pair, change: Change, workspaces: &Workspaces<Workspace>) -> (f64, Value) {
    let nothing = (f64::NEG_INFINITY, Value::Null);
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
    let Ok(inputs) = Inputs::new(workload, &cell.cluster, &cell.autoscaler, &times, cell.seed) else { return nothing };
    let inputs = inputs.with_programs(&*plan.inputs.programs);
    let Some(metrics) = workspaces.run(|workspace| inputs.simulate(workspace).ok()).ok().flatten() else { return nothing };
    let room = |limit: &crate::sweep::objectives::constraints::Constraint| {
        let check = limit.check_run(&metrics);
        let shown = json!({"workload": cell.workload_name(), "metric": limit.metric.name, "limit": limit.limit, "value": check.value});
        (check.margin.unwrap_or(f64::NEG_INFINITY), shown)
    };
    constraints.iter().map(room).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or(nothing)
}
