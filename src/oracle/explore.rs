//! The search: keeps the non-dominated fleets and changes them.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::moments::Moments;
use super::{FluidBound, OracleSettings, ReplicaSchedule, ScheduleLimits};
use crate::simulation::RunInputs;

/// A schedule for each pool; one where there are no pools.
pub(super) type Schedules = Vec<ReplicaSchedule>;

/// Most fleets of constant size that a search for several pools starts from.
const MOST_CONSTANTS: usize = 400;

/// Constant schedules, from which every search for one pool starts: neighbours differ by an eighth at most,
/// or by one.
fn constants_of_pool(limits: &ScheduleLimits) -> impl Iterator<Item = ReplicaSchedule> {
    let most = limits.max_replicas;
    let counts = std::iter::successors(Some(limits.min_replicas.max(1)), move |&n| {
        (n < most).then(|| (n + 1).max(n * 9 / 8).min(most))
    });
    counts.map(ReplicaSchedule::constant)
}

/// Fleets that follow traffic have so many replicas for each that the work would keep busy.
const FOLLOWERS_ROOM: [f64; 6] = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0];
/// Over how long they look at it, in cold starts: half before, half after now.
const FOLLOWERS_WIDTH: [f64; 4] = [1.0, 4.0, 16.0, 64.0];
/// How much of a fleet follows traffic; the rest is constant.
const FOLLOWERS_SHARE: [f64; 2] = [1.0, 0.5];
pub(super) const FOLLOWERS: usize = FOLLOWERS_ROOM.len() * FOLLOWERS_WIDTH.len() * FOLLOWERS_SHARE.len();

/// Schedules of a pool that follow traffic.
fn followers_of_pool(moments: &Moments, limits: &ScheduleLimits, replicas: f64) -> Vec<ReplicaSchedule> {
    let unit_s = limits.scale_up_delay_s.max(limits.step_s);
    let mut schedules = Vec::with_capacity(FOLLOWERS);
    for width in FOLLOWERS_WIDTH {
        let rates: Vec<(f64, f64)> = moments.relative_rates(width * unit_s).collect();
        for share in FOLLOWERS_SHARE {
            schedules.extend(FOLLOWERS_ROOM.map(|room| {
                let wanted =
                    rates.iter().map(|&(at_s, rate)| (at_s, room * replicas * (share * rate + 1.0 - share)));
                ReplicaSchedule::following(wanted.map(|(at_s, wanted)| (at_s, wanted.round() as u32)))
            }));
        }
    }
    schedules
}

/// Fleets of constant size, from which every search starts: all there are of those of each pool, or, if these
/// are too many, of every other, third and so on, and the last.
pub(super) fn constants(limits: &[ScheduleLimits]) -> Vec<Schedules> {
    let of_pools: Vec<Schedules> = limits.iter().map(|limits| constants_of_pool(limits).collect()).collect();
    let mut apart = 1;
    let thinned = |apart: usize| -> Vec<Schedules> {
        let thin = |of_pool: &Schedules| {
            let last = of_pool.len() - 1;
            of_pool
                .iter()
                .enumerate()
                .filter(|(i, _)| i % apart == 0 || *i == last)
                .map(|(_, schedule)| schedule.clone())
                .collect()
        };
        of_pools.iter().map(thin).collect()
    };
    while limits.len() > 1
        && apart < 1000
        && thinned(apart).iter().map(Vec::len).product::<usize>() > MOST_CONSTANTS
    {
        apart += 1;
    }
    thinned(apart).iter().fold(vec![Vec::new()], |fleets, of_pool| {
        let with = |fleet: &Schedules, schedule: &ReplicaSchedule| {
            fleet.iter().cloned().chain([schedule.clone()]).collect()
        };
        fleets.iter().flat_map(|fleet| of_pool.iter().map(|schedule| with(fleet, schedule))).collect()
    })
}

/// Fleets that follow traffic, from which every search starts, too: all pools alike.
pub(super) fn followers(
    moments: &Moments,
    limits: &[ScheduleLimits],
    busy_replicas: &[f64],
) -> Vec<Schedules> {
    let of_pools: Vec<Schedules> = std::iter::zip(limits, busy_replicas)
        .map(|(limits, &busy)| followers_of_pool(moments, limits, busy))
        .collect();
    (0..FOLLOWERS).map(|number| of_pools.iter().map(|of_pool| of_pool[number].clone()).collect()).collect()
}

/// What a search sees of traffic.
#[derive(Debug, Clone)]
pub(super) struct Traffic<'a> {
    pub arrived_at_s: &'a [f64],
    pub duration_s: f64,
    /// Replicas that the work keeps busy, by pools.
    pub busy_replicas: Vec<f64>,
    /// Of the search.
    pub seed: u64,
}

impl<'a> Traffic<'a> {
    pub fn of(inputs: &RunInputs<'a>, fluid_bound: &FluidBound, settings: &OracleSettings) -> Self {
        Self {
            arrived_at_s: &inputs.workload.arrived_at_s,
            duration_s: inputs.workload.end_s(),
            busy_replicas: vec![fluid_bound.work_s() / inputs.workload.end_s().max(settings.step_s)],
            seed: settings.search_seed ^ inputs.seed.rotate_left(32),
        }
    }
}

/// Cost, latency and whatever else, of a schedule that counts.
pub(super) type Judged<M> = Option<(f64, f64, M)>;

pub(super) fn explore<M>(
    limits: &[ScheduleLimits],
    traffic: &Traffic,
    starts: &[Schedules],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    progress: &mut dyn FnMut(u64),
    mut evaluate: impl FnMut(&[Schedules]) -> Vec<Judged<M>>,
) -> (Vec<Entry<M>>, u64) {
    let duration_s = traffic.duration_s;
    let moments = Moments::new(traffic.arrived_at_s, duration_s, settings.step_s);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(traffic.seed);
    let mut front = Front { points: Vec::new(), most: settings.archive as usize, reference };
    let followers = followers(&moments, limits, &traffic.busy_replicas);
    let all_starts = starts.iter().cloned().chain(constants(limits)).chain(followers);
    let mut pending: Vec<Schedules> = all_starts.map(|start| within(&start, limits)).collect();
    pending.reverse();
    let (mut done, all) = (0, pending.len() as u64 + u64::from(settings.budget));
    while done < all {
        let count = u64::from(settings.batch).min(all - done) as usize;
        let candidates: Vec<Schedules> = (0..count)
            .map(|_| {
                pending.pop().unwrap_or_else(|| front.variant(limits, &moments, duration_s, &mut random))
            })
            .collect();
        for (schedules, judged) in candidates.iter().zip(evaluate(&candidates)) {
            if let Some((cost, latency, judged)) = judged {
                front.offer(Entry { schedules: schedules.clone(), latency, cost, judged });
            }
        }
        done += count as u64;
        progress(done);
    }
    (front.points, done)
}

fn within(schedules: &[ReplicaSchedule], limits: &[ScheduleLimits]) -> Schedules {
    std::iter::zip(schedules, limits).map(|(schedule, limits)| schedule.within(limits)).collect()
}

pub(super) struct Entry<M> {
    pub schedules: Schedules,
    latency: f64,
    cost: f64,
    pub judged: M,
}

/// Non-dominated schedules in order of rising cost, hence falling latency.
struct Front<M> {
    points: Vec<Entry<M>>,
    most: usize,
    reference: Option<(f64, f64)>,
}

impl<M> Front<M> {
    fn offer(&mut self, entry: Entry<M>) {
        let cost = entry.cost;
        let beaten = |by: &Entry<M>| by.cost <= cost && by.latency <= entry.latency;
        if self.points.iter().any(beaten) {
            return;
        }
        let within = |cost: f64, latency: f64| {
            self.reference.is_none_or(|(most_cost, most)| cost < most_cost && latency < most)
        };
        if !within(cost, entry.latency) && self.points.iter().any(|point| within(point.cost, point.latency)) {
            return;
        }
        self.points.retain(|point| point.cost < cost || point.latency < entry.latency);
        let place = self.points.partition_point(|point| point.cost < cost);
        self.points.insert(place, entry);
        if self.points.len() > self.most {
            // The one whose rectangle beyond its neighbours is smallest is missed least; the ends stay.
            let area = |i: usize| {
                (self.points[i + 1].cost / self.points[i].cost - 1.0)
                    * (self.points[i - 1].latency / self.points[i].latency - 1.0)
            };
            let least = (1..self.points.len() - 1)
                .min_by(|&a, &b| area(a).total_cmp(&area(b)))
                .expect("more than two points");
            self.points.remove(least);
        }
    }

    /// A random change of a random point: of one pool's schedule, or of all pools' from some time on.
    fn variant(
        &self,
        limits: &[ScheduleLimits],
        moments: &Moments,
        duration_s: f64,
        random: &mut Xoshiro256PlusPlus,
    ) -> Schedules {
        let Some(last) = self.points.len().checked_sub(1) else {
            return limits.iter().map(|limits| ReplicaSchedule::constant(limits.initial_replicas)).collect();
        };
        let index = random.random_range(0..=last);
        let mut schedules = self.points[index].schedules.clone();
        let one = |random: &mut Xoshiro256PlusPlus| if random.random_bool(0.5) { 1 } else { -1 };
        // Of one pool nothing is drawn.
        let pool = |random: &mut Xoshiro256PlusPlus| {
            if limits.len() > 1 { random.random_range(0..limits.len()) } else { 0 }
        };
        match random.random_range(0..20) {
            0..10 => {
                for _ in 0..random.random_range(1..=2) {
                    let pool = pool(random);
                    schedules[pool] = schedules[pool].bumped(&moments.alike(random), one(random));
                }
            }
            10..17 => {
                for _ in 0..random.random_range(1..=2) {
                    let pool = pool(random);
                    let spell = spell(&schedules[pool], duration_s, limits[pool].step_s, random);
                    schedules[pool] = schedules[pool].bumped(&[spell], one(random));
                }
            }
            _ => {
                // Neighbours on the front are alike, so their parts fit.
                let other = (index + random.random_range(1..=8)).saturating_sub(4).min(last);
                let at_s = random.random_range(0.0..1.0) * duration_s;
                let others = &self.points[other].schedules;
                schedules = std::iter::zip(&schedules, others)
                    .map(|(before, after)| before.spliced(at_s, after))
                    .collect();
            }
        }
        within(&schedules, limits)
    }
}

/// From one time to another: anything from a step to the run, its ends often where steps are.
fn spell(
    schedule: &ReplicaSchedule,
    duration_s: f64,
    step_s: f64,
    random: &mut Xoshiro256PlusPlus,
) -> (f64, f64) {
    let length_s = step_s * libm::pow((duration_s / step_s).max(1.0), random.random_range(0.0..1.0));
    let steps = schedule.steps();
    let snapped = steps[random.random_range(0..steps.len())].0;
    let from_s = match random.random_range(0..4) {
        0 => snapped,
        1 => snapped - length_s,
        _ => random.random_range(0.0..1.0) * duration_s,
    };
    let to_s = match steps.iter().find(|step| step.0 > from_s) {
        Some(next) if random.random_bool(0.25) => next.0,
        _ => from_s + length_s,
    };
    (from_s.max(0.0), to_s)
}
