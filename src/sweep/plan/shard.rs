//! A fixed share of a sweep's runs, for one of many machines that know nothing of each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Plan;

/// The most shards of a sweep.
pub const MAX_SHARDS: u32 = 1_000_000;

/// Number of shards where a Kubernetes Indexed Job does not tell its pods.
pub const COUNT_VARIABLE: &str = "SCALEFRONT_SHARDS";

/// Shard `number` of `of`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    pub number: u32,
    pub of: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) =
            numbers.ok_or_else(|| format!("`{text}` found, expected K/N such as 3/100, or auto"))?;
        Self::new(number, of)
    }
}

impl Shard {
    pub fn new(number: u32, of: u32) -> Result<Self, String> {
        if !(1..=MAX_SHARDS).contains(&of) {
            return Err(format!("{of} shards found, expected 1 to {MAX_SHARDS}"));
        }
        if !(1..=of).contains(&number) {
            return Err(format!("shard {number} of {of} found, expected 1 to {of}"));
        }
        Ok(Self { number, of })
    }

    /// The shard a task of a Slurm array or a pod of an Indexed Job is to run, by what `variable` says.
    ///
    /// A Slurm array counts as it was submitted: `--array=1-100`, `0-99` and `10-50:10` are whole, `3,7` is
    /// not known to be.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => text
                .trim()
                .parse::<u32>()
                .map(Some)
                .map_err(|_| format!("{name}: `{text}` found, expected a whole number")),
        };
        if let (Some(id), Some(count)) = (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?) {
            let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(1);
            let last = number("SLURM_ARRAY_TASK_MAX")?.unwrap_or(first + count.max(1) - 1);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            if id < first
                || (last - first.min(last)) / step + 1 != count
                || !(id - first).is_multiple_of(step)
            {
                return Err(format!(
                    "task {id} of {count} from {first} to {last} found, expected an array without gaps such as --array=1-{count}; \
                     for a part of an array say which shard is meant: --shard $SLURM_ARRAY_TASK_ID/N"
                ));
            }
            return Self::new((id - first) / step + 1, count);
        }
        if let Some(index) = number("JOB_COMPLETION_INDEX")? {
            let of = number(COUNT_VARIABLE)?.ok_or_else(|| {
                format!(
                    "JOB_COMPLETION_INDEX without {COUNT_VARIABLE} found: set it to the job's `completions`"
                )
            })?;
            return Self::new(index.saturating_add(1), of);
        }
        Err("neither SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT nor JOB_COMPLETION_INDEX are set; say which shard: --shard K/N".into())
    }

    /// Where the shard's runs are stored within the directory of the sweep.
    pub fn directory(&self) -> String {
        format!("shard-{}-of-{}", self.number, self.of)
    }

    /// Places (in [`Plan::unique`]) of the runs of this shard, ascending. Every run is in exactly one of the
    /// shards.
    ///
    /// Costs are balanced by requests: the largest run first, each to the shard with the least so far. It
    /// depends on the plan alone.
    pub fn share(&self, plan: &Plan) -> Vec<usize> {
        let costs: Vec<u64> = plan.unique().iter().map(|&index| plan.requests(index)).collect();
        share(&costs, *self)
    }
}

fn share(costs: &[u64], shard: Shard) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&place| Reverse(costs[place]));
    let mut loads: BinaryHeap<Reverse<(u64, u32)>> =
        (1..=shard.of).map(|number| Reverse((0, number))).collect();
    let mut mine = Vec::new();
    for place in order {
        if let Some(mut least) = loads.peek_mut() {
            if least.0.1 == shard.number {
                mine.push(place);
            }
            // Even a run of no cost is one more to look after.
            least.0.0 += costs[place].max(1);
        }
    }
    mine.sort_unstable();
    mine
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_are_a_balanced_partition(costs in prop::collection::vec(0u64..1000, 0..80), of in 1u32..12) {
            let shares: Vec<Vec<usize>> = (1..=of).map(|number| share(&costs, Shard { number, of })).collect();
            let mut all = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            let loads: Vec<u64> = shares.iter().map(|share| share.iter().map(|&place| costs[place].max(1)).sum()).collect();
            let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
            prop_assert!(most - least <= costs.iter().copied().max().unwrap_or(0).max(1), "{loads:?}");
        }
    }

    /// A large run at the end would find all shards half full.
    #[test]
    fn large_runs_are_given_out_first() {
        let loads = [1, 2].map(|number| share(&[1, 1, 1, 1, 4], Shard { number, of: 2 }));
        assert_eq!(loads, [vec![4], vec![0, 1, 2, 3]]);
    }

    fn environment(variables: &[(&str, &str)]) -> Result<Shard, String> {
        Shard::from_environment(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn shards_are_named_by_people_and_by_schedulers() {
        assert_eq!("3/100".parse(), Ok(Shard { number: 3, of: 100 }));
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let slurm = |id, count, min, max| {
            environment(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
            ])
        };
        assert_eq!(slurm("1", "10", "1", "10"), Ok(Shard { number: 1, of: 10 }));
        assert_eq!(slurm("9", "10", "0", "9"), Ok(Shard { number: 10, of: 10 }));
        assert!(slurm("7", "2", "3", "7").unwrap_err().contains("expected an array without gaps"));
        assert_eq!(
            environment(&[("JOB_COMPLETION_INDEX", "0"), (COUNT_VARIABLE, "4")]),
            Ok(Shard { number: 1, of: 4 })
        );
        assert!(environment(&[("JOB_COMPLETION_INDEX", "0")]).unwrap_err().contains(COUNT_VARIABLE));
        assert!(environment(&[]).unwrap_err().contains("--shard K/N"));
        assert!(
            environment(&[("JOB_COMPLETION_INDEX", "x"), (COUNT_VARIABLE, "4")])
                .unwrap_err()
                .contains("`x` found")
        );
    }
}
