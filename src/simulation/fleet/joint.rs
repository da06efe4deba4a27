//! Rules that decide for all pools together: what is made of what each pool's own policy wishes for.

mod global_planner;
mod ilp;

use std::collections::BTreeSet;

use global_planner::GlobalPlanner;

use super::Role;
use super::settings::{BudgetSettings, Pool};
use crate::autoscaler::{FleetRule, IlpSettings};
use crate::simulation::engine::{Standing, Wishes};

/// A pool as these rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub pool: &'a Pool,
    /// Whether a policy decides for it; without one, or with one that never changes anything, it stays as it
    /// is.
    pub moves: bool,
    /// What a replica takes of the budget, what it computes in a second, and what it costs an hour.
    pub unit: f64,
    /// Which of the budget's limits it takes from, by its number, and how much that is.
    pub limit: (usize, f64),
    pub tokens_per_s: f64,
    pub usd_per_hour: f64,
    /// From its order until it serves.
    pub start_s: f64,
}

/// Sums and differences of what replicas compute are whole numbers of them to within this.
const TOLERANCE: f64 = 1e-9;

/// Replicas there will be once all decisions have taken effect.
fn committed(standing: &Standing) -> u32 {
    (standing.existing - standing.draining + standing.starting).saturating_sub(standing.stopping)
}

/// What decides for all pools together, and what it remembers of what they asked for.
#[derive(Debug)]
pub struct Joint<'a> {
    rule: Option<&'a FleetRule>,
    planner: Option<GlobalPlanner>,
    /// Replicas that each pool's policy wanted when it last decided.
    wanted: Vec<Option<u32>>,
}

/// What comes of wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub wishes: Vec<Wishes>,
    /// The order in which they are granted: pools, each so many replicas.
    pub asked: Vec<(usize, u32)>,
    /// Replicas that were asked for in vain, by pools.
    pub refused: Vec<u32>,
    /// Pools that have been decided on anew: what still waits for room there does not any more.
    pub anew: Vec<bool>,
}

impl<'a> Joint<'a> {
    pub fn new(rule: Option<&'a FleetRule>, budget: Option<&BudgetSettings>, pools: usize) -> Self {
        let planner = match rule {
            Some(FleetRule::GlobalPlanner(settings)) => {
                let most = budget.and_then(|budget| budget.devices);
                Some(GlobalPlanner::new(
                    pools,
                    most.map(i64::from),
                    settings.min_devices.map(i64::from),
                    settings.intent_ttl_s,
                ))
            }
            _ => None,
        };
        Self { rule, planner, wanted: vec![None; pools] }
    }

    /// Whether what it takes from one pool goes to another, which then waits until it has come free.
    pub fn moves_devices(&self) -> bool {
        matches!(self.rule, Some(FleetRule::GlobalPlanner(_) | FleetRule::Ilp(_)))
    }

    /// Takes note of what policies want of pools, those that would stay as they are included.
    pub fn note(&mut self, standing: &[Standing], wishes: &[Wishes]) {
        for (pool, wish) in wishes.iter().enumerate().filter(|(_, wish)| wish.decided) {
            self.wanted[pool] = Some(target(&standing[pool], wish));
        }
    }

    /// What is made of wishes under the rule. `waiting` are replicas that were granted and wait for room, by
    /// pools.
    pub fn decide(
        &mut self,
        now_s: f64,
        pools: &[Known],
        standing: &[Standing],
        waiting: &[u32],
        mut wishes: Vec<Wishes>,
    ) -> Decided {
        let none = (vec![0; pools.len()], vec![false; pools.len()]);
        let (refused, anew) = match self.rule {
            Some(FleetRule::Proportional(_)) => {
                let limits: BTreeSet<usize> = pools.iter().map(|pool| pool.limit.0).collect();
                for limit in limits {
                    let (members, others): (Vec<usize>, Vec<usize>) = (0..pools.len())
                        .filter(|&pool| pools[pool].limit.0 == limit)
                        .partition(|&pool| pools[pool].moves);
                    let used: f64 = others
                        .iter()
                        .map(|&pool| f64::from(committed(&standing[pool])) * pools[pool].unit)
                        .sum();
                    if let Some(&first) = members.first() {
                        proportional(pools, &members, pools[first].limit.1 - used, standing, &mut wishes);
                    }
                }
                none
            }
            Some(FleetRule::CheapestPerCapacity(_)) => {
                cheapest_per_capacity(pools, standing, &mut wishes);
                none
            }
            Some(FleetRule::GlobalPlanner(_)) => self.mediate(now_s, pools, standing, waiting, &mut wishes),
            Some(FleetRule::Ilp(settings)) => (none.0, self.optimise(settings, pools, standing, &mut wishes)),
            Some(FleetRule::Independent(_) | FleetRule::GreedyByScore(_)) | None => none,
        };
        let asked = match self.rule {
            Some(FleetRule::GreedyByScore(greedy)) => {
                let priority = |pool: &Pool| greedy.priority.get(&pool.name).copied().unwrap_or(1.0);
                neediest_first(pools, &wishes, priority)
            }
            _ => (0..).zip(&wishes).map(|(pool, wish)| (pool, wish.ups)).collect(),
        };
        Decided { wishes, asked, refused, anew }
    }

    /// Dynamo's: what pools of one model ask for in one instant is granted or refused as a whole.
    fn mediate(
        &mut self,
        now_s: f64,
        pools: &[Known],
        standing: &[Standing],
        waiting: &[u32],
        wishes: &mut [Wishes],
    ) -> (Vec<u32>, Vec<bool>) {
        let (mut refused, mut anew) = (vec![0; pools.len()], vec![false; pools.len()]);
        let Some(planner) = &mut self.planner else { return (refused, anew) };
        let (models, deployments) = models(pools);
        let mut members: Vec<global_planner::Member> = (0..pools.len())
            .map(|pool| global_planner::Member {
                replicas: committed(&standing[pool]) + waiting[pool],
                devices: pools[pool].unit as i64,
                deployment: deployments[pool],
            })
            .collect();
        let wished = wishes.to_vec();
        for deployment in 0..models {
            let asking = |&pool: &usize| deployments[pool] == deployment && wished[pool].changes();
            let asked: Vec<(usize, u32)> = (0..pools.len())
                .filter(asking)
                .map(|pool| (pool, target(&standing[pool], &wished[pool])))
                .collect();
            let Some(granted) =
                (if asked.is_empty() { None } else { planner.mediate(now_s, &members, &asked) })
            else {
                for (pool, replicas) in asked {
                    // What another deployment's wish has brought it stays.
                    let now = committed(&standing[pool]);
                    wishes[pool].aim_at(if anew[pool] { members[pool].replicas } else { now }, now);
                    refused[pool] += replicas.saturating_sub(members[pool].replicas);
                }
                continue;
            };
            for (pool, replicas) in granted {
                members[pool].replicas = replicas;
                anew[pool] = true;
                wishes[pool].aim_at(replicas, committed(&standing[pool]));
            }
        }
        (refused, anew)
    }

    /// As many replicas of each pool as the integer program says.
    fn optimise(
        &self,
        settings: &IlpSettings,
        pools: &[Known],
        standing: &[Standing],
        wishes: &mut [Wishes],
    ) -> Vec<bool> {
        let moves: Vec<bool> = pools.iter().map(|pool| pool.moves).collect();
        if !wishes.iter().any(Wishes::changes) {
            return vec![false; pools.len()];
        }
        let (number, model_of) = models(pools);
        let mut priority = vec![1.0; number];
        for (pool, &model) in std::iter::zip(pools, &model_of) {
            priority[model] = settings.priority.get(&pool.pool.settings().model).copied().unwrap_or(1.0);
        }
        let numbers = 0..pools.iter().map(|pool| pool.limit.0 + 1).max().unwrap_or(0);
        let amount = |number| {
            pools.iter().find(|pool| pool.limit.0 == number).map_or(f64::INFINITY, |pool| pool.limit.1)
        };
        let limits: Vec<f64> = numbers.map(amount).collect();
        let member = |pool: usize| {
            let (known, now) = (&pools[pool], committed(&standing[pool]));
            let cluster = known.pool.settings();
            ilp::Member {
                model: model_of[pool],
                role: known.pool.role as usize,
                now,
                wanted: if known.moves { self.wanted[pool].unwrap_or(now) } else { now },
                bounds: if known.moves {
                    (cluster.min_replicas, cluster.max_replicas.max(cluster.min_replicas))
                } else {
                    (now, now)
                },
                tokens_per_s: known.tokens_per_s,
                usd: known.usd_per_hour * settings.horizon_s / 3600.0,
                start_usd: known.usd_per_hour * known.start_s / 3600.0,
                limit: known.limit.0,
                unit: known.unit,
            }
        };
        let members: Vec<ilp::Member> = (0..pools.len()).map(member).collect();
        for (pool, replicas) in
            ilp::solve(&members, &limits, &priority).into_iter().enumerate().filter(|(pool, _)| moves[*pool])
        {
            wishes[pool].aim_at(replicas, members[pool].now);
        }
        moves
    }
}

/// Replicas there would be if a pool got what it wishes for.
fn target(standing: &Standing, wish: &Wishes) -> u32 {
    (committed(standing) + wish.ups).saturating_sub(wish.downs)
}

/// How many models there are, and the number of each pool's.
fn models(pools: &[Known]) -> (usize, Vec<usize>) {
    let mut names: Vec<&str> = Vec::new();
    let mut numbers = Vec::with_capacity(pools.len());
    for pool in pools {
        let model = pool.pool.settings().model.as_str();
        let number = names.iter().position(|name| *name == model).unwrap_or_else(|| {
            names.push(model);
            names.len() - 1
        });
        numbers.push(number);
    }
    (names.len(), numbers)
}

/// Dynamo's: if what pools would have in all is beyond the budget, each gets its share of it, no less than
/// its minimum; the last gets what is left.
fn proportional(
    pools: &[Known],
    members: &[usize],
    limit: f64,
    standing: &[Standing],
    wishes: &mut [Wishes],
) {
    let targets: Vec<u32> = members.iter().map(|&pool| target(&standing[pool], &wishes[pool])).collect();
    let total: f64 =
        std::iter::zip(&targets, members).map(|(&target, &pool)| f64::from(target) * pools[pool].unit).sum();
    if total <= limit || members.iter().all(|&pool| wishes[pool].ups == 0) {
        return;
    }
    let least = |pool: &Known| pool.pool.settings().min_replicas;
    let mut left = limit;
    for (place, &number) in members.iter().enumerate() {
        let pool = &pools[number];
        let of_later: f64 = members[place + 1..]
            .iter()
            .map(|&later| f64::from(least(&pools[later])) * pools[later].unit)
            .sum();
        let most = ((left - of_later) / pool.unit).floor().max(0.0) as u32;
        let share = (f64::from(targets[place]) * limit / total).floor() as u32;
        let last = place + 1 == members.len();
        let target = if last { most.min(targets[place]) } else { share.max(least(pool)).min(most) };
        left -= f64::from(target) * pool.unit;
        let now = committed(&standing[number]);
        wishes[number].aim_at(target, now);
    }
}

/// WVA's: of the pools of one model and role, what is missing comes from the cheapest for what it computes,
/// what is too much goes from the dearest.
fn cheapest_per_capacity(pools: &[Known], standing: &[Standing], wishes: &mut [Wishes]) {
    let kind = |number: usize| (pools[number].pool.settings().model.as_str(), pools[number].pool.role);
    let mut done: Vec<(&str, Role)> = Vec::new();
    for number in 0..pools.len() {
        if !pools[number].moves || done.contains(&kind(number)) {
            continue;
        }
        done.push(kind(number));
        let alike: Vec<usize> = (number..pools.len())
            .filter(|&other| pools[other].moves && kind(other) == kind(number))
            .collect();
        let capacity = |count: fn(&Wishes) -> u32| -> f64 {
            alike.iter().map(|&pool| f64::from(count(&wishes[pool])) * pools[pool].tokens_per_s).sum()
        };
        let missing = capacity(|wish| wish.ups) - capacity(|wish| wish.downs);
        let mut order = alike.clone();
        let price = |pool: &usize| pools[*pool].usd_per_hour / pools[*pool].tokens_per_s;
        let bounds = |pool: usize| {
            let settings = pools[pool].pool.settings();
            (settings.min_replicas, settings.max_replicas, committed(&standing[pool]))
        };
        alike.iter().for_each(|&pool| wishes[pool].aim_at(0, 0));
        if missing > 0.0 {
            order.sort_by(|a, b| price(a).total_cmp(&price(b)));
            let mut left = missing;
            for pool in order {
                let (_, most, now) = bounds(pool);
                let ups = ((left / pools[pool].tokens_per_s - TOLERANCE).ceil().max(0.0) as u32)
                    .min(most.saturating_sub(now));
                wishes[pool].ups = ups;
                left -= f64::from(ups) * pools[pool].tokens_per_s;
            }
        } else {
            order.sort_by(|a, b| pools[*b].usd_per_hour.total_cmp(&pools[*a].usd_per_hour));
            let mut left = -missing;
            for pool in order {
                let (least, _, now) = bounds(pool);
                let downs = ((left / pools[pool].tokens_per_s + TOLERANCE).floor().max(0.0) as u32)
                    .min(now.saturating_sub(least));
                wishes[pool].downs = downs;
                left -= f64::from(downs) * pools[pool].tokens_per_s;
            }
        }
    }
}

/// The next replica to the pool whose missing devices, times its priority, are most.
fn neediest_first(pools: &[Known], wishes: &[Wishes], priority: impl Fn(&Pool) -> f64) -> Vec<(usize, u32)> {
    let mut missing: Vec<u32> = wishes.iter().map(|wish| wish.ups).collect();
    let mut asked = Vec::new();
    loop {
        let score = |pool: usize| priority(pools[pool].pool) * f64::from(missing[pool]) * pools[pool].unit;
        let neediest = (0..pools.len())
            .filter(|&pool| missing[pool] > 0)
            .max_by(|&a, &b| score(a).total_cmp(&score(b)).then(b.cmp(&a)));
        let Some(pool) = neediest else { return asked };
        missing[pool] -= 1;
        asked.push((pool, 1));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulation::ClusterSettings;

    /// What each pool gets, and in which order.
    type Decided = (Vec<(u32, u32)>, Vec<(usize, u32)>);

    fn decided(rule: serde_json::Value, now: [u32; 3], wished: [(u32, u32); 3], limit: f64) -> Decided {
        let cluster: ClusterSettings = serde_json::from_value(json!({
            "max_replicas": 4, "pools": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        }))
        .unwrap();
        let cluster = cluster.with_pools().unwrap();
        // `a` computes most and costs most; `b` is the cheapest for what it computes.
        let facts = [(4.0, 100.0, 20.0), (2.0, 50.0, 5.0), (1.0, 10.0, 2.0)];
        let known: Vec<Known> = std::iter::zip(&cluster.pools, facts)
            .map(|(pool, (unit, tokens_per_s, usd_per_hour))| Known {
                pool,
                moves: true,
                unit,
                limit: (0, limit),
                tokens_per_s,
                usd_per_hour,
                start_s: 60.0,
            })
            .collect();
        let standing: Vec<Standing> =
            now.iter().map(|&existing| Standing { existing, ..Standing::default() }).collect();
        let wishes: Vec<Wishes> = wished
            .iter()
            .map(|&(ups, downs)| Wishes { ups, downs, decided: true, ..Wishes::default() })
            .collect();
        let rule: FleetRule = serde_json::from_value(rule).unwrap();
        let known: Vec<Known> = known
            .into_iter()
            .map(|known| Known { moves: rule.local().contains_key(&known.pool.name), ..known })
            .collect();
        let mut joint = Joint::new(
            Some(&rule),
            Some(&BudgetSettings { devices: Some(limit as u32), ..BudgetSettings::default() }),
            3,
        );
        joint.note(&standing, &wishes);
        let super::Decided { wishes, asked, .. } = joint.decide(0.0, &known, &standing, &[0; 3], wishes);
        (wishes.iter().map(|wish| (wish.ups, wish.downs)).collect(), asked)
    }

    #[test]
    fn a_budget_is_shared_in_proportion() {
        let rule = json!({"proportional": {"pools": {"a": "hpa", "b": "hpa", "c": "hpa"}}});
        // 3 x 4 + 4 x 2 + 2 x 1 = 22 devices wished for of 11: halves, rounded down, the last gets what is
        // left of its wish.
        assert_eq!(
            decided(rule.clone(), [2, 2, 1], [(1, 0), (2, 0), (1, 0)], 11.0).0,
            [(0, 1), (0, 0), (1, 0)]
        );
        assert_eq!(
            decided(rule.clone(), [2, 2, 1], [(1, 0), (2, 0), (1, 0)], 22.0).0,
            [(1, 0), (2, 0), (1, 0)]
        );
        // Nobody falls below its minimum.
        assert_eq!(decided(rule, [1, 4, 1], [(0, 0), (2, 0), (0, 0)], 8.0).0, [(0, 0), (0, 3), (0, 0)]);
    }

    #[test]
    fn the_cheapest_grows_and_the_dearest_shrinks() {
        let rule = json!({"cheapest_per_capacity": {"pools": {"a": "hpa", "b": "hpa", "c": "hpa"}}});
        // One of `a` is missing: two of `b` compute as much for half the money.
        assert_eq!(
            decided(rule.clone(), [1, 1, 1], [(1, 0), (0, 0), (0, 0)], f64::INFINITY).0,
            [(0, 0), (2, 0), (0, 0)]
        );
        // `b` has three of at most four: the rest comes from the next.
        assert_eq!(
            decided(rule.clone(), [1, 3, 1], [(1, 0), (0, 0), (0, 0)], f64::INFINITY).0,
            [(1, 0), (1, 0), (0, 0)]
        );
        assert_eq!(
            decided(rule.clone(), [2, 3, 1], [(0, 0), (0, 2), (0, 0)], f64::INFINITY).0,
            [(0, 1), (0, 0), (0, 0)]
        );
        assert_eq!(
            decided(rule, [1, 3, 3], [(0, 0), (0, 1), (0, 1)], f64::INFINITY).0,
            [(0, 0), (0, 1), (0, 1)]
        );
    }

    /// 0.7 + 3 x 0.7 - 3 x 0.7 is a little more than 0.7.
    #[test]
    fn what_is_missing_is_a_whole_number_of_replicas() {
        let cluster: ClusterSettings =
            serde_json::from_value(json!({"max_replicas": 4, "pools": [{"name": "a"}, {"name": "b"}]}))
                .unwrap();
        let cluster = cluster.with_pools().unwrap();
        let known: Vec<Known> = std::iter::zip(&cluster.pools, [2.0, 1.0])
            .map(|(pool, usd_per_hour)| Known {
                pool,
                moves: true,
                unit: 1.0,
                limit: (0, 99.0),
                tokens_per_s: 0.7,
                usd_per_hour,
                start_s: 0.0,
            })
            .collect();
        let standing = vec![Standing { existing: 1, ..Standing::default() }; 2];
        let mut wishes = [1, 3].map(|ups| Wishes { ups, ..Wishes::default() });
        cheapest_per_capacity(&known, &standing, &mut wishes);
        assert_eq!(wishes.map(|wish| wish.ups), [1, 3]);
    }

    #[test]
    fn a_pool_without_a_policy_stays_as_it_is() {
        let cheapest = json!({"cheapest_per_capacity": {"pools": {"a": "hpa"}}});
        assert_eq!(
            decided(cheapest, [1, 1, 1], [(1, 0), (0, 0), (0, 0)], f64::INFINITY).0,
            [(1, 0), (0, 0), (0, 0)]
        );
        // Of 12 devices `b` keeps its 6 and `c` its 1; `a` gets one of the two it wishes for.
        let shared = json!({"proportional": {"pools": {"a": "hpa"}}});
        assert_eq!(decided(shared, [0, 3, 1], [(2, 0), (0, 0), (0, 0)], 12.0).0, [(1, 0), (0, 0), (0, 0)]);
    }

    /// The first model gives a device, which brings the second a part of what it was refused; that it asks
    /// for all of it again, in the same instant and in vain, takes nothing away.
    #[test]
    fn what_a_partner_brings_outlasts_a_refusal() {
        let cluster: ClusterSettings = serde_json::from_value(json!({
            "max_replicas": 8, "pools": [{"name": "a"}, {"name": "b", "model": "Qwen/Qwen3-8B"}],
        }))
        .unwrap();
        let cluster = cluster.with_pools().unwrap();
        let known: Vec<Known> = (cluster.pools.iter())
            .map(|pool| Known {
                pool,
                moves: true,
                unit: 1.0,
                limit: (0, 6.0),
                tokens_per_s: 1.0,
                usd_per_hour: 1.0,
                start_s: 0.0,
            })
            .collect();
        let rule: FleetRule =
            serde_json::from_value(json!({"global_planner": {"pools": {"a": "hpa", "b": "hpa"}}})).unwrap();
        let budget = BudgetSettings { devices: Some(6), ..BudgetSettings::default() };
        let mut joint = Joint::new(Some(&rule), Some(&budget), 2);
        let standing = vec![Standing { existing: 3, ..Standing::default() }; 2];
        let wish = |ups, downs| Wishes { ups, downs, decided: true, ..Wishes::default() };
        let first = joint.decide(0.0, &known, &standing, &[0; 2], vec![Wishes::default(), wish(3, 0)]);
        assert_eq!((first.wishes[1].changes(), &first.refused[..]), (false, &[0, 3][..]));
        let then = joint.decide(15.0, &known, &standing, &[0; 2], vec![wish(0, 1), wish(3, 0)]);
        assert_eq!(
            then.wishes.iter().map(|wish| (wish.ups, wish.downs)).collect::<Vec<_>>(),
            [(0, 1), (1, 0)]
        );
        assert_eq!((&then.refused[..], &then.anew[..]), (&[0, 2][..], &[true; 2][..]));
    }

    #[test]
    fn the_neediest_is_served_first() {
        let rule = json!({"greedy_by_score": {"pools": {"a": "hpa", "c": "hpa"}, "priority": {"c": 6}}});
        let (_, asked) = decided(rule, [1, 1, 1], [(2, 0), (0, 0), (2, 0)], 9.0);
        assert_eq!(asked, [(2, 1), (0, 1), (2, 1), (0, 1)]);
    }
}
