//! How urgent requests are, by class.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random;
use crate::settings::Faults;

const STREAM: &str = "workload.priorities";

/// Requests of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityClass {
    /// Share of all requests, relative to those of the other classes.
    pub share: f64,
    /// The higher, the sooner it is served, by engines that are told to heed it.
    pub priority: i32,
}

pub(super) fn check(classes: &[PriorityClass], faults: &mut Faults) {
    for (index, class) in classes.iter().enumerate() {
        faults.within(format!("priorities[{index}]"), |faults| faults.positive("share", class.share));
    }
}

/// The priorities of a workload's requests: 0 where there are no classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Priorities {
    pub classes: Vec<PriorityClass>,
    pub seed: u64,
}

impl Priorities {
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        if !self.classes.is_empty() {
            hasher.update(b"priorities");
            hasher.update(&serde_json::to_vec(&(&self.classes, self.seed)).expect("settings are plain data"));
        }
    }

    /// The priority of one request after the other; `None` if all are 0.
    pub fn draws(&self) -> Option<Box<dyn Iterator<Item = i32> + Send + Sync>> {
        let last = self.classes.last()?.priority;
        let all: f64 = self.classes.iter().map(|class| class.share).sum();
        let (classes, mut random) = (self.classes.clone(), random::stream(self.seed, STREAM));
        Some(Box::new(std::iter::repeat_with(move || {
            let mut left = random.random::<f64>() * all;
            let class = classes.iter().find(|class| {
                left -= class.share;
                left < 0.0
            });
            class.map_or(last, |class| class.priority)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_their_shares() {
        let classes =
            vec![PriorityClass { share: 3.0, priority: 0 }, PriorityClass { share: 1.0, priority: 20 }];
        let urgent = |seed| {
            let drawn = Priorities { classes: classes.clone(), seed }.draws().unwrap();
            drawn.take(4000).filter(|&priority| priority == 20).count()
        };
        assert!(
            (900..1100).contains(&urgent(1)) && urgent(1) == urgent(1) && urgent(1) != urgent(2),
            "{}",
            urgent(1)
        );
        assert!(Priorities::default().draws().is_none());
        let mut faults = Faults::default();
        check(&[PriorityClass { share: 0.0, priority: 1 }], &mut faults);
        assert_eq!(faults.found[0].path, "priorities[0].share");
    }
}
