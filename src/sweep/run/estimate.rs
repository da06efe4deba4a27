//! What a sweep will take, before it runs: time, money for the machine, disk.
//!
//! How long a run takes depends on its policy, lengths and load by factors of thousands, so some runs are
//! tried: each for a moment, on as many threads as the sweep will have. What such a moment got done says how
//! long the whole run takes. Nothing of it is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use rayon::prelude::*;

use super::Plan;
use crate::simulation::{Limits, SimulationError, Workspace};
use crate::sweep::run::{Workspaces, inputs_of};

/// Dollars for an hour of one core where nothing else is said: what clouds ask on demand for a
/// general-purpose virtual core.
pub const CORE_PRICE_USD_PER_HOUR: f64 = 0.05;

/// Bytes of a run's line in the journal.
pub const JOURNAL_BYTES_PER_RUN: f64 = 1000.0;

/// Runs that are tried, and the time that this takes at most.
const MOST_TRIED: usize = 48;
const TRIAL_S: f64 = 2.0;

/// To keep what curves are made of, and to make them where a run may be on a front, adds to a run at most.
const CURVES_SHARE: f64 = 0.1;

/// Tables, figures and page: of any sweep, of each run, and of each workload that is drawn. Measured as
/// `docs/large-sweeps.md` says.
const TABLES_S: f64 = 0.35;
const TABLES_US_PER_RUN: f64 = 300.0;
const FIGURES_S_PER_WORKLOAD: f64 = 0.25;
const MOST_WORKLOADS_DRAWN: usize = 12;

/// What is known before the trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    pub threads: usize,
    pub core_price_usd_per_hour: f64,
    /// What planning has taken: reading traces, drawing workloads, finding the runs.
    pub planning_s: f64,
    /// Whether curves are kept as runs go.
    pub keeps_curves: bool,
}

/// Prints as lines for the plan. Times are by the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub terms: Terms,
    pub runs: usize,
    pub running_s: f64,
    /// Runs that are tried, and the time it took.
    pub tried: usize,
    pub trial_s: f64,
    pub tables_s: f64,
}

/// How long the runs at `places` of `plan` will take, on the current rayon pool.
pub fn estimate(plan: &Plan, places: &[usize], terms: Terms) -> Estimate {
    let started = Instant::now();
    let tried = chosen(plan, places);
    let slice_s = TRIAL_S * terms.threads as f64 / tried.len().max(1) as f64;
    let workspaces = Workspaces::<Workspace>::default();
    let took = |&place: &usize| {
        (place, workspaces.run(|workspace| whole_run_s(plan, place, slice_s, workspace)).unwrap_or(0.0))
    };
    let took: Vec<(usize, f64)> = tried.par_iter().with_max_len(1).map(took).collect();
    let trial_s = started.elapsed().as_secs_f64();

    let rates = Rates::of(plan, &took);
    let threads = terms.threads as f64;
    let (mut sum_s, mut longest_s) = (0.0, 0.0_f64);
    let with_curves = if terms.keeps_curves { 1.0 + CURVES_SHARE } else { 1.0 };
    for &place in places {
        let run_s = with_curves * rates.run_s(plan, place);
        sum_s += run_s;
        longest_s = longest_s.max(run_s);
    }
    let workloads = plan.workloads().min(MOST_WORKLOADS_DRAWN) as f64;
    Estimate {
        terms,
        runs: places.len(),
        running_s: (sum_s / threads).max(longest_s),
        tried: tried.len(),
        trial_s,
        tables_s: TABLES_S
            + TABLES_US_PER_RUN * 1e-6 * places.len() as f64
            + FIGURES_S_PER_WORKLOAD * workloads / threads.min(4.0),
    }
}

/// What runs have in common that take alike: workload and autoscaler.
type Group = (usize, u64, usize);

fn group(plan: &Plan, place: usize) -> Group {
    let at = plan.grid.coordinates(plan.unique()[place]);
    (at.workload, at.workload_combination, at.autoscaler)
}

/// Some of `places`: of each group as many, evenly spread over it; without regard to groups where these are
/// too many.
fn chosen(plan: &Plan, places: &[usize]) -> Vec<usize> {
    if places.len() <= MOST_TRIED {
        return places.to_vec();
    }
    let mut groups: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
    places.iter().for_each(|&place| groups.entry(group(plan, place)).or_default().push(place));
    if groups.len() > MOST_TRIED {
        return spread(places, MOST_TRIED).collect();
    }
    let each = MOST_TRIED / groups.len();
    groups.values().flat_map(|places| spread(places, each.min(places.len()))).collect()
}

/// The middles of `count` equal parts.
fn spread(places: &[usize], count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |part| places[(2 * part + 1) * places.len() / (2 * count)])
}

/// How long the run at `place` would take by what a part of it takes.
fn whole_run_s(plan: &Plan, place: usize, slice_s: f64, workspace: &mut Workspace) -> f64 {
    let cell = plan.cell(plan.unique()[place]);
    let started = Instant::now();
    let give_up = || started.elapsed().as_secs_f64() >= slice_s;
    let Ok(inputs) = inputs_of(&cell, &plan.inputs) else { return 0.0 };
    let limits = Limits { give_up: Some(&give_up), ..Limits::default() };
    let ended = inputs.within(limits).simulate(workspace);
    let elapsed_s = started.elapsed().as_secs_f64();
    match ended {
        Err(SimulationError::CalledOff { at_s, unfinished }) => {
            let (requests, duration_s) = (
                plan.requests(plan.unique()[place]),
                plan.inputs.workloads[cell.workload_input].summary.duration_s,
            );
            let done = 1.0 - unfinished as f64 / requests as f64;
            // Where nothing has been finished yet, time has passed.
            let done = if done > 0.0 { done } else { (at_s / duration_s).max(1.0 / requests as f64) };
            elapsed_s / done.min(1.0)
        }
        _ => elapsed_s,
    }
}

/// Seconds a request of each group, and of all.
struct Rates {
    groups: BTreeMap<Group, f64>,
    all: f64,
}

impl Rates {
    fn of(plan: &Plan, took: &[(usize, f64)]) -> Self {
        let mut sums: BTreeMap<Group, (f64, f64)> = BTreeMap::new();
        let mut all = (0.0, 0.0);
        for &(place, run_s) in took {
            let requests = plan.requests(plan.unique()[place]) as f64;
            for sum in [sums.entry(group(plan, place)).or_default(), &mut all] {
                *sum = (sum.0 + run_s, sum.1 + requests);
            }
        }
        let rate = |(run_s, requests): (f64, f64)| if requests > 0.0 { run_s / requests } else { 0.0 };
        Self { groups: sums.into_iter().map(|(group, sum)| (group, rate(sum))).collect(), all: rate(all) }
    }

    fn run_s(&self, plan: &Plan, place: usize) -> f64 {
        let rate = self.groups.get(&group(plan, place)).unwrap_or(&self.all);
        rate * plan.requests(plan.unique()[place]) as f64
    }
}

impl Estimate {
    /// By the clock, all phases together.
    pub fn total_s(&self) -> f64 {
        self.terms.planning_s + self.running_s + self.tables_s
    }

    pub fn core_hours(&self) -> f64 {
        self.total_s() * self.terms.threads as f64 / 3600.0
    }

    /// How long it will take, in words.
    pub fn duration(&self) -> String {
        let threads = self.terms.threads;
        format!("{} on {threads} thread{}", duration(self.total_s()), if threads == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Terms { planning_s, core_price_usd_per_hour: price, .. } = self.terms;
        writeln!(f, "Estimated time: {}", self.duration())?;
        writeln!(f, "  planning          {}, as it just took", duration(planning_s))?;
        let (runs, tried, trial) = (self.runs, self.tried, duration(self.trial_s));
        let runs = format!("{runs} run{}", if runs == 1 { "" } else { "s" });
        writeln!(
            f,
            "  running           {}, {runs} (by a trial of {tried} for {trial})",
            duration(self.running_s)
        )?;
        writeln!(f, "  tables and report {}", duration(self.tables_s))?;
        let (hours, cost) = (self.core_hours(), self.core_hours() * price);
        writeln!(
            f,
            "Estimated cost: ${cost:.2} for {hours:.2} core-hours (at ${price} a core-hour, see --core-price-usd-per-hour)"
        )?;
        write!(f, "Estimated disk: {:.1} MB while it runs", self.runs as f64 * JOURNAL_BYTES_PER_RUN * 1e-6)
    }
}

/// A time as people say it, to two digits.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => "under 0.1 s".into(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 600.0 => format!("{:.1} min", s / 60.0),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sweep::grid::Grid;
    use crate::sweep::grid::source::Source;

    const TERMS: Terms =
        Terms { threads: 1, core_price_usd_per_hour: 0.1, planning_s: 0.5, keeps_curves: true };

    fn plan(replicas: &str) -> Plan {
        let text = r#"{"workloads": [{"name": "w", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 20, "rate_per_s": 20}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 40}}}}], "seeds": [1, 2],
            "autoscalers": [{"static": {"replicas": REPLICAS}}, "inferline"]}"#;
        let source = Source { file: "x.json".into(), text: text.replace("REPLICAS", replicas) };
        Plan::new(Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()).unwrap()
    }

    fn places(plan: &Plan) -> Vec<usize> {
        (0..plan.unique().len()).collect()
    }

    #[test]
    fn every_phase_counts_and_is_printed() {
        let estimate = Estimate {
            terms: Terms { threads: 2, ..TERMS },
            runs: 1_000_000,
            running_s: 3000.0,
            tried: 48,
            trial_s: 2.04,
            tables_s: 240.0,
        };
        assert_eq!(estimate.total_s(), 3240.5);
        let text = estimate.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "Estimated time: 54 min on 2 threads",
                "  planning          0.5 s, as it just took",
                "  running           50 min, 1000000 runs (by a trial of 48 for 2.0 s)",
                "  tables and report 4.0 min",
                "Estimated cost: $0.18 for 1.80 core-hours (at $0.1 a core-hour, see --core-price-usd-per-hour)",
                "Estimated disk: 1000.0 MB while it runs",
            ]
        );
    }

    #[test]
    fn each_group_is_tried() {
        let plan = plan(r#"{"from": 1, "to": 100, "step": 1}"#);
        let all = places(&plan);
        assert_eq!(all.len(), 202);
        let tried = chosen(&plan, &all);
        assert!(tried.len() <= MOST_TRIED, "{tried:?}");
        let of =
            |autoscaler: usize| tried.iter().filter(|&&place| group(&plan, place).2 == autoscaler).count();
        assert_eq!((of(0), of(1)), (24, 2));
        assert_eq!(chosen(&plan, &all[..10]), all[..10]);
    }

    /// Of runs that a trial ends, the estimate is what the trial took, and what their curves add.
    #[test]
    fn more_runs_take_longer() {
        let (few, many) = (plan("[1, 2]"), plan(r#"{"from": 1, "to": 400, "step": 1}"#));
        let [few, many] = [few, many].map(|plan| estimate(&plan, &places(&plan), TERMS));
        assert_eq!((few.runs, few.tried), (6, 6));
        // The trial ran on all threads, and the sweep is to run on one.
        let most_s = (1.0 + CURVES_SHARE) * few.trial_s * rayon::current_num_threads() as f64;
        assert!(few.running_s > 0.0 && few.running_s <= most_s, "{few:?}");
        assert!(many.running_s > few.running_s && many.tables_s > few.tables_s, "{many:?}");
    }
}
