//! The leaderboard: every policy on the same pinned cases, scored alike.
//!
//! A case is a grid file of `sweeps/leaderboard/`: one workload, a cluster with its bill, seeds, a reference
//! point and limits. The policies in it are those that the search for the edge starts from. What is scored is
//! put in their place. Policies are entries like a grid's; an axis among their settings is the knob that is
//! swept.
//!
//! [`score`] runs and judges, [`drawn`] makes other traffic of the same kinds, [`page`] shows the rows.

mod drawn;
mod page;
mod score;
mod table;

pub use page::page;
pub use score::{
    CaseScore, Chosen, PolicyScore, Yardstick, informed_edge, informed_search, score, yardstick,
};
pub use table::columns;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::RESULTS_VERSION;
use crate::oracle::OracleSettings;
use crate::settings::closest;
use crate::sweep::answers::{informed, oracle};
use crate::sweep::grid::Grid;
use crate::sweep::grid::source::Source;
use crate::sweep::plan::Plan;
use crate::sweep::run::{Interrupted, Progress};
use crate::workload::depends_on_seed;

/// The policies that are scored where none are named.
pub const POLICIES: &str = "policies.json";

/// Edges, costs of fixed fleets and rows as they were last pinned.
pub const PINNED: &str = "pinned.json";

/// Columns of results that a case must judge by: what is compared over cases has to be the same in each.
const COST: &str = "total_cost_usd";

/// The cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Board {
    dir: PathBuf,
    pub cases: Vec<Case>,
    /// The seed that traffic was drawn by, if it is not the pinned one.
    pub drawn_by: Option<u64>,
}

/// One grid file.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub name: String,
    pub question: String,
    file: PathBuf,
    grid: Value,
}

/// Policies to score: a file of them, with the directory in which what they name is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    file: String,
    /// The members of a grid file, `autoscalers` among them, as text after the opening brace.
    members: String,
    base_dir: PathBuf,
}

/// What has been scored on a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub results_version: u32,
    /// BLAKE3 of the cases.
    pub board: String,
    pub drawn_by: Option<u64>,
    /// How the edge was searched for.
    pub search: OracleSettings,
    pub yardsticks: Vec<Yardstick>,
    pub rows: Vec<PolicyScore>,
}

impl Board {
    /// Reads the cases of a directory: every grid file in it but [`POLICIES`] and [`PINNED`], in order of
    /// names.
    ///
    /// Errors: the directory has no cases, or one is no grid with a reference point, limits and a fixed
    /// fleet.
    pub fn read(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let listed =
            fs::read_dir(dir).with_context(|| format!("{shown}: cannot read the directory of cases"))?;
        let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default();
            file.extension().is_some_and(|extension| extension == "json")
                && name != POLICIES
                && name != PINNED
        });
        files.sort();
        ensure!(!files.is_empty(), "{shown}: no grid files found, expected one for each case");
        let cases = files.iter().map(|file| Case::read(file)).collect::<Result<_>>()?;
        Ok(Self { dir: dir.into(), cases, drawn_by: None })
    }

    /// The same kinds of traffic with rates, lengths of phases and arrivals drawn by `seed`.
    pub fn drawn(mut self, seed: u64) -> Result<Self> {
        for case in &mut self.cases {
            drawn::draw(&mut case.grid, &case.name, seed);
            case.check().with_context(|| format!("--seed {seed}"))?;
        }
        self.drawn_by = Some(seed);
        Ok(self)
    }

    /// BLAKE3 of all that scores rest on but the policies and the program.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for case in &self.cases {
            hasher.update(case.grid.to_string().as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Empty scores of this board.
    pub fn scores(&self, search: &OracleSettings) -> Scores {
        Scores {
            results_version: RESULTS_VERSION,
            board: self.hash(),
            drawn_by: self.drawn_by,
            search: search.clone(),
            yardsticks: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// What is stored at `path`, if it is of this board and this program; nothing if there is no such file.
    pub fn stored(&self, path: &Path, search: &OracleSettings) -> Result<Option<Scores>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
        let Ok(scores) = serde_json::from_str::<Scores>(&text) else { return Ok(None) };
        Ok(Some(scores).filter(|scores| {
            Scores { yardsticks: Vec::new(), rows: Vec::new(), ..scores.clone() } == self.scores(search)
        }))
    }

    /// What is pinned, of whatever search it is.
    ///
    /// Errors: nothing is pinned, or it is of other cases or another version.
    pub fn read_pinned(&self) -> Result<Scores> {
        let (path, again) = (self.pinned(), "`scalefront leaderboard --pin` makes it");
        let text =
            fs::read_to_string(&path).with_context(|| format!("{}: cannot read; {again}", path.display()))?;
        let scores: Scores = serde_json::from_str(&text)
            .with_context(|| format!("{}: not scores of this version; {again}", path.display()))?;
        ensure!(
            (scores.results_version, &scores.board) == (RESULTS_VERSION, &self.hash()),
            "{}: holds scores of other cases or of results version {}, this is version {RESULTS_VERSION}; {again}",
            path.display(),
            scores.results_version
        );
        Ok(scores)
    }

    pub fn pinned(&self) -> PathBuf {
        self.dir.join(PINNED)
    }

    /// The policies called so in the directory's list, or those in a file.
    ///
    /// Errors: there is neither, or the file has more than policies.
    pub fn policies(&self, named: &str) -> Result<Policies> {
        let list = self.dir.join(POLICIES);
        let listed = read_object(&list)?;
        let entries: &[Value] =
            listed.get("autoscalers").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let chosen: Vec<&Value> = entries.iter().filter(|entry| family(entry) == Some(named)).collect();
        if !chosen.is_empty() {
            let members = json!({ "autoscalers": chosen }).to_string()[1..].to_owned();
            return Ok(Policies { file: list.display().to_string(), members, base_dir: self.dir.clone() });
        }
        let path = Path::new(named);
        if !path.exists() {
            let hint = closest(named, entries.iter().filter_map(family))
                .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            bail!("`{named}`: neither a policy of {} nor a file{hint}", list.display());
        }
        Policies::read(path)
    }

    /// All policies of the directory's list.
    pub fn all_policies(&self) -> Result<Policies> {
        Policies::read(&self.dir.join(POLICIES))
    }
}

/// How an entry of a grid's policies is called in tables.
fn family(entry: &Value) -> Option<&str> {
    match entry {
        Value::String(name) => Some(name),
        Value::Object(members) => members
            .get("label")
            .and_then(Value::as_str)
            .or_else(|| members.keys().find(|key| *key != "label").map(String::as_str)),
        _ => None,
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    match Source::read(path)?.parse()?.to_value() {
        Value::Object(members) => Ok(members),
        _ => bail!("{}: expected an object, {{\"autoscalers\": [..]}}", path.display()),
    }
}

impl Policies {
    /// A file `{"autoscalers": [..]}`.
    ///
    /// Errors: it is no such object, or has workloads or a cluster of its own.
    pub fn read(path: &Path) -> Result<Self> {
        let members = read_object(path)?;
        if let Some(foreign) =
            members.keys().find(|key| !["autoscalers", "$schema", "question", "name"].contains(&key.as_str()))
        {
            bail!(
                "{}: `{foreign}` found, expected `autoscalers` alone; the leaderboard has workloads, clusters and seeds of its own",
                path.display()
            );
        }
        ensure!(
            members.contains_key("autoscalers"),
            "{}: no `autoscalers` found, expected a list as in a grid file",
            path.display()
        );
        let source = Source::read(path)?;
        let (_, after) = source.text.split_once('{').context("an object has a brace")?;
        Ok(Self {
            file: source.file,
            members: after.to_owned(),
            base_dir: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        })
    }

    /// Families in the order of the file.
    pub fn families(&self) -> Vec<String> {
        let parsed: Value = serde_json::from_str(&format!("{{{}", self.members)).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let entries = parsed["autoscalers"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(family)
            .filter(|name| seen.insert((*name).to_owned()))
            .map(str::to_owned)
            .collect()
    }
}

impl Case {
    fn read(file: &Path) -> Result<Self> {
        let grid = Grid::read(file)?;
        let question = grid.question.clone().unwrap_or_default();
        let case = Self { name: grid.name.clone(), question, file: file.into(), grid: grid.as_given };
        case.check()?;
        Ok(case)
    }

    fn check(&self) -> Result<()> {
        let shown = self.file.display();
        let grid = self.parse(self.grid.to_string(), &self.file.display().to_string(), None)?;
        ensure!(
            grid.objectives.reference.is_some(),
            "{shown}: objectives.reference: none found, expected one: shares are taken of its box"
        );
        ensure!(
            !grid.objectives.constraints.is_empty(),
            "{shown}: objectives.constraints: none found, expected the limits to keep"
        );
        ensure!(
            grid.objectives.cost == COST,
            "{shown}: objectives.cost: `{}` found, expected `{COST}`",
            grid.objectives.cost
        );
        ensure!(
            grid.workloads.len() == 1 && grid.workloads[0].count() == 1 && grid.cluster.count() == 1,
            "{shown}: several workloads or clusters found, expected one of each in a case"
        );
        ensure!(
            grid.seeds.len() == 1 || depends_on_seed(&grid.workloads[0].get(0)),
            "{shown}: several seeds found of traffic that is no draw, expected one"
        );
        Ok(())
    }

    fn parse(&self, text: String, file: &str, base_dir: Option<&Path>) -> Result<Grid> {
        let dirs = base_dir.map(Path::to_path_buf).or_else(|| self.file.parent().map(Path::to_path_buf));
        let mut grid = Grid::parse(
            Source { file: file.into(), text },
            &self.file,
            vec![dirs.unwrap_or_default(), PathBuf::new()],
        )?;
        // The files were given to be run.
        grid.starts_programs = true;
        Ok(grid)
    }

    /// The case as it stands, with the policies that the search for its edge starts from.
    pub fn plan(&self) -> Result<Plan> {
        Ok(Plan::new(self.parse(self.grid.to_string(), &self.file.display().to_string(), None)?)?)
    }

    /// The case with `policies` in the place of its own. Errors point into their file.
    pub fn plan_of(&self, policies: &Policies) -> Result<Plan> {
        let own = self.grid.as_object().into_iter().flatten();
        let kept: Map<String, Value> = own
            .filter(|(key, _)| ["workloads", "seeds", "cluster", "objectives"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let own = Value::Object(kept).to_string();
        let text = format!("{}, {}", own.strip_suffix('}').unwrap_or_default(), policies.members);
        Ok(Plan::new(self.parse(text, &policies.file, Some(&policies.base_dir))?)?)
    }
}

/// What is to be run for `policies` on a board of which `scores` are there.
pub struct Job<'a> {
    search: &'a OracleSettings,
    /// Each case, with what is to be searched for it, and with the plans of the policies.
    cases: Vec<(&'a Case, Unknown, Vec<Plan>)>,
}

/// Which edges of a case have to be searched, by its plan.
enum Unknown {
    Neither,
    Informed(Plan),
    Both(Plan),
}

impl<'a> Job<'a> {
    /// Errors: a policy does not parse, or names a program that is not there.
    pub fn new(
        board: &'a Board,
        policies: &[Policies],
        scores: &Scores,
        search: &'a OracleSettings,
    ) -> Result<Self> {
        let plans = |case: &'a Case| -> Result<_> {
            let known = scores.yardsticks.iter().find(|yardstick| yardstick.case == case.name);
            let unknown = match known {
                None => Unknown::Both(case.plan()?),
                Some(Yardstick { informed: Some(_), .. }) => Unknown::Neither,
                Some(_) => Some(case.plan()?)
                    .filter(|plan| informed::check(plan).is_ok())
                    .map_or(Unknown::Neither, Unknown::Informed),
            };
            Ok((
                case,
                unknown,
                policies.iter().map(|policies| case.plan_of(policies)).collect::<Result<_>>()?,
            ))
        };
        Ok(Self { search, cases: board.cases.iter().map(plans).collect::<Result<_>>()? })
    }

    /// How many simulations it takes.
    pub fn simulations(&self) -> usize {
        let of = |(_, unknown, plans): &(_, Unknown, Vec<Plan>)| {
            let informed = |plan: &Plan| informed::simulations(plan, &informed_search(self.search));
            let searched = match unknown {
                Unknown::Neither => 0,
                Unknown::Informed(plan) => informed(plan),
                Unknown::Both(plan) => {
                    oracle::simulations(plan, self.search) + informed(plan) + plan.unique().len() as u64
                }
            };
            searched + plans.iter().map(|plan| plan.unique().len() as u64).sum::<u64>()
        };
        self.cases.iter().map(of).sum::<u64>() as usize
    }

    /// Whether an edge has to be searched for.
    pub fn searches(&self) -> bool {
        self.cases.iter().any(|(_, unknown, _)| !matches!(unknown, Unknown::Neither))
    }

    /// Runs it and puts the rows into `scores`, each in the place of one of the same name. Names the rows.
    /// Nothing changes if it is interrupted.
    pub fn run(self, scores: &mut Scores, progress: &dyn Progress) -> Result<Vec<String>, Interrupted> {
        let mut yardsticks = scores.yardsticks.clone();
        let mut rows: Vec<PolicyScore> = Vec::new();
        for (case, unknown, plans) in &self.cases {
            match unknown {
                Unknown::Neither => {}
                Unknown::Both(plan) => yardsticks.push(yardstick(&case.name, plan, self.search, progress)?),
                Unknown::Informed(plan) => {
                    let informed = informed_edge(plan, self.search, progress)?;
                    yardsticks
                        .iter_mut()
                        .filter(|yardstick| yardstick.case == case.name)
                        .for_each(|known| known.informed.clone_from(&informed));
                }
            }
            let own = yardsticks
                .iter()
                .find(|yardstick| yardstick.case == case.name)
                .expect("known or just searched");
            for plan in plans {
                for (policy, score) in score(plan, own, progress)? {
                    match rows.iter_mut().find(|row| row.policy.family == policy.family) {
                        Some(row) => row.cases.push(score),
                        None => rows.push(PolicyScore { policy, cases: vec![score] }),
                    }
                }
            }
        }
        let names: Vec<String> = rows.iter().map(|row| row.policy.family.clone()).collect();
        scores.yardsticks = yardsticks;
        scores.rows.retain(|row| !names.contains(&row.policy.family));
        scores.rows.extend(rows);
        Ok(names)
    }
}

#[cfg(test)]
mod tests;
