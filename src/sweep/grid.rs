//! The grid file: what a sweep is to run.
//!
//! Read in steps, each with its own errors: text to tree ([`source`]), axes found ([`axes`]), every
//! combination of a section parsed strictly, then checked for meaning. All problems of a file are told at
//! once, each with line, column and path. Whether traces and hardware tables hold what the grid asks for is
//! the plan's to find out.
//!
//! Cells are ordered by workload, its axes, seed, the cluster's axes, autoscaler, its axes; the last varies
//! fastest.

pub mod axes;
mod earlier;
mod entry;
mod judged;
mod manifests;
pub mod schema;
pub mod source;
mod synonyms;

pub use entry::{AutoscalerEntry, BESIDE_AUTOSCALER, ReplicaBounds};

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::axes::{AxisSummary, Segment, Template};
use self::source::{GridError, MAX_PROBLEMS, Node, NodeValue, Problem, Source, in_words};
use super::objectives::Objectives;
use crate::autoscaler::AutoscalerSettings;
use crate::settings::{Faults, closest, quoted};
use crate::simulation::ClusterSettings;
use crate::workload::WorkloadSpec;

/// More cells than this are refused: a slip in a range asks for days of computing more easily than a user
/// does.
pub const MAX_CELLS: u64 = 1_000_000;

/// The largest seed: stored tables have signed integers.
pub const MAX_SEED: u64 = i64::MAX as u64;

/// The grid file as its schema shows it, axes aside.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Scalefront grid")]
pub struct GridFile {
    /// Where editors find this schema; without effect.
    #[schemars(rename = "$schema")]
    pub schema: Option<String>,
    /// Names the results' directory; the file's name without `.json` if absent.
    pub name: Option<String>,
    /// What the sweep is to find out; shown in reports.
    pub question: Option<String>,
    /// The traffic. Each entry has a `name`, and `generate` or `trace`.
    pub workloads: Vec<WorkloadSpec>,
    /// Each seed gives every workload that is drawn at random anew, the same for all policies. `[1]` if
    /// absent.
    pub seeds: Option<Vec<u64>>,
    /// Hardware, model, schedulers, delays, limits and bills; the lab's if absent.
    pub cluster: Option<ClusterSettings>,
    /// The policies to compare, each under its settings. Beside these may stand a `label`, and
    /// `min_replicas`, `max_replicas` and `initial_replicas` of its own, which count instead of the
    /// cluster's.
    pub autoscalers: Vec<AutoscalerSettings>,
    /// What fronts and scores are made of: P90 latency against total cost if absent.
    pub objectives: Option<Objectives>,
}

/// The keys of [`GridFile`].
const KEYS: &[&str] =
    &["name", "question", "workloads", "seeds", "cluster", "autoscalers", "objectives", "$schema"];

/// A checked grid. Every combination of every section parses and makes sense.
#[derive(Debug, Clone)]
pub struct Grid {
    pub name: String,
    pub question: Option<String>,
    pub workloads: Vec<Section<WorkloadSpec>>,
    /// Before any offset.
    pub seeds: Vec<u64>,
    pub cluster: Section<ClusterSettings>,
    pub autoscalers: Vec<Section<AutoscalerEntry>>,
    pub objectives: Objectives,
    /// Where they stand in the file.
    objectives_section: Section<Objectives>,
    /// The file as given, axes and all.
    pub as_given: Value,
    /// Where relative paths are looked for: beside the grid file, then in the current directory.
    pub base_dirs: Vec<PathBuf>,
    pub source: Source,
    /// Whether programs that it names are started: not if the grid came with results.
    pub starts_programs: bool,
}

/// A part of the grid whose settings are a `T` in every cell.
#[derive(Debug, Clone)]
pub struct Section<T> {
    template: Template,
    settings: PhantomData<T>,
}

/// Settings that can be parsed and checked.
pub trait Settings: Sized {
    fn parse(value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>>;
    fn check(&self, faults: &mut Faults);
}

fn strict<T: DeserializeOwned>(value: Value) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize(value)
}

impl Settings for WorkloadSpec {
    fn parse(value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        strict(value)
    }

    fn check(&self, faults: &mut Faults) {
        self.check(faults);
    }
}

impl Settings for ClusterSettings {
    fn parse(value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        strict::<Self>(value)?.with_pools()
    }

    fn check(&self, faults: &mut Faults) {
        self.check(faults);
    }
}

impl Settings for Objectives {
    fn parse(value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        strict(value)
    }

    fn check(&self, faults: &mut Faults) {
        self.check(faults);
    }
}

/// Once something is wrong, so many combinations are looked at for more: whoever mends it will be told the
/// rest.
const COMBINATIONS_WITHOUT_NEWS: u64 = 5_000;

impl<T: Settings> Section<T> {
    fn new(template: Template) -> Self {
        Self { template, settings: PhantomData }
    }

    /// Number of combinations of its axes.
    pub fn count(&self) -> u64 {
        self.template.count()
    }

    pub fn axes(&self) -> Vec<AxisSummary> {
        self.template.axes()
    }

    /// The axes' values in combination `index`: path below the section, and value.
    pub fn varying(&self, index: u64) -> Vec<(String, Value)> {
        self.template.varying(index)
    }

    /// Combination `index`, below [`count`](Self::count), of a section that has been checked.
    pub fn get(&self, index: u64) -> T {
        T::parse(self.template.nth(index)).expect("every combination has been parsed when the grid was read")
    }

    /// A problem with setting `path` (such as `trace.path`) of combination `index`.
    pub fn problem(&self, source: &Source, index: u64, path: &str, message: impl Into<String>) -> Problem {
        let (at, path) = self.template.locate(index, &Segment::parse(path), false);
        source.problem(at, &path, message)
    }

    /// Parses and checks every combination; once something is wrong, only as long as there is news.
    fn check(&self, source: &Source, problems: &mut Vec<Problem>) {
        let mut found = BTreeSet::new();
        let (mut known, mut nothing_new) = (0, 0);
        for index in 0..self.count() {
            nothing_new = if found.len() > known { 0 } else { nothing_new + 1 };
            known = found.len();
            if known > 0 && nothing_new > COMBINATIONS_WITHOUT_NEWS {
                break;
            }
            match T::parse(self.template.nth(index)) {
                Ok(settings) => {
                    let mut faults = Faults::default();
                    settings.check(&mut faults);
                    found.extend(
                        faults
                            .found
                            .into_iter()
                            .map(|fault| self.problem(source, index, &fault.path, fault.message)),
                    );
                }
                Err(error) => {
                    let message = error.inner().to_string();
                    let segments: Vec<_> = error.path().iter().filter_map(segment).collect();
                    // An unknown key is found at the key, anything else at the value.
                    let is_key = segments.last().is_some_and(
                        |last| matches!(last, Segment::Field(key) if message.strip_prefix("unknown ").is_some_and(|m| m.contains(&format!("`{key}`,")))),
                    );
                    let (at, path) = self.template.locate(index, &segments, is_key);
                    found.insert(source.problem(at, &path, in_words(&message)));
                }
            }
            if found.len() > MAX_PROBLEMS {
                break;
            }
        }
        problems.extend(found);
    }
}

fn segment(segment: &serde_path_to_error::Segment) -> Option<Segment> {
    match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Segment::Field(key.clone())),
        serde_path_to_error::Segment::Enum { variant } => Some(Segment::Field(variant.clone())),
        serde_path_to_error::Segment::Unknown => None,
    }
}

/// The indices of one cell: entry and combination of each section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinates {
    pub workload: usize,
    pub workload_combination: u64,
    /// Index into [`Grid::seeds`].
    pub seed: usize,
    pub cluster_combination: u64,
    pub autoscaler: usize,
    pub autoscaler_combination: u64,
}

impl Grid {
    /// Reads a grid file. A path that does not exist as given is looked for under `sweeps/`.
    pub fn read(path: &Path) -> Result<Self, GridError> {
        let under_sweeps = Path::new("sweeps").join(path);
        let path = if !path.exists() && under_sweeps.exists() { &under_sweeps } else { path };
        if !path.exists() {
            return Err(GridError::of_file(path, format!("no such file, nor {}", under_sweeps.display())));
        }
        let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let grid = Self::parse(Source::read(path)?, path, vec![beside, PathBuf::new()])?;
        Ok(Self { starts_programs: true, ..grid })
    }

    /// A grid as results carry it, with the path its file had. What it names is looked for beside where that
    /// was, and here.
    pub fn stored(file: &str, grid: &Value) -> Result<Self, GridError> {
        let path = Path::new(file);
        let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(Source { file: file.into(), text: grid.to_string() }, path, vec![beside, PathBuf::new()])
    }

    /// Parses and checks the text of a grid file that stands (or would stand) at `path`.
    pub fn parse(source: Source, path: &Path, base_dirs: Vec<PathBuf>) -> Result<Self, GridError> {
        let mut root = source.parse()?;
        let as_given = root.to_value();
        let mut problems = Vec::new();
        manifests::read_into(&mut root, &source, &base_dirs, &mut problems);
        if !problems.is_empty() {
            return Err(source.errors(problems));
        }
        let NodeValue::Object(members) = &root.value else {
            return Err(source.error(
                root.at,
                "",
                "a grid file is an object, {\"workloads\": [..], \"autoscalers\": [..], ..}",
            ));
        };
        for member in members.iter().filter(|member| !KEYS.contains(&member.key.as_str())) {
            let mut message = format!("unknown field `{}`, expected one of {}", member.key, quoted(KEYS));
            if let Some(name) = closest(&member.key, KEYS.iter().copied()) {
                message += &format!("; did you mean `{name}`?");
            }
            problems.push(source.problem(member.key_at, &member.key, message));
        }

        let mut reader = Reader { source: &source, members, root: &root, problems };
        let name = reader.name(path);
        let question = reader.text("question");
        // For editors; whatever it says is as good.
        reader.text("$schema");
        let workloads = reader.sections::<WorkloadSpec>("workloads");
        let seeds = reader.seeds();
        let cluster = reader.section::<ClusterSettings>("cluster");
        let autoscalers = reader.sections::<AutoscalerEntry>("autoscalers");
        let (objectives, objectives_section) = reader.objectives();
        let problems = reader.problems;
        if !problems.is_empty() {
            return Err(source.errors(problems));
        }
        let root_at = root.at;
        let grid = Self {
            name,
            question,
            workloads,
            seeds,
            cluster,
            autoscalers,
            objectives,
            objectives_section,
            as_given,
            base_dirs,
            source,
            starts_programs: false,
        };
        grid.check_size(root_at)?;
        grid.check_sections()?;
        grid.check_objectives()?;
        Ok(grid)
    }

    /// Number of cells, equal ones counted as often as they occur.
    pub fn count(&self) -> u64 {
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0u64, u64::saturating_add);
        sum(&mut self.workloads.iter().map(Section::count))
            .saturating_mul(self.seeds.len() as u64)
            .saturating_mul(self.cluster.count())
            .saturating_mul(sum(&mut self.autoscalers.iter().map(Section::count)))
    }

    /// Where cell `index`, below [`count`](Self::count), stands in each section.
    pub fn coordinates(&self, index: u64) -> Coordinates {
        let per_cluster: u64 = self.autoscalers.iter().map(Section::count).sum();
        let per_seed = per_cluster * self.cluster.count();
        let per_workload = per_seed * self.seeds.len() as u64;
        let (workload, workload_combination) = entry(&self.workloads, index / per_workload);
        let (autoscaler, autoscaler_combination) = entry(&self.autoscalers, index % per_cluster);
        Coordinates {
            workload,
            workload_combination,
            seed: (index % per_workload / per_seed) as usize,
            cluster_combination: index % per_seed / per_cluster,
            autoscaler,
            autoscaler_combination,
        }
    }

    /// The cell at these coordinates.
    pub fn index(&self, at: &Coordinates) -> u64 {
        let before = |counts: &mut dyn Iterator<Item = u64>| counts.sum::<u64>();
        let workload =
            before(&mut self.workloads[..at.workload].iter().map(Section::count)) + at.workload_combination;
        let autoscaler = before(&mut self.autoscalers[..at.autoscaler].iter().map(Section::count))
            + at.autoscaler_combination;
        let per_cluster: u64 = self.autoscalers.iter().map(Section::count).sum();
        ((workload * self.seeds.len() as u64 + at.seed as u64) * self.cluster.count()
            + at.cluster_combination)
            * per_cluster
            + autoscaler
    }

    /// Every axis, in the order in which cells vary.
    pub fn axes(&self) -> Vec<AxisSummary> {
        let workloads = self.workloads.iter().flat_map(Section::axes);
        let autoscalers = self.autoscalers.iter().flat_map(Section::axes);
        workloads.chain(self.cluster.axes()).chain(autoscalers).collect()
    }

    /// What makes more than one run of this grid, in words.
    pub fn multiples(&self) -> Vec<String> {
        let lists = [
            ("workloads", self.workloads.len()),
            ("seeds", self.seeds.len()),
            ("autoscalers", self.autoscalers.len()),
        ];
        let lists = lists.into_iter().filter(|(_, len)| *len > 1).map(|(key, _)| key.to_string());
        lists.chain(self.axes().into_iter().map(|axis| axis.path)).map(|path| format!("`{path}`")).collect()
    }

    /// Adds `offset` to every seed.
    pub fn offset_seeds(&mut self, offset: u64) -> Result<(), String> {
        for seed in &mut self.seeds {
            let moved = seed.checked_add(offset).filter(|seed| *seed <= MAX_SEED);
            *seed = moved
                .ok_or_else(|| format!("seed {seed} plus the offset {offset} is more than {MAX_SEED}"))?;
        }
        if offset > 0 {
            self.as_given["seeds"] = serde_json::json!(self.seeds);
        }
        Ok(())
    }

    fn check_size(&self, at: usize) -> Result<(), GridError> {
        let count = self.count();
        if count <= MAX_CELLS {
            return Ok(());
        }
        let mut axes = self.axes_by_size();
        axes.truncate(3);
        let largest: Vec<_> = axes.iter().map(|(path, size)| format!("`{path}` ({size} values)")).collect();
        Err(self.source.error(
            at,
            "",
            format!(
                "{count} runs found, expected at most {MAX_CELLS}; the largest axes are {}: give them fewer values",
                largest.join(", ")
            ),
        ))
    }

    fn axes_by_size(&self) -> Vec<(String, u64)> {
        let workloads = self.workloads.iter().map(|section| &section.template);
        let autoscalers = self.autoscalers.iter().map(|section| &section.template);
        let mut sizes: Vec<_> = workloads
            .chain([&self.cluster.template])
            .chain(autoscalers)
            .flat_map(Template::axis_sizes)
            .collect();
        sizes.push(("seeds".into(), self.seeds.len() as u64));
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes
    }

    fn check_sections(&self) -> Result<(), GridError> {
        let mut problems = Vec::new();
        for workload in &self.workloads {
            workload.check(&self.source, &mut problems);
        }
        self.cluster.check(&self.source, &mut problems);
        for autoscaler in &self.autoscalers {
            autoscaler.check(&self.source, &mut problems);
        }
        if problems.is_empty() {
            self.check_bounds(&mut problems);
            self.check_pools(&mut problems);
            self.check_budgets(&mut problems);
            self.check_labels(&mut problems);
            // Rows are told apart by the workload's name, so a name stands for one entry.
            let mut names = BTreeSet::new();
            for section in &self.workloads {
                let names_here: BTreeSet<_> =
                    (0..section.count()).map(|index| section.get(index).name).collect();
                for name in names_here {
                    if !names.insert(name.clone()) {
                        problems.push(section.problem(
                            &self.source,
                            0,
                            "name",
                            format!("`{name}` found twice, expected a name of its own for each workload"),
                        ));
                    }
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(self.source.errors(problems)) }
    }
}

/// The entry that holds combination `index` of all entries laid end to end, and the number within.
fn entry<T: Settings>(sections: &[Section<T>], mut index: u64) -> (usize, u64) {
    for (i, section) in sections.iter().enumerate() {
        if index < section.count() {
            return (i, index);
        }
        index -= section.count();
    }
    unreachable!("a cell beyond the count of the grid")
}

/// Takes a grid file apart, collecting problems.
struct Reader<'a> {
    source: &'a Source,
    members: &'a [source::Member],
    root: &'a Node,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// What stands under a key; `null` is as good as nothing.
    fn node(&self, key: &str) -> Option<&'a Node> {
        let node = self.members.iter().find(|member| member.key == key).map(|member| &member.node)?;
        (node.value != NodeValue::Scalar(Value::Null)).then_some(node)
    }

    fn problem(&mut self, at: usize, path: &str, message: impl Into<String>) {
        self.problems.push(self.source.problem(at, path, message));
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            NodeValue::Scalar(Value::String(text)) => Some(text.clone()),
            _ => {
                let (at, found) = (node.at, node.to_value());
                self.problem(at, key, format!("{found} found, expected a text"));
                None
            }
        }
    }

    fn name(&mut self, path: &Path) -> String {
        let (at, found) = match self.node("name") {
            Some(node) => {
                let at = node.at;
                match self.text("name") {
                    Some(name) => (at, name),
                    None => return String::new(),
                }
            }
            None => (self.root.at, path.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
        };
        if !is_safe_name(&found) {
            self.problem(
                at,
                "name",
                format!("`{found}` found, expected a name fit for a directory: letters, digits, `-`, `_` and `.`, the first a letter or digit, at most 100"),
            );
        }
        found
    }

    fn template(&mut self, key: &str) -> Option<Template> {
        let node = self.node(key)?;
        let moved = (key == "autoscalers").then(|| earlier::autoscalers(node.clone()));
        Some(Template::new(self.source, moved.as_ref().unwrap_or(node), key, key, &mut self.problems))
    }

    fn section<T: Settings>(&mut self, key: &str) -> Section<T> {
        Section::new(self.template(key).unwrap_or_else(|| Template::absent(key)))
    }

    /// One section for each entry of a list by nature.
    fn sections<T: Settings>(&mut self, key: &str) -> Vec<Section<T>> {
        let Some(template) = self.template(key) else {
            self.problem(self.root.at, key, format!("no `{key}` found, expected a list of at least one"));
            return Vec::new();
        };
        match template.elements() {
            Some([]) => self.problem(template.at(), key, "an empty list found, expected at least one entry"),
            Some(elements) => return elements.iter().cloned().map(Section::new).collect(),
            None => self.problem(template.at(), key, "a list expected, [..]"),
        }
        Vec::new()
    }

    fn seeds(&mut self) -> Vec<u64> {
        let Some(template) = self.template("seeds") else { return vec![1] };
        let Some(elements) = template.elements() else {
            self.problem(template.at(), "seeds", "a list of seeds expected, such as [1, 2, 3]");
            return Vec::new();
        };
        if elements.is_empty() {
            self.problem(template.at(), "seeds", "an empty list found, expected at least one seed");
        }
        let mut seeds = Vec::new();
        // A range within the list stands for its values.
        for (element, found) in
            elements.iter().flat_map(|element| element.listed().map(move |found| (element, found)))
        {
            match found.as_u64().filter(|seed| *seed <= MAX_SEED) {
                Some(seed) => seeds.push(seed),
                None => self.problem(
                    element.at(),
                    element.path(),
                    format!("{found} found, expected a whole number from 0 to {MAX_SEED}"),
                ),
            }
        }
        seeds
    }

    fn objectives(&mut self) -> (Objectives, Section<Objectives>) {
        let section = self.section::<Objectives>("objectives");
        if let Some(axis) = section.template.first_axis() {
            self.problem(
                axis.at(),
                axis.path(),
                "several values found, expected one: all runs of a sweep are judged alike",
            );
            return (Objectives::default(), section);
        }
        let before = self.problems.len();
        section.check(self.source, &mut self.problems);
        (if self.problems.len() == before { section.get(0) } else { Objectives::default() }, section)
    }
}

/// Whether a grid's name can name a directory on any system, inside its parent.
fn is_safe_name(name: &str) -> bool {
    name.chars().count() <= 100
        && name.starts_with(char::is_alphanumeric)
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
