//! The least of many numbers that change one at a time: a tournament tree, O(log n) a change, O(1) to ask.

/// Lanes with a (load, id) each; the minimum is the least load, ties to the lowest id.
#[derive(Debug, Default)]
pub struct MinTree {
    /// A binary tree in an array: leaves in the second half, each inner node the lesser of its children.
    nodes: Vec<(u64, u32)>,
}

const NONE: (u64, u32) = (u64::MAX, u32::MAX);

impl MinTree {
    /// Sets or clears the load of a lane.
    pub fn set(&mut self, lane: u32, load: Option<(u32, u32)>) {
        if lane as usize >= self.nodes.len() / 2 {
            self.grow(lane as usize + 1);
        }
        let leaves = self.nodes.len() / 2;
        let mut node = leaves + lane as usize;
        self.nodes[node] = load.map_or(NONE, |(load, id)| (u64::from(load) << 32 | u64::from(id), lane));
        while node > 1 {
            node /= 2;
            let lesser = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
            if self.nodes[node] == lesser {
                break;
            }
            self.nodes[node] = lesser;
        }
    }

    /// Lane, load and id of the minimum.
    pub fn min(&self) -> Option<(u32, u32, u32)> {
        let &(key, lane) = self.nodes.get(1)?;
        (key != u64::MAX).then_some((lane, (key >> 32) as u32, key as u32))
    }

    fn grow(&mut self, lanes: usize) {
        let leaves = lanes.next_power_of_two().max(2);
        let old = std::mem::take(&mut self.nodes);
        self.nodes = vec![NONE; 2 * leaves];
        let old_leaves = old.len() / 2;
        self.nodes[leaves..leaves + old_leaves].copy_from_slice(&old[old_leaves..]);
        for node in (1..leaves).rev() {
            self.nodes[node] = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin keeps a map and scans it.
        #[test]
        fn agrees_with_a_scan(changes in prop::collection::vec((0_u32..40, prop::option::of(0_u32..5)), 1..200)) {
            let (mut tree, mut twin) = (MinTree::default(), BTreeMap::new());
            for (lane, load) in changes {
                let id = 1000 - lane;
                tree.set(lane, load.map(|load| (load, id)));
                match load {
                    Some(load) => twin.insert(lane, (load, id)),
                    None => twin.remove(&lane),
                };
                let least = twin.iter().map(|(&lane, &(load, id))| (load, id, lane)).min();
                prop_assert_eq!(tree.min(), least.map(|(load, id, lane)| (lane, load, id)));
            }
        }
    }
}
