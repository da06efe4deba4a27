//! The edge without foresight for the workloads of a sweep: policies that know the law, fitted to draws of
//! their own and run on the sweep's.

pub mod halves;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::halves::{Half, HalfAccount};
use super::oracle::{Group, groups, objective};
use crate::RESULTS_VERSION;
use crate::autoscaler::{Autoscaler, AutoscalerSettings};
use crate::oracle::informed::bound::{self, BurstBound, Spells, Steady};
use crate::oracle::informed::law::{BurstLaw, Law};
use crate::oracle::informed::policy::{BurstPolicy, Informed, Known, Latency};
use crate::oracle::informed::{InformedSettings, Outcome, Room, best_together, quantile};
use crate::oracle::{self, FluidBound, OracleSettings, ReplicaSchedule};
use crate::simulation::{
    Limits, Parts, RequestRecord, RunInputs, RunMetrics, Workspace, simulate_parts, simulate_parts_in_detail,
};
use crate::sweep::plan::Plan;
use crate::sweep::plan::WorkloadSummary;
use crate::sweep::run::outcome::{scalar, settings_of};
use crate::sweep::run::{Interrupted, Progress, Workspaces, run_inputs};
use crate::sweep::store::manifest::Manifest;
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::{RunRow, Scalar};
use crate::workload::arrivals::{Arrivals, Bursts, Poisson};
use crate::workload::{self, Workload, WorkloadSpec};

/// The table of points.
pub const TABLE: &str = "informed.parquet";
/// What they belong to, how they were found, and bounds. Written last: without it the table does not count.
pub const ACCOUNT: &str = "informed.json";

/// Whose edge a table holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub results_version: u32,
    /// The command line that searched.
    pub command: String,
    pub settings: InformedSettings,
    pub simulations: u64,
    pub workloads: Vec<WorkloadSummary>,
    pub hardware: Vec<String>,
    pub grid: Value,
    pub table: Option<Checksum>,
    /// One for each workload and cluster.
    pub edges: Vec<EdgeAccount>,
}

/// How the edge of one workload and cluster came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeAccount {
    pub workload: String,
    /// What is drawn, or why there is no such edge.
    pub class: String,
    pub has_edge: bool,
    pub policies_tried: u64,
    pub policies_kept: u64,
    pub simulations: u64,
    /// Mean share of the box that the policies kept dominate on the fitting draws.
    pub fitted: Option<f64>,
    pub bounds: Vec<SeedBound>,
    /// Of a trace, each half with what was learned from the other. Their hypervolumes are those of a half, so
    /// they have no points in the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halves: Vec<HalfAccount>,
}

/// What no policy of the law can beat in expectation, given how many bursts a draw has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedBound {
    pub seed: u64,
    /// Latency at the objective's percentile and the least cost for it, by rising latency.
    pub points: Vec<(f64, f64)>,
}

impl Account {
    pub fn new(plan: &Plan, settings: &InformedSettings, command: String, edges: Vec<EdgeAccount>) -> Self {
        Self {
            results_version: RESULTS_VERSION,
            command,
            settings: settings.clone(),
            simulations: edges.iter().map(|edge| edge.simulations).sum(),
            workloads: plan.inputs.workloads.iter().map(|workload| workload.summary.clone()).collect(),
            hardware: plan.provenance(),
            grid: plan.grid.as_given.clone(),
            table: None,
            edges,
        }
    }

    /// Whether the edge is that of these runs.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        self.results_version == manifest.results_version
            && self.workloads == manifest.workloads
            && self.hardware == manifest.hardware
            && self.grid == manifest.grid
    }
}

/// One workload and cluster, a group for each seed.
pub(super) struct Subject {
    pub(super) groups: Vec<Group>,
    law: Result<Law, String>,
}

/// Workload, hardware and cluster.
type Key = (String, Box<[usize]>, String);

pub(super) fn subjects(plan: &Plan) -> Vec<Subject> {
    let mut by_name: BTreeMap<Key, Vec<Group>> = BTreeMap::new();
    let mut order = Vec::new();
    for group in groups(plan) {
        let key = (
            group.cell.workload_name(),
            group.cell.hardware_inputs.clone(),
            json!(group.cell.cluster).to_string(),
        );
        if !by_name.contains_key(&key) {
            order.push(key.clone());
        }
        by_name.entry(key).or_default().push(group);
    }
    order
        .into_iter()
        .filter_map(|key| {
            let groups = by_name.remove(&key)?;
            let law = Law::of(&groups[0].cell.workload);
            // Where the halves of a trace tell nothing of each other, there is none either.
            let law = match law {
                Ok(Law::Past) => Half::both(plan, &groups[0]).map(|_| Law::Past),
                law => law,
            };
            Some(Subject { groups, law })
        })
        .collect()
}

/// Errors: there is no reference point to search for, or no workload has a law to know.
pub fn check(plan: &Plan) -> Result<()> {
    if (0..plan.grid.cluster.count()).any(|index| !plan.grid.cluster.get(index).pools.is_empty()) {
        bail!(
            "`cluster.pools` found: policies of the informed edge decide for one pool, and are not built for several; leave out `--informed`, or \
             search each pool by itself, in a grid without `pools`"
        );
    }
    ensure!(
        plan.grid.objectives.reference.is_some(),
        "objectives.reference: missing; an informed edge is searched within a given box, such as {{\"latency\": 2, \"cost\": 50}}"
    );
    let subjects = subjects(plan);
    let reasons: Vec<String> = subjects
        .iter()
        .filter_map(|subject| {
            Some(format!(
                "workload `{}`: {}",
                subject.groups[0].cell.workload_name(),
                subject.law.as_ref().err()?
            ))
        })
        .collect();
    if reasons.len() == subjects.len() {
        bail!("no workload of this sweep has an informed edge:\n{}", reasons.join("\n"));
    }
    super::oracle::check(plan)
}

/// Simulations that searches take, but for those of bounds.
pub fn simulations(plan: &Plan, settings: &InformedSettings) -> u64 {
    let of = |subject: &Subject| {
        let inputs = run_inputs(&subject.groups[0].cell, &plan.inputs).ok()?;
        let tried = match &subject.law {
            Err(_) => return None,
            Ok(Law::KnownRate) => {
                oracle::simulations(&inputs, 0, &schedules(settings))
                    + online(plan, &subject.groups[0]).len() as u64
            }
            Ok(Law::RandomBursts(_)) => STARTS + u64::from(settings.budget),
            Ok(Law::Past) => {
                2 * (STARTS + u64::from(settings.budget) + online(plan, &subject.groups[0]).len() as u64)
            }
        };
        Some(tried * u64::from(settings.fitting_draws))
    };
    subjects(plan).iter().filter_map(of).sum()
}

/// The sweep's own policies that scale: they see and know no more than informed ones may.
fn online(plan: &Plan, group: &Group) -> Vec<AutoscalerSettings> {
    let settings = group.cells.iter().map(|&index| plan.cell(index).autoscaler);
    // Fixed fleets start warm, and programs of the user's own may know anything.
    settings
        .filter(|policy| {
            policy.settings().initial_replicas().is_none()
                && !matches!(policy, AutoscalerSettings::External(_))
        })
        .collect()
}

/// One who takes part where rates are known.
enum Candidate {
    Schedule(ReplicaSchedule),
    Online(Box<AutoscalerSettings>),
}

/// Policies a search for bursts starts from.
const STARTS: u64 = 64;

fn schedules(settings: &InformedSettings) -> OracleSettings {
    OracleSettings {
        budget: settings.budget,
        step_s: settings.step_s,
        batch: settings.batch,
        archive: settings.kept,
        search_seed: settings.search_seed,
    }
}

/// Searches for every workload and cluster on the current rayon pool: rows of points, by seed and rising
/// cost, and accounts.
///
/// Columns: `workload`, `seed`, `found_by` (`informed`), `bound_usd` (what no policy with this latency can
/// cost less than, in expectation; null where that is not known), `policy` (JSON); then settings of workload
/// and cluster and metrics, as in the table of runs. Does not depend on the number of threads.
pub fn search(
    plan: &Plan,
    settings: &InformedSettings,
    progress: &dyn Progress,
) -> Result<(Vec<RunRow>, Vec<EdgeAccount>), Interrupted> {
    let workspaces = Workspaces::default();
    let (mut rows, mut accounts) = (Vec::new(), Vec::new());
    for subject in subjects(plan) {
        let mut account = EdgeAccount {
            workload: subject.groups[0].cell.workload_name(),
            class: String::new(),
            has_edge: false,
            policies_tried: 0,
            policies_kept: 0,
            simulations: 0,
            fitted: None,
            bounds: Vec::new(),
            halves: Vec::new(),
        };
        match &subject.law {
            Err(reason) => account.class.clone_from(reason),
            Ok(law) => {
                match (Search { plan, settings, progress, workspaces: &workspaces, subject: &subject })
                    .run(law, &mut account)
                {
                    Ok(found) => {
                        account.has_edge = !found.is_empty();
                        rows.extend(found);
                    }
                    Err(reason) => account.class = reason,
                }
            }
        }
        accounts.push(account);
        if progress.is_interrupted() {
            return Err(Interrupted);
        }
    }
    Ok((rows, accounts))
}

pub(super) struct Search<'a> {
    pub(super) plan: &'a Plan,
    pub(super) settings: &'a InformedSettings,
    pub(super) progress: &'a dyn Progress,
    pub(super) workspaces: &'a Workspaces<Workspace>,
    pub(super) subject: &'a Subject,
}

impl Search<'_> {
    fn spec(&self) -> &WorkloadSpec {
        &self.subject.groups[0].cell.workload
    }

    pub(super) fn reference(&self) -> (f64, f64) {
        let reference = self.plan.grid.objectives.reference.expect("checked before");
        (reference.cost, reference.latency)
    }

    pub(super) fn draw(&self, spec: &WorkloadSpec, seed: u64) -> Result<Workload, String> {
        workload::load(spec, seed, &self.plan.grid.base_dirs).map_err(|error| error.to_string())
    }

    /// The runs of this cluster on other requests.
    pub(super) fn inputs<'b>(
        &'b self,
        workload: &'b Workload,
        autoscaler: &'b AutoscalerSettings,
        seed: u64,
    ) -> Result<RunInputs<'b>, String> {
        let cell = &self.subject.groups[0].cell;
        let times = self.plan.inputs.times(cell)[0];
        RunInputs::new(workload, &cell.cluster, autoscaler, times, seed).map_err(|error| error.to_string())
    }

    fn one(&self, inputs: &RunInputs, autoscaler: Box<dyn Autoscaler>) -> Option<RunMetrics> {
        let give_up = || self.progress.is_interrupted();
        let limits = Limits { give_up: Some(&give_up), check: false, ..Limits::default() };
        let inputs = RunInputs { limits, ..inputs.clone() };
        let parts = Parts {
            autoscaler: Some(autoscaler),
            initial_replicas: inputs.cluster.initial_replicas.max(1),
            ..Parts::of(&inputs)
        };
        let ended =
            self.workspaces.run(|workspace| simulate_parts(&inputs, parts, workspace).ok()).ok().flatten();
        self.progress.run_ended(inputs.workload.len() as u64);
        ended
    }

    fn run(&self, law: &Law, account: &mut EdgeAccount) -> Result<Vec<RunRow>, String> {
        if *law == Law::Past {
            account.class = "law estimated from the other half".into();
            return self.halves(account).map(|()| Vec::new());
        }
        let taken: Vec<u64> = self.plan.grid.seeds.clone();
        let seeds = self.settings.fitting_seeds(&taken);
        let draws: Vec<(u64, Workload)> = seeds
            .par_iter()
            .map(|&seed| Ok((seed, self.draw(self.spec(), seed)?)))
            .collect::<Result<_, String>>()?;
        let autoscaler = &self.subject.groups[0].cell.autoscaler;
        let inputs: Vec<RunInputs> = draws
            .iter()
            .map(|(seed, workload)| self.inputs(workload, autoscaler, *seed))
            .collect::<Result<_, String>>()?;
        match law {
            Law::KnownRate => {
                account.class = "rates are known, gaps and lengths are drawn: schedules, the same for every draw, and the sweep's own \
                                 policies"
                    .into();
                self.rates(&inputs, account)
            }
            Law::RandomBursts(bursts) => {
                account.class = "bursts at random: policies with an exact belief in a burst".into();
                self.bursts(bursts, &inputs, account)
            }
            Law::Past => unreachable!("searched by halves"),
        }
    }

    /// Outcomes of policies on draws, a list for each policy.
    fn outcomes<P: Sync>(
        &self,
        policies: &[P],
        draws: &[RunInputs],
        build: impl Fn(&P, &RunInputs) -> Box<dyn Autoscaler> + Sync,
    ) -> Vec<Vec<Outcome>> {
        let [latency, cost] = self.plan.grid.objectives.metrics().map(|(_, metric)| objective(metric));
        let pairs: Vec<(usize, usize)> =
            (0..policies.len()).flat_map(|policy| (0..draws.len()).map(move |draw| (policy, draw))).collect();
        let all: Vec<Outcome> = pairs
            .par_iter()
            .with_max_len(1)
            .map(|&(policy, draw)| {
                let metrics = self.one(&draws[draw], build(&policies[policy], &draws[draw]))?;
                Some((cost(&metrics)?, latency(&metrics)?))
            })
            .collect();
        all.chunks(draws.len()).map(<[_]>::to_vec).collect()
    }

    fn rates(&self, draws: &[RunInputs], account: &mut EdgeAccount) -> Result<Vec<RunRow>, String> {
        let settings = schedules(self.settings);
        let limits = oracle::limits(&draws[0], &settings);
        let mut arrived_at_s: Vec<f64> =
            draws.iter().flat_map(|draw| draw.workload.arrived_at_s.iter().copied()).collect();
        arrived_at_s.sort_by(f64::total_cmp);
        let replay = |schedule: &ReplicaSchedule, _: &RunInputs| schedule.replay(&limits);
        let (mut tried, mut all): (Vec<ReplicaSchedule>, Vec<Vec<Outcome>>) = (Vec::new(), Vec::new());
        let evaluate = |schedules: &[ReplicaSchedule]| {
            let outcomes = self.outcomes(schedules, draws, replay);
            tried.extend_from_slice(schedules);
            all.extend(outcomes.iter().cloned());
            let means = outcomes.into_iter().map(|outcomes| {
                let ended: Vec<(f64, f64)> = outcomes.into_iter().collect::<Option<_>>()?;
                let mean =
                    |of: fn(&(f64, f64)) -> f64| ended.iter().map(of).sum::<f64>() / ended.len() as f64;
                Some((mean(|at| at.0), mean(|at| at.1)))
            });
            means.collect()
        };
        oracle::search_over_draws(&draws[0], &arrived_at_s, &settings, Some(self.reference()), evaluate);
        let online = online(self.plan, &self.subject.groups[0]);
        let run_online = |policy: &AutoscalerSettings, inputs: &RunInputs| {
            let parts = Parts::of(&RunInputs { autoscaler: policy, ..inputs.clone() });
            parts
                .autoscaler
                .unwrap_or_else(|| ReplicaSchedule::constant(inputs.cluster.initial_replicas).replay(&limits))
        };
        all.extend(self.outcomes(&online, draws, run_online));
        let mut candidates: Vec<Option<Candidate>> = tried
            .into_iter()
            .map(Candidate::Schedule)
            .chain(online.into_iter().map(|policy| Candidate::Online(policy.into())))
            .map(Some)
            .collect();
        let kept = best_together(&all, self.reference(), self.settings.kept as usize);
        self.note(&all, &kept, account);
        let kept: Vec<Candidate> = kept.into_iter().filter_map(|place| candidates[place].take()).collect();
        let build = |candidate: &Candidate, inputs: &RunInputs| match candidate {
            Candidate::Schedule(schedule) => replay(schedule, inputs),
            Candidate::Online(policy) => run_online(policy, inputs),
        };
        let told = |candidate: &Candidate| match candidate {
            Candidate::Schedule(schedule) => json!(schedule.steps()),
            Candidate::Online(policy) => json!(policy),
        };
        self.rows(&kept, told, |_, _| None, account, build)
    }

    fn bursts(
        &self,
        bursts: &Bursts,
        draws: &[RunInputs],
        account: &mut EdgeAccount,
    ) -> Result<Vec<RunRow>, String> {
        let objectives = &self.plan.grid.objectives;
        let (latency, share) = quantile(&objectives.latency).unwrap_or((Latency::EndToEnd, 0.9));
        let first = &draws[0];
        let fluid = FluidBound::new(first);
        let throughput_per_s = bound::throughput_per_s(&fluid, first.workload);
        let (known, room) = self.known(&bursts.into(), first, self.reference());
        let build = |policy: &BurstPolicy, _: &RunInputs| -> Box<dyn Autoscaler> {
            Box::new(Informed::new(*policy, known.clone()))
        };
        let mut all: Vec<Vec<Outcome>> = Vec::new();
        let kept = room.search(self.settings, |policies| {
            let outcomes = self.outcomes(policies, draws, build);
            all.extend(outcomes.iter().cloned());
            outcomes
        });
        let best = best_together(&all, self.reference(), self.settings.kept as usize);
        self.note(&all, &best, account);
        let steady = match self.unbounded(first) {
            None => Some(self.steady(bursts, latency, throughput_per_s, account)?),
            Some(_) => None,
        };
        let bound = steady.as_ref().map(|steady| BurstBound {
            bursts,
            steady,
            throughput_per_s,
            cold_start_s: first.scale_up_delay_s,
            usd_per_replica_s: fluid.usd_per_replica_s(),
            forgiven: 1.0 - share,
            min_replicas: first.cluster.min_replicas,
        });
        let spells = |seed: u64| Spells::of(bursts, &bursts.phases(seed), first.scale_up_delay_s);
        if let Some(bound) = &bound {
            let longest_s = self.reference().1;
            account.bounds.extend(self.subject.groups.iter().map(|group| SeedBound {
                seed: group.cell.seed,
                points: bound.curve(spells(group.cell.seed), longest_s),
            }));
        }
        let bound_usd = |seed: u64, latency_s: f64| bound.as_ref()?.cost_usd(spells(seed), latency_s);
        self.rows(&kept, |policy| json!(policy), bound_usd, account, build)
    }

    /// What policies for bursts know of these runs, and where they are searched.
    fn known(&self, bursts: &BurstLaw, first: &RunInputs, reference: (f64, f64)) -> (Known, Room) {
        let (latency, share) =
            quantile(&self.plan.grid.objectives.latency).unwrap_or((Latency::EndToEnd, 0.9));
        let fluid = FluidBound::new(first);
        let throughput_per_s = bound::throughput_per_s(&fluid, first.workload);
        let known = Known {
            bursts: bursts.clone(),
            latency,
            tick_s: self.settings.step_s,
            cold_start_s: first.lead_s(),
            max_replicas: first.cluster.max_replicas,
        };
        let room = Room {
            bursts: bursts.clone(),
            busy_quiet: bursts.base_rate_per_s / throughput_per_s,
            busy_burst: bursts.burst_rate_per_s / throughput_per_s,
            max_replicas: first.cluster.max_replicas,
            reference,
            fastest_s: fluid.fastest_s(),
            forgiven: 1.0 - share,
        };
        (known, room)
    }

    fn note(&self, all: &[Vec<Outcome>], kept: &[usize], account: &mut EdgeAccount) {
        let draws = all.first().map_or(0, Vec::len);
        let dominated = |draw: usize| {
            oracle::informed::dominated(kept.iter().filter_map(|&policy| all[policy][draw]), self.reference())
        };
        account.policies_tried = all.len() as u64;
        account.policies_kept = kept.len() as u64;
        account.simulations += (all.len() * draws) as u64;
        account.fitted = Some((0..draws).map(dominated).sum::<f64>() / draws.max(1) as f64);
    }

    /// Why no bound is known here, if none is.
    fn unbounded(&self, inputs: &RunInputs) -> Option<&'static str> {
        let objectives = &self.plan.grid.objectives;
        let cluster = inputs.cluster;
        if objectives.cost != "total_cost_usd" || quantile(&objectives.latency).is_none() {
            Some("the objectives are not a quantile of latency and dollars in all")
        } else if cluster.failures.any()
            || cluster.cold_start.spread_s > 0.0
            || cluster.cold_start.measured.is_some()
        {
            Some("replicas fail, or start in times that are drawn")
        } else if !cluster.cold_start.spares.is_empty() {
            Some("replicas start from spares")
        } else {
            None
        }
    }

    /// Latencies in the steady state of quiet time and of bursts, with as many replicas as could be worth it.
    fn steady(
        &self,
        bursts: &Bursts,
        latency: Latency,
        throughput_per_s: f64,
        account: &mut EdgeAccount,
    ) -> Result<Steady, String> {
        /// Of each state, so that a share of a thousandth is known to a tenth of it.
        const REQUESTS: f64 = 100_000.0;
        const SEED: u64 = 1;
        let min = self.subject.groups[0].cell.cluster.min_replicas;
        let most =
            (2.0 * bursts.burst_rate_per_s.max(bursts.base_rate_per_s) / throughput_per_s).ceil() as u32 + 2;
        let fleets: Vec<u32> =
            (min..=most.clamp(min, self.subject.groups[0].cell.cluster.max_replicas)).collect();
        let of_rate = |rate_per_s: f64| -> Result<Vec<Option<Vec<f64>>>, String> {
            if rate_per_s == 0.0 {
                return Ok(vec![Some(Vec::new()); fleets.len()]);
            }
            let mut spec = self.spec().clone();
            let poisson = Poisson {
                phases: Vec::new(),
                rate_per_s: Some(rate_per_s),
                duration_s: Some(REQUESTS / rate_per_s),
            };
            if let Some(generate) = &mut spec.generate {
                generate.arrivals = Some(Arrivals::Poisson(poisson));
            }
            let workload = self.draw(&spec, SEED)?;
            let of_fleet = |&replicas: &u32| -> Result<Option<Vec<f64>>, String> {
                if f64::from(replicas) * throughput_per_s <= 1.01 * rate_per_s {
                    return Ok(None);
                }
                let autoscaler: AutoscalerSettings =
                    serde_json::from_value(json!({"static": {"replicas": replicas}}))
                        .map_err(|error| error.to_string())?;
                let inputs = RunInputs {
                    limits: Limits { check: false, ..Limits::default() },
                    ..self.inputs(&workload, &autoscaler, SEED)?
                };
                let parts = Parts::of(&inputs);
                let ended =
                    self.workspaces.run(|workspace| simulate_parts_in_detail(&inputs, parts, workspace))?;
                self.progress.run_ended(workload.len() as u64);
                let (_, detail) = ended.map_err(|error| error.to_string())?;
                Ok(Some(latencies(&detail.requests, latency)))
            };
            fleets.par_iter().with_max_len(1).map(of_fleet).collect()
        };
        let steady =
            Steady { quiet: of_rate(bursts.base_rate_per_s)?, burst: of_rate(bursts.burst_rate_per_s)? };
        account.simulations += steady.quiet.iter().chain(&steady.burst).flatten().count() as u64;
        Ok(steady)
    }

    /// Runs the policies kept on the sweep's own draws: rows of those that no other beats, by seed.
    fn rows<P: Sync>(
        &self,
        kept: &[P],
        told: impl Fn(&P) -> Value,
        bound_usd: impl Fn(u64, f64) -> Option<f64>,
        account: &mut EdgeAccount,
        build: impl Fn(&P, &RunInputs) -> Box<dyn Autoscaler> + Sync,
    ) -> Result<Vec<RunRow>, String> {
        let [latency, cost] = self.plan.grid.objectives.metrics().map(|(_, metric)| objective(metric));
        let mut rows = Vec::new();
        for group in &self.subject.groups {
            let inputs = run_inputs(&group.cell, &self.plan.inputs)?;
            let ended: Vec<Option<RunMetrics>> = kept
                .par_iter()
                .with_max_len(1)
                .map(|policy| self.one(&inputs, build(policy, &inputs)))
                .collect();
            account.simulations += kept.len() as u64;
            let mut points: Vec<(f64, f64, &P, &RunMetrics)> = kept
                .iter()
                .zip(&ended)
                .filter_map(|(policy, metrics)| {
                    let metrics = metrics.as_ref()?;
                    Some((cost(metrics)?, latency(metrics)?, policy, metrics))
                })
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let mut least = f64::INFINITY;
            for (_, latency, policy, metrics) in points {
                if latency >= least {
                    continue;
                }
                least = latency;
                let bound = bound_usd(group.cell.seed, latency).map_or(Scalar::Null, Scalar::Float);
                let mut columns = vec![
                    ("workload".into(), Scalar::Text(group.cell.workload_name())),
                    ("seed".into(), Scalar::Int(group.cell.seed as i64)),
                    ("found_by".into(), Scalar::Text("informed".into())),
                    ("bound_usd".into(), bound),
                    ("policy".into(), Scalar::Text(told(policy).to_string())),
                ];
                let is_policys = |name: &str| name == "autoscaler" || name.starts_with("autoscaler.");
                columns.extend(
                    settings_of(&self.plan.inputs, &group.cell)
                        .into_iter()
                        .filter(|(name, _)| !is_policys(name)),
                );
                columns.extend(metrics.columns().into_iter().map(|(name, value)| (name, scalar(value))));
                rows.push(RunRow { columns });
            }
        }
        Ok(rows)
    }
}

/// Sorted; without the first twentieth, which finds everything empty.
fn latencies(requests: &[RequestRecord], of: Latency) -> Vec<f64> {
    let settled = &requests[requests.len() / 20..];
    let mut latencies: Vec<f64> = settled
        .iter()
        .filter_map(|request| {
            let ended = match of {
                Latency::EndToEnd => request.completed_at_s,
                Latency::FirstToken => request.first_token_at_s,
            };
            Some(ended? - request.arrived_at_s)
        })
        .collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}
