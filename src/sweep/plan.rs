//! The plan of a sweep: which runs a grid comes to, with everything they share loaded once.
//!
//! Cells are made from their index when they are needed; the plan holds the indices of those that differ, 16
//! bytes a run. Here it also shows whether the world is as the grid says: traces can be read, the model fits
//! the device, the tables know the workload's batches.

pub mod cell;
mod doubts;
pub mod hardware_files;
pub mod programs;
pub mod shard;
mod unique;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::cell::{Cell, id_text};
use self::hardware_files::hardware_files;
use self::programs::{Program, Programs};
use super::grid::source::{GridError, MAX_PROBLEMS, Problem};
use super::grid::{AutoscalerEntry, Coordinates, Grid, Section};
use super::tables::settings::workload_name;
use crate::autoscaler::AutoscalerSettings;
use crate::autoscaler::upstream::PolicyRecord;
use crate::hardware::{Deployment, ExecutionTime, HardwareError, catalog, memory};
use crate::simulation::metric::Needs;
use crate::simulation::{ClusterSettings, RunInputs};
use crate::workload::{self, TraceNotes, Workload, WorkloadSpec};

/// What a workload came to: the manifest has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSummary {
    pub name: String,
    pub seed: u64,
    pub requests: usize,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    pub duration_s: f64,
    /// What was assumed of the traces that were read for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<TraceNotes>,
    pub fingerprint: String,
}

/// A workload as runs share it.
#[derive(Debug, Clone)]
pub struct LoadedWorkload {
    pub content: Arc<Workload>,
    pub fingerprint: String,
    pub summary: WorkloadSummary,
}

/// Step times as runs share them.
#[derive(Debug, Clone)]
pub struct LoadedHardware {
    pub times: Arc<ExecutionTime>,
    /// See [`ExecutionTime::fingerprint`].
    pub fingerprint: String,
    /// See [`catalog::approximations`].
    pub approximations: Vec<String>,
}

/// Everything that runs read and none of them changes.
#[derive(Debug, Clone, Default)]
pub struct SharedInputs {
    pub workloads: Vec<LoadedWorkload>,
    /// Step times of each deployment.
    pub hardware: Vec<LoadedHardware>,
    /// Where policies that are programs of their own are run.
    pub programs: Arc<Programs>,
}

impl SharedInputs {
    /// The contents of the hardware tables of a cell.
    fn hardware_fingerprint(&self, inputs: &[usize]) -> Cow<'_, str> {
        match inputs {
            &[input] => Cow::Borrowed(&self.hardware[input].fingerprint),
            inputs => {
                let each: Vec<_> =
                    inputs.iter().map(|&input| self.hardware[input].fingerprint.as_str()).collect();
                Cow::Owned(each.join("+"))
            }
        }
    }

    /// The step times of a cell: one, or one for each pool.
    pub fn times(&self, cell: &Cell) -> Vec<&ExecutionTime> {
        cell.hardware_inputs.iter().map(|&input| &*self.hardware[input].times).collect()
    }
}

#[derive(Debug)]
pub struct Plan {
    pub grid: Grid,
    pub inputs: SharedInputs,
    /// The input of each (workload entry and combination, seed).
    workload_inputs: Vec<usize>,
    /// The inputs of each combination of the cluster: one, or one for each pool.
    hardware_inputs: Vec<Box<[usize]>>,
    /// Indices of the cells to run, ascending, and the ids of these.
    unique: Vec<u64>,
    ids: Vec<u64>,
    /// The programs among the policies, by their commands.
    programs: BTreeMap<Vec<String>, Program>,
    /// BLAKE3 of the ids of all runs in order: equal for equal sweeps only.
    pub runs_hash: String,
    /// Cells left out because no seed matters to them.
    pub same_under_every_seed: u64,
}

impl Plan {
    /// Loads workloads and hardware tables and finds the cells that differ.
    ///
    /// Errors: a trace is missing or broken, a model does not fit its device, tables do not cover a workload.
    pub fn new(grid: Grid) -> Result<Self, GridError> {
        let mut inputs = SharedInputs::default();
        let mut problems = Vec::new();
        let workload_inputs = load_workloads(&grid, &mut inputs, &mut problems);
        let hardware_inputs = load_hardware(&grid, &mut inputs, &mut problems);
        let programs = find_programs(&grid, &mut problems);
        if grid.starts_programs {
            inputs.programs = Arc::new(Programs::new(programs.clone()));
        }
        if problems.is_empty() {
            check_pairs(&grid, &inputs, &hardware_inputs, &mut problems);
            check_objectives(&grid, &inputs, &mut problems);
        }
        if !problems.is_empty() {
            return Err(grid.source.errors(problems));
        }
        let mut plan = Self {
            grid,
            inputs,
            workload_inputs,
            hardware_inputs,
            unique: Vec::new(),
            ids: Vec::new(),
            programs,
            runs_hash: String::new(),
            same_under_every_seed: 0,
        };
        plan.find_unique();
        Ok(plan)
    }

    /// Number of cells of the grid, equal ones counted as often as they occur.
    pub fn planned(&self) -> u64 {
        self.grid.count()
    }

    /// Indices of the cells to run, in the order of their rows.
    pub fn unique(&self) -> &[u64] {
        &self.unique
    }

    /// Cells that ask for a run another cell asks for already.
    pub fn duplicates(&self) -> u64 {
        self.planned() - self.unique.len() as u64 - self.same_under_every_seed
    }

    /// Cell `index`, below [`planned`](Self::planned).
    pub fn cell(&self, index: u64) -> Cell {
        let at = self.grid.coordinates(index);
        let workload = &self.grid.workloads[at.workload];
        let entry = self.autoscaler(at.autoscaler, at.autoscaler_combination);
        Cell {
            index,
            workload: workload.get(at.workload_combination),
            workload_varies: workload.varying(at.workload_combination),
            workload_input: self.workload_inputs[self.workload_slot(&at)],
            hardware_inputs: self.hardware_inputs[at.cluster_combination as usize].clone(),
            seed: self.grid.seeds[at.seed],
            cluster: entry.bounds.on(self.grid.cluster.get(at.cluster_combination).on_its_device()),
            family: entry.family().into(),
            autoscaler: entry.settings,
        }
    }

    /// Combination `index` of an autoscaler, with what its program's files hold.
    fn autoscaler(&self, entry: usize, index: u64) -> AutoscalerEntry {
        let mut entry = self.grid.autoscalers[entry].get(index);
        if let AutoscalerSettings::External(settings) = &mut entry.settings {
            settings.program_blake3 =
                self.programs.get(&settings.command).map(|program| program.blake3.clone());
        }
        entry
    }

    /// The id of the run at `place` of [`unique`](Self::unique).
    pub fn run_id(&self, place: usize) -> String {
        id_text(self.ids[place])
    }

    /// The cell's [id](Cell::id).
    pub fn id(&self, cell: &Cell) -> String {
        cell.id(
            &self.inputs.workloads[cell.workload_input].fingerprint,
            &self.inputs.hardware_fingerprint(&cell.hardware_inputs),
        )
    }

    fn workload_slot(&self, at: &Coordinates) -> usize {
        let before: u64 = self.grid.workloads[..at.workload].iter().map(Section::count).sum();
        (before + at.workload_combination) as usize * self.grid.seeds.len() + at.seed
    }

    /// Requests of cell `index`.
    pub fn requests(&self, index: u64) -> u64 {
        let slot = self.workload_slot(&self.grid.coordinates(index));
        self.inputs.workloads[self.workload_inputs[slot]].content.num_requests()
    }

    /// Requests of all runs together.
    pub fn total_requests(&self) -> u64 {
        self.unique.iter().map(|&index| self.requests(index)).sum()
    }

    /// Where step times, memory and prices come from, and what of a model's own configuration is not
    /// modelled, a line each.
    pub fn provenance(&self) -> Vec<String> {
        let lines = |hardware: &LoadedHardware| {
            [vec![hardware.times.provenance.clone()], hardware.approximations.clone()].concat()
        };
        let mut lines: Vec<String> = self.inputs.hardware.iter().flat_map(lines).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// What is probably not as it was meant, or not modelled, a sentence each: of traces, of models' own
    /// configurations, and of policies that are asked for what they cannot give.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for notes in self.inputs.workloads.iter().flat_map(|workload| &workload.summary.traces) {
            doubts.extend(notes.doubts.iter().map(|doubt| format!("{}: {doubt}", notes.file.display())));
        }
        doubts
            .extend(self.inputs.hardware.iter().flat_map(|hardware| hardware.approximations.iter().cloned()));
        doubts.extend(doubts::of_policies(self));
        doubts.extend(doubts::of_contexts(self));
        let mut told = BTreeSet::new();
        doubts.retain(|doubt| told.insert(doubt.clone()));
        doubts
    }

    /// What stands behind each family, in order of families.
    pub fn policies(&self) -> Vec<PolicyRecord> {
        let each = self
            .grid
            .autoscalers
            .iter()
            .flat_map(|section| (0..section.count()).map(|index| section.get(index)));
        let records: BTreeSet<PolicyRecord> =
            each.map(|entry| PolicyRecord::new(entry.family(), &entry.settings)).collect();
        records.into_iter().collect()
    }

    /// Workloads, whatever their seeds.
    pub fn workloads(&self) -> usize {
        self.grid.workloads.iter().map(Section::count).sum::<u64>() as usize
    }

    /// The plan as text, for people.
    pub fn describe(&self) -> impl fmt::Display {
        Description { plan: self }
    }
}

/// Loads each workload once for each seed, or once for all seeds. Returns the input of each (entry and
/// combination, seed).
fn load_workloads(grid: &Grid, inputs: &mut SharedInputs, problems: &mut Vec<Problem>) -> Vec<usize> {
    let combinations: Vec<(&Section<WorkloadSpec>, u64)> = grid
        .workloads
        .iter()
        .flat_map(|section| (0..section.count()).map(move |index| (section, index)))
        .collect();
    let loaded: Vec<Vec<Result<LoadedWorkload, Problem>>> = combinations
        .par_iter()
        .map(|(section, index)| {
            let spec = section.get(*index);
            let seeds = if workload::depends_on_seed(&spec) { &grid.seeds[..] } else { &grid.seeds[..1] };
            let load = |&seed: &u64| {
                let (content, traces) =
                    workload::load_with_notes(&spec, seed, &grid.base_dirs).map_err(|error| {
                        let setting = match &spec {
                            WorkloadSpec { trace: Some(_), .. } => "trace.path",
                            WorkloadSpec { sessions: Some(_), .. } => "sessions",
                            _ => "generate",
                        };
                        section.problem(&grid.source, *index, setting, error.to_string())
                    })?;
                if content.is_empty() {
                    return Err(section.problem(
                        &grid.source,
                        *index,
                        "",
                        "a workload without requests found, expected at least one",
                    ));
                }
                Ok(LoadedWorkload::new(
                    workload_name(&spec.name, &section.varying(*index)),
                    seed,
                    content,
                    traces,
                ))
            };
            seeds.iter().map(load).collect()
        })
        .collect();
    let mut of_slot = Vec::new();
    for of_seeds in loaded {
        let first = inputs.workloads.len();
        for loaded in of_seeds {
            match loaded {
                Ok(workload) => inputs.workloads.push(workload),
                Err(problem) => problems.push(problem),
            }
        }
        let last = inputs.workloads.len().saturating_sub(1);
        of_slot.extend((0..grid.seeds.len()).map(|seed| (first + seed).min(last)));
    }
    of_slot
}

impl LoadedWorkload {
    fn new(name: String, seed: u64, content: Workload, traces: Vec<TraceNotes>) -> Self {
        let fingerprint = content.fingerprint();
        let totals = content.totals();
        let summary = WorkloadSummary {
            name,
            seed,
            requests: totals.requests as usize,
            prefill_tokens: totals.prefill_tokens,
            decode_tokens: totals.decode_tokens,
            duration_s: content.end_s(),
            traces,
            fingerprint: fingerprint.clone(),
        };
        Self { content: Arc::new(content), fingerprint, summary }
    }
}

/// Loads the step times of each deployment once. Returns the inputs of each combination of the cluster.
fn load_hardware(grid: &Grid, inputs: &mut SharedInputs, problems: &mut Vec<Problem>) -> Vec<Box<[usize]>> {
    let files = hardware_files(&grid.base_dirs);
    let mut known = BTreeMap::new();
    let mut of_combination = Vec::new();
    for index in 0..grid.cluster.count() {
        let whole = grid.cluster.get(index).on_its_device();
        let of_part = |(part, cluster): (usize, &ClusterSettings)| {
            let ClusterSettings {
                execution_time,
                engine_overheads,
                model,
                node,
                tensor_parallel,
                pipeline_parallel,
                expert_parallel,
                ..
            } = cluster;
            let split = [tensor_parallel, pipeline_parallel, expert_parallel];
            let sorts = cluster.replica_scheduler.sorts_logits();
            let key = json!([execution_time, engine_overheads, sorts, model, node, split]).to_string();
            *known.entry(key).or_insert_with(|| {
                let path = whole.path_of_part(part);
                let problem = |setting: &str, message: String| {
                    grid.cluster.problem(&grid.source, index, &format!("{path}{setting}"), message)
                };
                let loaded = Deployment::resolve(model, node, *tensor_parallel, *pipeline_parallel, &files)
                    .map_err(|error| problem("model", error.to_string()))
                    .and_then(|deployment| {
                        let split = deployment.with_expert_parallel(*expert_parallel);
                        split.map_err(|error| problem("expert_parallel", error.to_string()))
                    })
                    .and_then(|deployment| {
                        // Before tables are asked for: what fits nowhere was measured nowhere.
                        let (weights, kv_cache) = cluster.execution_time.formats(&deployment.model);
                        memory::plan(&deployment, &cluster.memory_needs(weights, kv_cache))
                            .map_err(|error| problem("tensor_parallel", error.to_string()))?;
                        let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files)
                            .map_err(|error| problem("execution_time", error.to_string()))?
                            .with_overheads(&cluster.engine_overheads, sorts, &files)
                            .map_err(|error| problem("engine_overheads", error.to_string()))?;
                        let approximations = catalog::approximations(&times.deployment.model, weights);
                        Ok((times, approximations))
                    });
                match loaded {
                    Ok((times, approximations)) => {
                        inputs.hardware.push(LoadedHardware {
                            fingerprint: times.fingerprint(),
                            times: Arc::new(times),
                            approximations,
                        });
                    }
                    Err(problem) => problems.push(problem),
                }
                inputs.hardware.len().saturating_sub(1)
            })
        };
        of_combination.push(whole.parts().into_iter().enumerate().map(of_part).collect());
        if problems.len() > MAX_PROBLEMS {
            break;
        }
    }
    of_combination
}

/// The policies that are programs of their own.
fn find_programs(grid: &Grid, problems: &mut Vec<Problem>) -> BTreeMap<Vec<String>, Program> {
    let mut found = BTreeMap::new();
    // Mostly there are none, and combinations may be millions.
    if !grid.source.text.contains("external") {
        return found;
    }
    for section in &grid.autoscalers {
        for index in 0..section.count() {
            let AutoscalerSettings::External(settings) = section.get(index).settings else { continue };
            if found.contains_key(&settings.command) {
                continue;
            }
            match Program::find(&settings.command, &grid.base_dirs) {
                Ok(program) => {
                    found.insert(settings.command, program);
                }
                Err(message) => {
                    problems.push(section.problem(&grid.source, index, "external.command", message))
                }
            }
        }
    }
    found
}

/// Every workload meets every cluster, so each pair has to agree: a replica has room, its tables know the
/// workload's batches.
fn check_pairs(
    grid: &Grid,
    inputs: &SharedInputs,
    hardware_inputs: &[Box<[usize]>],
    problems: &mut Vec<Problem>,
) {
    let autoscaler = grid.autoscalers[0].get(0).settings;
    let mut checked = BTreeSet::new();
    for (index, hardware) in (0..).zip(hardware_inputs) {
        let whole = grid.cluster.get(index).on_its_device();
        if let Some((workload, message)) = inputs
            .workloads
            .iter()
            .find_map(|workload| Some((workload, whole.cannot_serve(&workload.content)?)))
        {
            let message = format!("{message} (workload `{}`)", workload.summary.name);
            problems.push(grid.cluster.problem(
                &grid.source,
                index,
                if whole.pools.is_empty() { "" } else { "pools" },
                message,
            ));
            return;
        }
        for ((part, cluster), &hardware) in whole.parts().into_iter().enumerate().zip(hardware) {
            let memory = json!([
                cluster.replica_scheduler,
                cluster.memory_planner,
                cluster.max_request_tokens,
                cluster.memory_margin_fraction
            ])
            .to_string();
            if !checked.insert((hardware, memory)) {
                continue;
            }
            for workload in &inputs.workloads {
                let times = &inputs.hardware[hardware].times;
                let (setting, message) =
                    match RunInputs::new(&workload.content, cluster, &autoscaler, times, 0) {
                        Ok(_) => continue,
                        Err(error @ HardwareError::DoesNotFit(_)) => ("tensor_parallel", error.to_string()),
                        Err(error) => {
                            ("execution_time", format!("{error} (workload `{}`)", workload.summary.name))
                        }
                    };
                let setting = format!("{}{setting}", whole.path_of_part(part));
                problems.push(grid.cluster.problem(&grid.source, index, &setting, message));
                if problems.len() > MAX_PROBLEMS {
                    return;
                }
            }
        }
    }
}

/// Whether every workload has what its runs are judged by.
fn check_objectives(grid: &Grid, inputs: &SharedInputs, problems: &mut Vec<Problem>) {
    for (field, metric) in grid.objectives.all_metrics() {
        // A request has one output token at least.
        let single = |summary: &&WorkloadSummary| summary.decode_tokens <= summary.requests as u64;
        let lacking = inputs.workloads.iter().map(|workload| &workload.summary).find(single);
        if metric.needs == Needs::SeveralOutputTokens
            && let Some(summary) = lacking
        {
            let message = format!(
                "`{}` needs {}; those of workload `{}` have one",
                metric.name, metric.needs, summary.name
            );
            problems.push(grid.objectives_problem(&field, message));
        }
    }
}

struct Description<'a> {
    plan: &'a Plan,
}

/// Values of an axis that are shown; of longer ones the ends are.
const SHOWN_VALUES: usize = 12;

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (plan, grid) = (self.plan, &self.plan.grid);
        writeln!(f, "Plan of `{}` ({})", grid.name, grid.source.file)?;
        if let Some(question) = &grid.question {
            writeln!(f, "Question: {question}")?;
        }
        let axes = grid.axes();
        writeln!(f, "\nAxes{}", if axes.is_empty() { ": none" } else { "" })?;
        let width = axes.iter().map(|axis| axis.path.chars().count()).max().unwrap_or_default();
        for axis in &axes {
            let values: Vec<_> = axis.values.iter().map(ToString::to_string).collect();
            let shown = match values.len() > SHOWN_VALUES {
                true => format!(
                    "{}, .., {} ({} values)",
                    values[..SHOWN_VALUES / 2].join(", "),
                    values[values.len() - 1],
                    values.len()
                ),
                false => values.join(", "),
            };
            writeln!(f, "  {:width$}  {shown}", axis.path)?;
        }
        let constraints = &grid.objectives.constraints;
        if !constraints.is_empty() {
            writeln!(f, "\nConstraints")?;
            let names = plan
                .inputs
                .workloads
                .iter()
                .map(|workload| workload.summary.name.as_str())
                .collect::<BTreeSet<_>>();
            for name in names {
                let limits: Vec<_> = constraints.on(name).iter().map(ToString::to_string).collect();
                let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
                writeln!(f, "  {name}: {limits}")?;
            }
        }
        writeln!(f, "\nFamilies")?;
        let mut families: BTreeMap<String, u64> = BTreeMap::new();
        for section in &grid.autoscalers {
            for index in 0..section.count() {
                *families.entry(section.get(index).family().into()).or_default() += 1;
            }
        }
        for (family, settings) in &families {
            writeln!(f, "  {family}: {}", counted(*settings, "setting"))?;
        }
        writeln!(f, "\nPolicies")?;
        for policy in plan.policies() {
            writeln!(f, "  {policy}")?;
        }
        writeln!(f, "\nWorkloads")?;
        for workload in &plan.inputs.workloads {
            let WorkloadSummary { name, seed, requests, prefill_tokens, decode_tokens, duration_s, .. } =
                &workload.summary;
            let (requests, prefill, decode) =
                (grouped(*requests as u64), grouped(*prefill_tokens), grouped(*decode_tokens));
            writeln!(
                f,
                "  {name}, seed {seed}: {requests} requests, {prefill} prefill + {decode} decode tokens in {duration_s:.1} s"
            )?;
        }
        writeln!(
            f,
            "\nRuns: {} to run of {} planned",
            grouped(plan.unique.len() as u64),
            grouped(plan.planned())
        )?;
        if plan.duplicates() > 0 {
            writeln!(f, "  {} equal to another and left out", grouped(plan.duplicates()))?;
        }
        if plan.same_under_every_seed > 0 {
            writeln!(
                f,
                "  {} left out because their workload is the same under every seed",
                grouped(plan.same_under_every_seed)
            )?;
        }
        write!(f, "Requests: {} in all", grouped(plan.total_requests()))
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests;
