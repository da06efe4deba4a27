//! The search: in each arm a pattern search, all arms side by side, restarts as long as the budget lasts.
//!
//! From the middle of an arm a step along one axis at a time, a quarter of the axis wide at first; if it
//! leads to a better setting, on from there; if none does, half as wide. Better is: keeps the limits at less
//! cost; else keeps them and is less dear; else breaks them later and by less. What separates too dear from
//! too slow is so found by halving, as in a bisection, on every axis. Where the best was found and its arm's
//! search has ended, a few steps more are looked at on every axis.

use std::collections::BTreeMap;

use super::race::{End, Race, Standing};
use super::space::{Arm, Candidate, spread};
use crate::sweep::run::Progress;

/// Starts of each arm after the first, at most: what they did not find is hardly found by more.
const MOST_RESTARTS: u64 = 64;
const BASES: [u64; 8] = [2, 3, 5, 7, 11, 13, 17, 19];

/// Where the search of one arm stands.
#[derive(Debug, Clone)]
struct Climb {
    centre: Vec<usize>,
    /// Width of a step along each axis; 0 where there is no further.
    steps: Vec<usize>,
    /// The direction that led to something better last, by axis.
    towards: Vec<bool>,
    /// Next start.
    restart: u64,
    done: bool,
}

impl Climb {
    fn from(arm: &Arm, centre: Vec<usize>) -> Self {
        let steps = arm.sizes.iter().map(|size| if *size > 1 { size.div_ceil(4) } else { 0 }).collect();
        let towards = vec![true; arm.sizes.len()];
        Self { centre, steps, towards, restart: 1, done: false }
    }

    /// Places one step away, by axis, the likely direction first.
    fn around(&self, arm: &Arm) -> Vec<(usize, bool, Vec<usize>)> {
        let mut places = Vec::new();
        for axis in 0..self.steps.len() {
            for up in [self.towards[axis], !self.towards[axis]] {
                let step = self.steps[axis];
                let moved = match up {
                    true => (self.centre[axis] + step).min(arm.sizes[axis] - 1),
                    false => self.centre[axis].saturating_sub(step),
                };
                if moved != self.centre[axis] {
                    let mut place = self.centre.clone();
                    place[axis] = moved;
                    places.push((axis, up, place));
                }
            }
        }
        places
    }

    /// Goes on as far as standings are known. The settings to run next: one, or all around if `wide`; none
    /// once nothing around is better.
    fn next(&mut self, arm: &Arm, standings: &BTreeMap<Candidate, Standing>, wide: bool) -> Vec<Candidate> {
        loop {
            let Some(centre) = arm.at(&self.centre) else { return Vec::new() };
            let Some(here) = standings.get(&centre) else { return vec![centre] };
            let around = self.around(arm);
            let known =
                |place: &Vec<usize>| arm.at(place).map(|candidate| (candidate, standings.get(&candidate)));
            let mut unknown = Vec::new();
            let mut moved = None;
            for (axis, up, place) in around {
                match known(&place) {
                    Some((_, Some(standing))) if standing.order(here).is_lt() && unknown.is_empty() => {
                        moved = Some((axis, up, place));
                        break;
                    }
                    Some((candidate, None)) => unknown.push(candidate),
                    _ => {}
                }
            }
            if let Some((axis, up, place)) = moved {
                self.centre = place;
                self.towards[axis] = up;
                continue;
            }
            if !unknown.is_empty() {
                unknown.truncate(if wide { usize::MAX } else { 1 });
                return unknown;
            }
            if self.steps.iter().all(|&step| step <= 1) {
                self.done = true;
                return Vec::new();
            }
            self.steps.iter_mut().for_each(|step| *step = if *step > 1 { *step / 2 } else { *step });
        }
    }

    /// A place that has not been looked at, from a sequence that fills the arm evenly.
    fn start_anew(&mut self, arm: &Arm, standings: &BTreeMap<Candidate, Standing>) -> bool {
        while self.restart <= MOST_RESTARTS {
            let number = self.restart;
            self.restart += 1;
            let axis = |(axis, size): (usize, &usize)| {
                (spread(number, BASES[axis % BASES.len()]) * *size as f64) as usize
            };
            let place: Vec<usize> = arm.sizes.iter().enumerate().map(axis).collect();
            if arm.at(&place).is_some_and(|candidate| !standings.contains_key(&candidate)) {
                *self = Self { restart: self.restart, ..Self::from(arm, place) };
                return true;
            }
        }
        false
    }
}

/// How many steps away from the best is looked once its arm's search has ended: a limit is kept or broken by
/// the chance of seeds, so what is better may lie behind what is not.
const LOOK_AROUND: usize = 3;

/// Of the arms that are still searched, one in so many goes on in each heat, the most promising.
const ONE_IN: usize = 4;

/// Arms that run in one heat at most: no more threads than that are ever busy, and no fewer runs decide what
/// comes next.
const HEAT: usize = 32;

/// Searches until the budget is used up, or nothing is left to look at.
pub fn search(arms: &[Arm], race: &mut Race, progress: &dyn Progress) -> Result<(), End> {
    let mut climbs: Vec<Climb> = arms.iter().map(|arm| Climb::from(arm, arm.middle())).collect();
    // Every arm once before any is looked at closely; where they are more than the budget, evenly chosen.
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by(|&a, &b| spread(a as u64, 2).total_cmp(&spread(b as u64, 2)));
    for heat in order.chunks(HEAT) {
        let starts: Vec<Candidate> =
            heat.iter().filter_map(|&arm| arms[arm].at(&climbs[arm].centre)).collect();
        race.heat(&starts, progress)?;
    }
    loop {
        let mut active: Vec<usize> = (0..arms.len()).filter(|&arm| !climbs[arm].done).collect();
        let mut next = around_the_best(arms, &climbs, race);
        if active.is_empty() && next.is_empty() {
            let anew = |arm: &usize| climbs[*arm].start_anew(&arms[*arm], &race.standings);
            active = by_promise(arms, race).into_iter().filter(anew).take(HEAT).collect();
            if active.is_empty() {
                return Ok(());
            }
        }
        // The better ones first: what is far from the best may not be worth a look once the best is known.
        let promise = by_promise(arms, race);
        active.sort_by_key(|arm| promise.iter().position(|other| other == arm));
        // With few arms to go on in, each looks around at once: threads would wait otherwise.
        let wide = active.len() <= 2;
        for &arm in active.iter().take(active.len().div_ceil(ONE_IN).clamp(2, HEAT)) {
            next.extend(climbs[arm].next(&arms[arm], &race.standings, wide));
        }
        if !next.is_empty() {
            race.heat(&next, progress)?;
        }
    }
}

/// The places nearest to the best, on one axis each, that have not been looked at, if the searches of all
/// arms that hold it have ended.
fn around_the_best(arms: &[Arm], climbs: &[Climb], race: &Race) -> Vec<Candidate> {
    let Some((best, _)) = race.best else { return Vec::new() };
    let holding = |arm: usize| {
        arms[arm].places().find(|(_, candidate)| **candidate == best).map(|(place, _)| (arm, place.clone()))
    };
    let held: Vec<(usize, Vec<usize>)> = (0..arms.len()).filter_map(holding).collect();
    if held.iter().any(|&(arm, _)| !climbs[arm].done) {
        return Vec::new();
    }
    let at = |arm: usize, place: &[usize], axis: usize, moved: Option<usize>| {
        let mut place = place.to_vec();
        place[axis] = moved?;
        arms[arm].at(&place).filter(|candidate| !race.standings.contains_key(candidate))
    };
    let away = |steps: usize| -> Vec<Candidate> {
        let mut found = Vec::new();
        for (arm, place) in &held {
            for axis in 0..place.len() {
                let moved = [place[axis].checked_sub(steps), Some(place[axis] + steps)];
                found.extend(moved.into_iter().filter_map(|moved| at(*arm, place, axis, moved)));
            }
        }
        found
    };
    (1..=LOOK_AROUND).map(away).find(|found| !found.is_empty()).unwrap_or_default()
}

/// Arms by the best that each has shown.
fn by_promise(arms: &[Arm], race: &Race) -> Vec<usize> {
    let best: Vec<Option<&Standing>> = arms
        .iter()
        .map(|arm| {
            arm.places().filter_map(|(_, candidate)| race.standings.get(candidate)).min_by(|a, b| a.order(b))
        })
        .collect();
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by(|&a, &b| match (best[a], best[b]) {
        (Some(a), Some(b)) => a.order(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    order
}
