//! Nodes are paid whole: replicas are best counted in steps that fill nodes.

#[derive(Debug, Clone, Copy)]
pub struct Nodes {
    pub devices_per_replica: u32,
    pub devices_per_node: u32,
}

impl Nodes {
    fn nodes(&self, replicas: u32) -> u32 {
        (replicas * self.devices_per_replica).div_ceil(self.devices_per_node)
    }

    /// Most replicas on as many nodes as these take.
    pub fn filled(&self, replicas: u32) -> u32 {
        self.nodes(replicas) * self.devices_per_node / self.devices_per_replica
    }

    /// What going from `few` to `more` replicas costs, in replicas' shares of full nodes.
    pub fn price(&self, few: u32, more: u32) -> f64 {
        let nodes = self.nodes(more) - self.nodes(few);
        f64::from(nodes * self.devices_per_node) / f64::from(self.devices_per_replica)
    }

    /// Whole nodes' worth, or `most`, for a need of at most that with a fraction: the larger number in the first part of a phase (from 0
    /// to 1).
    pub fn round(&self, need: f64, phase: f64, most: u32) -> u32 {
        let whole = need as u32;
        let mut few = whole;
        while few > 0 && self.filled(few) > whole {
            few -= 1;
        }
        let few = self.filled(few);
        let more = self.filled(few + 1).min(most);
        if more <= few {
            return most;
        }
        let share = (need - f64::from(few)) / f64::from(more - few);
        if share > phase + 1e-9 { more } else { few }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fill_nodes() {
        let one_a_node = Nodes { devices_per_replica: 4, devices_per_node: 4 };
        assert_eq!((1..5).map(|n| one_a_node.filled(n)).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let two_a_node = Nodes { devices_per_replica: 4, devices_per_node: 8 };
        assert_eq!((1..5).map(|n| two_a_node.filled(n)).collect::<Vec<_>>(), [2, 2, 4, 4]);
        assert_eq!(two_a_node.price(2, 4), 2.0);
        let two_nodes_each = Nodes { devices_per_replica: 16, devices_per_node: 8 };
        assert_eq!((1..4).map(|n| two_nodes_each.filled(n)).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(two_nodes_each.price(1, 2), 1.0);
    }

    #[test]
    fn fractions_are_shares_of_a_period() {
        let two_a_node = Nodes { devices_per_replica: 4, devices_per_node: 8 };
        let mean = |need: f64| (0..100).map(|i| f64::from(two_a_node.round(need, f64::from(i) / 100.0, 9))).sum::<f64>() / 100.0;
        for need in [2.0, 2.5, 3.0, 3.5, 4.0] {
            assert!((mean(need) - need).abs() < 0.021, "{need} {}", mean(need));
        }
        // The most there may be does not fill its node, and is there all the time where it is needed.
        assert!((0..100).all(|i| two_a_node.round(3.0, f64::from(i) / 100.0, 3) == 3));
        assert_eq!(two_a_node.round(2.5, 0.4, 3), 3);
        assert_eq!(two_a_node.round(2.5, 0.6, 3), 2);
        assert_eq!(two_a_node.round(1.0, 0.5, 1), 1);
    }
}
