//! Few settings instead of a whole knob: chosen before the run, on other draws of the traffic, by one rule.
//!
//! Equal steps of a knob leave much of a front out where replicas are whole and fronts are staircases. The
//! rule: all settings of a family run on draws that are none of the sweep's; the next setting chosen is
//! always the one that adds most to the mean hypervolume. What that is worth is said on the sweep's own
//! draws, which nobody has looked at by then.
//!
//! Draws of a generator come from other seeds. A trace is cut into halves by time: what is chosen on one
//! half, and on traces made of its episodes if it has enough of them, is judged on the other; and what is
//! offered for traffic to come is chosen on both.

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::informed::halves::{NAMES, half_reference_cost};
use super::informed::{Search, Subject, subjects};
use crate::autoscaler::AutoscalerSettings;
use crate::oracle::informed::episodes::{Episodes, FEWEST};
use crate::oracle::informed::{InformedSettings, Outcome, best_together, dominated};
use crate::simulation::{RunInputs, Workspace};
use crate::sweep::grid::ReplicaBounds;
use crate::sweep::plan::Plan;
use crate::sweep::plan::cell::Cell;
use crate::sweep::run::{Interrupted, Progress, Workspaces, run_inputs};
use crate::sweep::tables::row::Scalar;
use crate::workload::{self, Workload};

#[derive(Debug, Clone, Serialize)]
pub struct LevelSettings {
    /// Settings to choose of each family.
    pub levels: usize,
    /// Draws to choose on; none is one of the sweep's.
    pub fitting_draws: u32,
    pub search_seed: u64,
    /// Families to choose of; all that have more settings if empty.
    pub families: Vec<String>,
}

/// What was chosen of one family on one workload and cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    pub workload: String,
    /// What tells clusters apart where the grid has several.
    pub cluster: Vec<(String, String)>,
    pub family: String,
    /// Settings of the family, the whole knob.
    pub of: usize,
    /// Settings chosen: fewer than asked for where more add nothing, none where no run came inside the box.
    pub count: usize,
    /// What they were chosen on.
    pub chosen_on: String,
    /// Entries for the grid's `autoscalers`.
    pub entries: Vec<Value>,
    /// On draws that took no part in the choice.
    pub judged: Vec<Judged>,
}

/// Hypervolumes on one draw, as shares of the box.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub on: String,
    pub whole: f64,
    pub chosen: f64,
    /// As many settings, in equal steps of the family's.
    pub equal_steps: f64,
}

impl Chosen {
    /// Which part of the whole knob's hypervolume is lost: by those chosen, and by equal steps.
    pub fn lost(&self) -> [f64; 2] {
        let sum = |of: fn(&Judged) -> f64| self.judged.iter().map(of).sum::<f64>();
        let whole = sum(|judged| judged.whole);
        let lost = |of: fn(&Judged) -> f64| if whole > 0.0 { 1.0 - sum(of) / whole } else { 0.0 };
        [lost(|judged| judged.chosen), lost(|judged| judged.equal_steps)]
    }
}

/// Errors: no reference point, pools, a workload that nothing is drawn of, no family with settings enough.
pub fn check(plan: &Plan, settings: &LevelSettings) -> Result<()> {
    ensure!(
        plan.grid.objectives.reference.is_some(),
        "objectives.reference: missing; levels are chosen within a given box, such as {{\"latency\": 2, \"cost\": 50}}"
    );
    if (0..plan.grid.cluster.count()).any(|index| !plan.grid.cluster.get(index).pools.is_empty()) {
        bail!(
            "`cluster.pools` found: levels of one pool's policy are chosen, expected a grid without `pools`"
        );
    }
    for (place, section) in plan.grid.autoscalers.iter().enumerate() {
        ensure!(
            section.get(0).bounds == ReplicaBounds::default(),
            "autoscalers[{place}]: bounds on replicas found beside the policy, which the entries printed would lack; put them into `cluster`"
        );
    }
    for workload in &plan.inputs.workloads {
        let name = &workload.summary.name;
        ensure!(
            workload.content.streamed.is_none(),
            "workload `{name}`: too many requests to be held; shorten it"
        );
    }
    let subjects = subjects(plan);
    for subject in &subjects {
        let cell = &subject.groups[0].cell;
        ensure!(
            cell.workload.trace.is_some() || workload::depends_on_seed(&cell.workload),
            "workload `{}`: nothing is drawn, so every run is the same and there are no other draws to choose on; sweep the whole knob",
            cell.workload_name()
        );
        if cell.workload.trace.is_some() {
            check_halves(plan, cell)?;
        }
    }
    for wanted in &settings.families {
        let known = |subject: &Subject| {
            families(plan, subject, &LevelSettings { levels: 0, ..settings.clone() })
                .iter()
                .any(|f| f.0 == *wanted)
        };
        let mut external =
            subjects.iter().flat_map(|subject| &subject.groups[0].cells).map(|&index| plan.cell(index));
        if external
            .any(|cell| cell.family == *wanted && matches!(cell.autoscaler, AutoscalerSettings::External(_)))
        {
            bail!(
                "--family: `{wanted}` found, a program of your own, which sweeps alone start; expected a built-in policy"
            );
        }
        ensure!(subjects.iter().any(known), "--family: no family `{wanted}` in this grid");
    }
    let most = subjects.iter().flat_map(|subject| families(plan, subject, settings)).count();
    ensure!(
        most > 0,
        "no family has more than {} settings to choose from; give its knob more values, such as {{\"from\": 0, \"to\": 1, \"points\": 101}}",
        settings.levels
    );
    Ok(())
}

/// Errors: a trace that is not cut into two halves with requests in both.
fn check_halves(plan: &Plan, cell: &Cell) -> Result<()> {
    let (content, name) = (&plan.inputs.workloads[cell.workload_input].content, cell.workload_name());
    ensure!(
        content.sessions.is_none(),
        "workload `{name}`: a trace of conversations is not cut into halves, so there is nothing to judge a choice on; expected a trace of \
         requests, or `generate`"
    );
    let both = content.halves().is_some_and(|halves| halves.iter().all(|half| !half.is_empty()));
    ensure!(
        both,
        "workload `{name}`: a half of this trace without requests found, so there is nothing to judge a choice on; expected requests in the \
         first half of its time and in the second"
    );
    Ok(())
}

/// Families with more settings than are to be chosen, and these in the order of the grid, by the first seed.
fn families(plan: &Plan, subject: &Subject, settings: &LevelSettings) -> Vec<(String, Vec<Cell>)> {
    let mut families: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in subject.groups[0].cells.iter().map(|&index| plan.cell(index)) {
        let wanted = settings.families.is_empty() || settings.families.contains(&cell.family);
        // Programs of the user's own are started by sweeps alone.
        if !wanted || matches!(cell.autoscaler, AutoscalerSettings::External(_)) {
            continue;
        }
        match families.iter_mut().find(|(family, _)| *family == cell.family) {
            Some((_, cells)) => cells.push(cell),
            None => families.push((cell.family.clone(), vec![cell])),
        }
    }
    families.retain(|(_, cells)| cells.len() > settings.levels);
    families
}

/// Runs that choosing takes, at most.
pub fn simulations(plan: &Plan, settings: &LevelSettings) -> usize {
    let of = |subject: &Subject| {
        let cells: usize = families(plan, subject, settings).iter().map(|(_, cells)| cells.len()).sum();
        let is_trace = subject.groups[0].cell.workload.trace.is_some();
        let (draws, own) = (settings.fitting_draws as usize, subject.groups.len());
        cells * if is_trace { 2 * draws.max(1) } else { draws + own }
    };
    subjects(plan).iter().map(of).sum()
}

/// Chooses on the current rayon pool. Does not depend on the number of threads.
pub fn choose(plan: &Plan, settings: &LevelSettings, progress: &dyn Progress) -> Result<Vec<Chosen>> {
    let informed = InformedSettings {
        fitting_draws: settings.fitting_draws,
        search_seed: settings.search_seed,
        ..InformedSettings::default()
    };
    let workspaces = Workspaces::<Workspace>::default();
    let mut all = Vec::new();
    let subjects = subjects(plan);
    for subject in &subjects {
        let cluster = told_apart(subject, &subjects);
        let search = Search { plan, settings: &informed, progress, workspaces: &workspaces, subject };
        for (family, cells) in families(plan, subject, settings) {
            let choice = Choice { search: &search, cells: &cells, levels: settings.levels };
            let (chosen, chosen_on, judged) = if subject.groups[0].cell.workload.trace.is_some() {
                choice.of_a_trace()
            } else {
                choice.of_draws()
            }
            .map_err(|reason| anyhow::anyhow!("workload `{}`: {reason}", cells[0].workload_name()))?;
            if progress.is_interrupted() {
                return Err(Interrupted.into());
            }
            let picked: Vec<&Cell> = chosen.iter().map(|&place| &cells[place]).collect();
            let entries = entries(&picked, &cells, &format!("{family}_{}_chosen", settings.levels));
            all.push(Chosen {
                workload: cells[0].workload_name(),
                cluster: cluster.clone(),
                count: chosen.len(),
                of: cells.len(),
                family,
                chosen_on,
                entries,
                judged,
            });
        }
    }
    Ok(all)
}

/// The settings by which a workload's clusters differ, with the values of this one.
fn told_apart(subject: &Subject, all: &[Subject]) -> Vec<(String, String)> {
    let columns = |subject: &Subject| subject.groups[0].cell.setting_columns();
    let name = subject.groups[0].cell.workload_name();
    let same = |other: &&Subject| other.groups[0].cell.workload_name() == name;
    let others: Vec<_> = all.iter().filter(same).map(columns).collect();
    let differs = |(column, value): &(String, Scalar)| {
        others
            .iter()
            .any(|other| other.iter().find(|(name, _)| name == column).map(|(_, value)| value) != Some(value))
    };
    columns(subject).into_iter().filter(differs).map(|(column, value)| (column, value.text())).collect()
}

struct Choice<'a> {
    search: &'a Search<'a>,
    cells: &'a [Cell],
    levels: usize,
}

impl Choice<'_> {
    fn outcomes(&self, draws: &[RunInputs]) -> Vec<Vec<Outcome>> {
        self.search.own(&self.cells.iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>(), draws)
    }

    fn inputs<'b>(&'b self, draws: &'b [(u64, Workload)]) -> Result<Vec<RunInputs<'b>>, String> {
        draws
            .iter()
            .map(|(seed, workload)| self.search.inputs(workload, &self.cells[0].autoscaler, *seed))
            .collect()
    }

    /// Which settings, in the order of the grid.
    fn best(&self, outcomes: &[Vec<Outcome>], reference: (f64, f64)) -> Vec<usize> {
        let mut chosen = best_together(outcomes, reference, self.levels);
        chosen.sort_unstable();
        chosen
    }

    fn judged(&self, on: String, outcomes: &[Outcome], chosen: &[usize], reference: (f64, f64)) -> Judged {
        let of = |places: &[usize]| dominated(places.iter().filter_map(|&place| outcomes[place]), reference);
        let last = (outcomes.len() - 1) as f64;
        let steps = (self.levels.max(2) - 1) as f64;
        let even: Vec<usize> =
            (0..self.levels).map(|level| (level as f64 * last / steps).round() as usize).collect();
        Judged {
            on,
            whole: of(&(0..outcomes.len()).collect::<Vec<_>>()),
            chosen: of(chosen),
            equal_steps: of(&even),
        }
    }

    fn of_draws(&self) -> Result<(Vec<usize>, String, Vec<Judged>), String> {
        let Search { plan, settings, subject, .. } = self.search;
        let seeds = settings.fitting_seeds(&plan.grid.seeds);
        let draws: Vec<(u64, Workload)> = seeds
            .par_iter()
            .map(|&seed| Ok((seed, self.search.draw(&self.cells[0].workload, seed)?)))
            .collect::<Result<_, String>>()?;
        let reference = self.search.reference();
        let chosen = self.best(&self.outcomes(&self.inputs(&draws)?), reference);
        let mut judged = Vec::new();
        for group in &subject.groups {
            let own = run_inputs(&group.cell, &plan.inputs)?;
            let outcomes = self.outcomes(std::slice::from_ref(&own));
            let outcomes: Vec<Outcome> = outcomes.into_iter().map(|of_one| of_one[0]).collect();
            judged.push(self.judged(format!("seed {}", group.cell.seed), &outcomes, &chosen, reference));
        }
        Ok((chosen, format!("{} other draws", draws.len()), judged))
    }

    fn of_a_trace(&self) -> Result<(Vec<usize>, String, Vec<Judged>), String> {
        let Search { plan, settings, subject, .. } = self.search;
        let whole = &plan.inputs.workloads[subject.groups[0].cell.workload_input].content;
        let halves = whole.halves().ok_or("not cut into halves")?;
        let (cost, latency) = self.search.reference();
        let reference = (half_reference_cost(&plan.grid.objectives.cost, cost), latency);
        let seed = subject.groups[0].cell.seed;
        let episodes = halves.each_ref().map(Episodes::of);
        let resampled = episodes.iter().all(|episodes| episodes.all.len() >= FEWEST);
        // Of each half first the half itself, then traces made of its episodes.
        let mut of_halves: Vec<Vec<Vec<Outcome>>> = Vec::new();
        for (half, episodes) in halves.iter().zip(&episodes) {
            let mut draws = vec![(seed, half.clone())];
            if resampled {
                let more = settings.fitting_seeds(&[]).into_iter().skip(1);
                draws.extend(more.map(|seed| (seed, episodes.draw(half, seed))));
            }
            of_halves.push(self.outcomes(&self.inputs(&draws)?));
        }
        let mut judged = Vec::new();
        for tested in 0..2 {
            let chosen = self.best(&of_halves[1 - tested], reference);
            let outcomes: Vec<Outcome> = of_halves[tested].iter().map(|draws| draws[0]).collect();
            judged.push(self.judged(
                format!("{} half, chosen on the other", NAMES[tested]),
                &outcomes,
                &chosen,
                reference,
            ));
        }
        let both: Vec<Vec<Outcome>> = of_halves[0]
            .iter()
            .zip(&of_halves[1])
            .map(|(first, second)| [&first[..], second].concat())
            .collect();
        let on = match resampled {
            true if both[0].len() > 2 => {
                format!("both halves and {} traces made of their episodes", both[0].len() - 2)
            }
            _ => "both halves".into(),
        };
        Ok((self.best(&both, reference), on, judged))
    }
}

/// As a grid spells them: of each policy one entry with a list where one setting differs, or an entry each.
fn entries(picked: &[&Cell], all: &[Cell], label: &str) -> Vec<Value> {
    let told = |cell: &Cell| match json!(cell.autoscaler) {
        Value::Object(entry) => entry
            .into_iter()
            .next()
            .map(|(name, fields)| (name, fields.as_object().cloned().unwrap_or_default())),
        Value::String(name) => Some((name, Map::new())),
        _ => None,
    };
    let every: Vec<(String, Map<String, Value>)> = all.iter().filter_map(told).collect();
    let picked: Vec<(String, Map<String, Value>)> = picked.iter().copied().filter_map(told).collect();
    let mut policies: Vec<&String> = picked.iter().map(|(name, _)| name).collect();
    policies.dedup();
    let of = |settings: &[(String, Map<String, Value>)], name: &str| -> Vec<Map<String, Value>> {
        settings.iter().filter(|(other, _)| other == name).map(|(_, fields)| fields.clone()).collect()
    };
    policies
        .into_iter()
        .flat_map(|name| entries_of_policy(name, &of(&picked, name), &of(&every, name), label))
        .collect()
}

fn entries_of_policy(
    name: &str,
    picked: &[Map<String, Value>],
    every: &[Map<String, Value>],
    label: &str,
) -> Vec<Value> {
    // Of a policy that needs to be told something there is no default: then all of it is said.
    let default = serde_json::from_value::<AutoscalerSettings>(json!({name: {}}))
        .ok()
        .and_then(|default| json!(default)[name].as_object().cloned())
        .unwrap_or_default();
    let varies = |field: &str| every.iter().any(|fields| fields.get(field) != every[0].get(field));
    let is_said =
        |field: &str, value: &Value| !value.is_null() && (varies(field) || default.get(field) != Some(value));
    let mut names: Vec<&String> = every.iter().flat_map(Map::keys).filter(|field| varies(field)).collect();
    names.sort_unstable();
    names.dedup();
    let entry = |fields: &Map<String, Value>| {
        let said: Map<String, Value> = fields
            .iter()
            .filter(|(field, value)| is_said(field, value))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        json!({name: said, "label": label})
    };
    // A field at its default may be left out of what a setting tells of itself; then there is no list of it.
    let plain = |field: &str| {
        let of = |fields: &Map<String, Value>| {
            fields.get(field).is_some_and(|v| v.is_number() || v.is_string() || v.is_boolean())
        };
        picked.iter().all(of)
    };
    match names[..] {
        [field] if plain(field) => {
            let mut one = entry(&picked[0]);
            one[name][field] = picked.iter().map(|fields| fields[field].clone()).collect();
            vec![one]
        }
        _ => picked.iter().map(entry).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(settings: &[Value]) -> Vec<Cell> {
        let grid = json!({
            "workloads": [{"name": "w", "generate": {"arrivals": {"poisson": {"rate_per_s": 1, "duration_s": 9}},
                "lengths": {"fixed": {"prefill_tokens": 9, "decode_tokens": 1}}}}],
            "autoscalers": settings,
        });
        let grid = crate::sweep::grid::Grid::stored("w.json", &grid).unwrap();
        let plan = Plan::new(grid).unwrap();
        plan.unique().iter().map(|&index| plan.cell(index)).collect()
    }

    #[test]
    fn entries_are_what_a_grid_takes() {
        let list = cells(&[json!({"frontier": {"service_level": [0, 0.5, 1], "replaces_buried": true}})]);
        let picked: Vec<&Cell> = vec![&list[0], &list[2]];
        let told = entries(&picked, &list, "chosen");
        assert_eq!(
            told,
            [json!({"frontier": {"service_level": [0.0, 1.0], "replaces_buried": true}, "label": "chosen"})]
        );
        let again = cells(&told);
        assert_eq!(
            again.iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>(),
            picked.iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>()
        );
        // Where two settings go together they are told apart.
        let pairs = cells(&[
            json!({"frontier": {"service_level": 0.25, "target_s": 2}, "label": "x"}),
            json!({"frontier": {"service_level": 0.5, "target_s": 1}, "label": "x"}),
        ]);
        let told = entries(&pairs.iter().collect::<Vec<_>>(), &pairs, "chosen");
        assert_eq!(told[1], json!({"frontier": {"service_level": 0.5, "target_s": 1.0}, "label": "chosen"}));
        assert_eq!(cells(&told).len(), 2);
        // A setting at its default says nothing of itself; a policy without a default says all.
        let prices = cells(&[json!({"frontier": {"service_level": 0.5, "change_price_s": [30, 0]}})]);
        let told = entries(&prices.iter().collect::<Vec<_>>(), &prices, "chosen");
        assert_eq!(
            cells(&told).iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>(),
            prices.iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>()
        );
        let steps = json!([{"at_s": 0, "replicas": 2}, {"at_s": 60, "replicas": 5}]);
        let clocks = cells(&[json!({"schedule": {"steps": steps, "period_s": 120, "lead_s": [0, 10, 20]}})]);
        let told = entries(&[&clocks[0], &clocks[2]], &clocks, "chosen");
        assert_eq!(cells(&told)[1].autoscaler, clocks[2].autoscaler);
        // One label over two policies.
        let mixed = cells(&[
            json!({"frontier": {"service_level": [0.25, 0.5]}, "label": "x"}),
            json!({"static": {"replicas": [2, 3]}, "label": "x"}),
        ]);
        let told = entries(&mixed.iter().collect::<Vec<_>>(), &mixed, "chosen");
        assert_eq!(told.len(), 2);
        assert_eq!(cells(&told).len(), 4);
        let fleets = cells(&[json!({"static": {"replicas": [1, 2, 3]}})]);
        assert_eq!(
            entries(&[&fleets[1]], &fleets, "chosen"),
            [json!({"static": {"replicas": [2]}, "label": "chosen"})]
        );
    }

    #[test]
    fn what_is_lost_is_told_over_draws() {
        let judged = |whole, chosen, equal_steps| Judged { on: "seed 1".into(), whole, chosen, equal_steps };
        let chosen = Chosen {
            workload: "w".into(),
            cluster: Vec::new(),
            family: "f".into(),
            of: 9,
            count: 0,
            chosen_on: "2 other draws".into(),
            entries: Vec::new(),
            judged: vec![judged(0.4, 0.4, 0.3), judged(0.6, 0.5, 0.5)],
        };
        let [own, equal] = chosen.lost();
        assert!((own - 0.1).abs() < 1e-12 && (equal - 0.2).abs() < 1e-12);
    }
}
