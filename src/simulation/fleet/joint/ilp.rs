//! The integer program of a fleet: how many replicas of each pool serve most of what is wanted, and of all
//! such fleets the cheapest.
//!
//! Wanted is capacity: for each model and role what the replicas that its pools' policies want would compute.
//! Variables are the replicas of the pools that move, each within its bounds, all within the budget. First
//! the squares of the shares of what is wanted that models do not get, weighed by priority, are made as small
//! as they can be (a model gets what the scarcer of its roles allows; squares, since waiting grows faster
//! than what is missing, and nobody is to go without for the others' last replica); then the dollars as few,
//! of replicas over the horizon and of starts. After SageServe (arXiv:2502.14617), whose program covers a
//! forecast at least cost; here policies forecast.
//!
//! Solved exactly, by extending partial fleets pool by pool and dropping those that another is no worse than
//! in everything; the tests list all fleets. Of equals the one nearest to what there is wins.

/// A pool as the program knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Its model and, within that, its role, by their numbers.
    pub model: usize,
    pub role: usize,
    /// Replicas there are, are wanted, and may be: least and most. Both are what there is where no policy
    /// decides.
    pub now: u32,
    pub wanted: u32,
    pub bounds: (u32, u32),
    pub tokens_per_s: f64,
    /// What a replica costs over the horizon, and what its start does beside.
    pub usd: f64,
    pub start_usd: f64,
    /// Which limit of the budget it takes from, and how much.
    pub limit: usize,
    pub unit: f64,
}

/// Sums of what replicas compute, take or cost are equal to within this.
const TOLERANCE: f64 = 1e-9;

/// Part of a fleet.
#[derive(Debug, Clone)]
struct Partial {
    /// What it has of what is to be had most of: capacity, shares of what is wanted, or the opposite of what
    /// models miss.
    gain: f64,
    usd: f64,
    used: Vec<f64>,
    replicas: Vec<u32>,
}

/// Replicas by pools. `limits` are those of the budget, `priority` is by models.
pub fn solve(pools: &[Member], limits: &[f64], priority: &[f64]) -> Vec<u32> {
    let nothing = Partial {
        gain: 0.0,
        usd: 0.0,
        used: vec![0.0; limits.len()],
        replicas: pools.iter().map(|pool| pool.now).collect(),
    };
    // What has to be there in any case.
    let least = |limit: usize, outside: &dyn Fn(&Member) -> bool| -> f64 {
        pools
            .iter()
            .filter(|pool| pool.limit == limit && outside(pool))
            .map(|pool| f64::from(pool.bounds.0) * pool.unit)
            .sum()
    };
    let mut fleets = vec![nothing.clone()];
    for (model, &weight) in priority.iter().enumerate() {
        let room: Vec<f64> = (0..limits.len())
            .map(|limit| limits[limit] - least(limit, &|pool| pool.model != model))
            .collect();
        let mut of_model: Option<Vec<Partial>> = None;
        for role in roles(pools, model) {
            let members: Vec<usize> = (0..pools.len())
                .filter(|&pool| (pools[pool].model, pools[pool].role) == (model, role))
                .collect();
            let shares = shares_of_wanted(pools, &members, &nothing, &room);
            of_model = Some(match of_model {
                None => shares,
                // Both roles have a part in every request: the scarcer binds.
                Some(before) => combined(&before, &shares, &nothing, &room, f64::min),
            });
        }
        let Some(mut of_model) = of_model else { continue };
        of_model.iter_mut().for_each(|partial| partial.gain = -weight * (1.0 - partial.gain).powi(2));
        let later: Vec<f64> =
            (0..limits.len()).map(|limit| limits[limit] - least(limit, &|pool| pool.model > model)).collect();
        fleets = combined(&fleets, &of_model, &nothing, &later, |a, b| a + b);
    }
    let best = fleets.into_iter().reduce(|best, other| if is_better(&other, &best) { other } else { best });
    best.map_or_else(|| nothing.replicas, |best| best.replicas)
}

/// Roles that pools of a model have, each once, in their order.
fn roles(pools: &[Member], model: usize) -> Vec<usize> {
    let mut roles: Vec<usize> =
        pools.iter().filter(|pool| pool.model == model).map(|pool| pool.role).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// What pools of one model and role can do together: gains are shares of what is wanted of them, at most all
/// of it.
fn shares_of_wanted(pools: &[Member], members: &[usize], nothing: &Partial, room: &[f64]) -> Vec<Partial> {
    let wanted: f64 =
        members.iter().map(|&pool| f64::from(pools[pool].wanted) * pools[pool].tokens_per_s).sum();
    let mut partials = vec![nothing.clone()];
    for &number in members {
        let pool = &pools[number];
        let enough = ((wanted / pool.tokens_per_s) * (1.0 - TOLERANCE)).ceil();
        let (least, most) = pool.bounds;
        let most = most.min(if enough < f64::from(u32::MAX) { enough as u32 } else { u32::MAX }).max(least);
        // Those nearest to what there is first: they win among equals.
        let mut counts: Vec<u32> = (least..=most).collect();
        counts.sort_by_key(|&count| (count.abs_diff(pool.now), count));
        let alone: Vec<Partial> = counts
            .into_iter()
            .map(|count| {
                let mut partial = nothing.clone();
                partial.gain = f64::from(count) * pool.tokens_per_s;
                partial.usd =
                    f64::from(count) * pool.usd + f64::from(count.saturating_sub(pool.now)) * pool.start_usd;
                partial.used[pool.limit] = f64::from(count) * pool.unit;
                partial.replicas[number] = count;
                partial
            })
            .collect();
        partials = combined(&partials, &alone, nothing, room, |a, b| (a + b).min(wanted));
    }
    let share = |gain: f64| if wanted > 0.0 { (gain / wanted).min(1.0) } else { 1.0 };
    partials.iter_mut().for_each(|partial| partial.gain = share(partial.gain));
    partials
}

/// All pairs that fit, but those that another is no worse than.
fn combined(
    some: &[Partial],
    others: &[Partial],
    nothing: &Partial,
    room: &[f64],
    gain: impl Fn(f64, f64) -> f64,
) -> Vec<Partial> {
    let mut pairs: Vec<Partial> = Vec::new();
    for one in some {
        for other in others {
            let used: Vec<f64> = std::iter::zip(&one.used, &other.used).map(|(a, b)| a + b).collect();
            if std::iter::zip(&used, room).any(|(used, room)| *used > room + TOLERANCE * room.abs()) {
                continue;
            }
            let changed =
                |(place, (a, b)): (usize, (&u32, &u32))| if b == &nothing.replicas[place] { *a } else { *b };
            let replicas = std::iter::zip(&one.replicas, &other.replicas).enumerate().map(changed).collect();
            pairs.push(Partial {
                gain: gain(one.gain, other.gain),
                usd: one.usd + other.usd,
                used,
                replicas,
            });
        }
    }
    // Best first; a stable order, so that the nearest stay ahead of their equals.
    pairs.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.usd.total_cmp(&b.usd)));
    let mut kept: Vec<Partial> = Vec::new();
    for pair in pairs {
        let is_no_better = |kept: &Partial| {
            kept.gain >= pair.gain
                && kept.usd <= pair.usd
                && std::iter::zip(&kept.used, &pair.used).all(|(kept, used)| kept <= used)
        };
        if !kept.iter().any(is_no_better) {
            kept.push(pair);
        }
    }
    kept
}

/// Whether it serves more, or as much for less.
fn is_better(one: &Partial, other: &Partial) -> bool {
    let scale = one.gain.abs().max(other.gain.abs()).max(1.0);
    if (one.gain - other.gain).abs() > TOLERANCE * scale {
        return one.gain > other.gain;
    }
    one.usd < other.usd - TOLERANCE * one.usd.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All fleets, one by one: the best share, and the fewest dollars among those that have it.
    fn listed(pools: &[Member], limits: &[f64], priority: &[f64]) -> Option<(f64, f64)> {
        let mut best: Option<(f64, f64)> = None;
        let mut counts: Vec<u32> = pools.iter().map(|pool| pool.bounds.0).collect();
        loop {
            if let Some((gain, usd)) = worth(pools, limits, priority, &counts) {
                let is_better = best
                    .is_none_or(|(most, least)| gain > most + 1e-7 || (gain > most - 1e-7 && usd < least));
                best = if is_better { Some((gain, usd)) } else { best };
            }
            let Some(place) = (0..pools.len()).find(|&place| counts[place] < pools[place].bounds.1) else {
                return best;
            };
            counts[place] += 1;
            counts[..place].iter_mut().zip(pools).for_each(|(count, pool)| *count = pool.bounds.0);
        }
    }

    /// Weighed shares and dollars of a fleet, if it is within the limits.
    fn worth(pools: &[Member], limits: &[f64], priority: &[f64], counts: &[u32]) -> Option<(f64, f64)> {
        for (limit, most) in limits.iter().enumerate() {
            let used: f64 = std::iter::zip(pools, counts)
                .filter(|(pool, _)| pool.limit == limit)
                .map(|(pool, &count)| f64::from(count) * pool.unit)
                .sum();
            if used > most * (1.0 + 1e-9) {
                return None;
            }
        }
        let share = |model: usize, role: usize| {
            let of = || {
                std::iter::zip(pools, counts)
                    .filter(move |(pool, _)| (pool.model, pool.role) == (model, role))
            };
            let wanted: f64 = of().map(|(pool, _)| f64::from(pool.wanted) * pool.tokens_per_s).sum();
            let there: f64 = of().map(|(pool, &count)| f64::from(count) * pool.tokens_per_s).sum();
            if wanted > 0.0 { (there / wanted).min(1.0) } else { 1.0 }
        };
        let missing = |model: usize| 1.0 - f64::min(share(model, 0), share(model, 1));
        let gain = priority
            .iter()
            .enumerate()
            .map(|(model, weight)| -weight * missing(model) * missing(model))
            .sum();
        let bill = |(pool, &count): (&Member, &u32)| {
            f64::from(count) * pool.usd + f64::from(count.saturating_sub(pool.now)) * pool.start_usd
        };
        Some((gain, std::iter::zip(pools, counts).map(bill).sum()))
    }

    fn any_pool() -> impl Strategy<Value = Member> {
        let counts = (0_u32..4, 0_u32..6, 0_u32..3, 0_u32..4);
        let facts = (0_usize..2, 0_usize..2, 1_u32..5, 1_u32..9, 0_u32..4, 0_usize..2);
        (counts, facts).prop_map(
            |((now, wanted, least, more), (model, role, speed, usd, start_usd, limit))| Member {
                model,
                role,
                now: now.clamp(least, least + more),
                wanted: wanted.clamp(least, least + more),
                bounds: (least, least + more),
                tokens_per_s: f64::from(speed) * 0.7,
                usd: f64::from(usd) * 0.3,
                start_usd: f64::from(start_usd) * 0.1,
                limit,
                unit: f64::from(speed),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_fleet_serves_more_or_as_much_for_less(
            pools in prop::collection::vec(any_pool(), 1..6), room in (0_u32..20, 0_u32..20), weight in 1_u32..4,
        ) {
            let least = |limit: usize| -> f64 {
                pools.iter().filter(|pool| pool.limit == limit).map(|pool| f64::from(pool.bounds.0) * pool.unit).sum()
            };
            let limits = [least(0) + f64::from(room.0), least(1) + f64::from(room.1)];
            let priority = [1.0, f64::from(weight)];
            let found = worth(&pools, &limits, &priority, &solve(&pools, &limits, &priority)).expect("within the limits");
            let best = listed(&pools, &limits, &priority).unwrap();
            prop_assert!((found.0 - best.0).abs() < 1e-6 && (found.1 - best.1).abs() < 1e-6, "{found:?} found, {best:?} is best");
        }
    }

    fn pool(model: usize, now: u32, wanted: u32, tokens_per_s: f64, usd: f64) -> Member {
        Member {
            model,
            role: 0,
            now,
            wanted,
            bounds: (1, 8),
            tokens_per_s,
            usd,
            start_usd: 0.5,
            limit: 0,
            unit: 2.0,
        }
    }

    #[test]
    fn shares_are_weighed_and_the_cheapest_kind_serves() {
        // Twelve devices for two models that want four replicas each: three each, or what priorities say.
        let two = [pool(0, 2, 4, 1.0, 3.0), pool(1, 2, 4, 1.0, 3.0)];
        assert_eq!(solve(&two, &[16.0], &[1.0, 1.0]), [4, 4]);
        assert_eq!(solve(&two, &[12.0], &[1.0, 1.0]), [3, 3]);
        assert_eq!(solve(&two, &[12.0], &[1.0, 9.0]), [2, 4]);
        assert_eq!(solve(&two, &[12.0], &[9.0, 1.0]), [4, 2]);
        // A cheaper kind takes over once its start is paid by what it saves.
        let kinds = |usd| [pool(0, 3, 3, 1.0, 3.0), Member { bounds: (0, 8), ..pool(0, 0, 0, 1.0, usd) }];
        assert_eq!(solve(&kinds(2.4), &[99.0], &[1.0]), [1, 2]);
        assert_eq!(solve(&kinds(2.6), &[99.0], &[1.0]), [3, 0], "a start costs 0.5");
    }
}
