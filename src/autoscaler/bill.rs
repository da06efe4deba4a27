//! What replicas cost, for policies that weigh money: the bill the engine will write, in prices of one
//! replica (its devices' share of the price of a node).

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bill {
    pub devices_per_replica: u32,
    pub devices_per_node: u32,
    /// Nodes are paid whole, so that neighbours on a node that is paid are free; otherwise each device is
    /// paid by itself.
    pub whole_nodes: bool,
    /// A replica is paid from the decision to start it, and not only from joining.
    pub cold_start: bool,
    /// A replica is paid while it drains.
    pub drain: bool,
    /// Least time a replica is paid for.
    pub minimum_s: f64,
}

impl Bill {
    fn nodes(&self, replicas: u32) -> u32 {
        (replicas * self.devices_per_replica).div_ceil(self.devices_per_node)
    }

    /// Most replicas for the price of these.
    pub fn filled(&self, replicas: u32) -> u32 {
        if self.whole_nodes {
            self.nodes(replicas) * self.devices_per_node / self.devices_per_replica
        } else {
            replicas
        }
    }

    /// What going from `few` to `more` replicas costs.
    pub fn price(&self, few: u32, more: u32) -> f64 {
        if !self.whole_nodes {
            return f64::from(more - few);
        }
        let nodes = self.nodes(more) - self.nodes(few);
        f64::from(nodes * self.devices_per_node) / f64::from(self.devices_per_replica)
    }

    /// For how long a replica is paid that serves so long after a start of `start_s`.
    pub fn paid_s(&self, start_s: f64, serves_s: f64) -> f64 {
        (serves_s + if self.cold_start { start_s } else { 0.0 }).max(self.minimum_s)
    }

    /// What is paid whole, or `most`, for a need of at most that with a fraction: the larger number in the
    /// first part of a phase (from 0 to 1).
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
pub(super) mod tests {
    use super::*;

    pub const LABS: Bill = Bill {
        devices_per_replica: 4,
        devices_per_node: 4,
        whole_nodes: true,
        cold_start: false,
        drain: true,
        minimum_s: 0.0,
    };

    #[test]
    fn steps_fill_nodes() {
        assert_eq!((1..5).map(|n| LABS.filled(n)).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let two_a_node = Bill { devices_per_node: 8, ..LABS };
        assert_eq!((1..5).map(|n| two_a_node.filled(n)).collect::<Vec<_>>(), [2, 2, 4, 4]);
        assert_eq!(two_a_node.price(2, 4), 2.0);
        let two_nodes_each = Bill { devices_per_replica: 16, devices_per_node: 8, ..LABS };
        assert_eq!((1..4).map(|n| two_nodes_each.filled(n)).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(two_nodes_each.price(1, 2), 1.0);
        let by_device = Bill { whole_nodes: false, ..two_a_node };
        assert_eq!((1..5).map(|n| by_device.filled(n)).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(by_device.price(2, 4), 2.0);
    }

    #[test]
    fn fractions_are_shares_of_a_period() {
        let two_a_node = Bill { devices_per_node: 8, ..LABS };
        let mean = |need: f64| {
            (0..100).map(|i| f64::from(two_a_node.round(need, f64::from(i) / 100.0, 9))).sum::<f64>() / 100.0
        };
        for need in [2.0, 2.5, 3.0, 3.5, 4.0] {
            assert!((mean(need) - need).abs() < 0.021, "{need} {}", mean(need));
        }
        // The most there may be does not fill its node, and is there all the time where it is needed.
        assert!((0..100).all(|i| two_a_node.round(3.0, f64::from(i) / 100.0, 3) == 3));
        assert_eq!(two_a_node.round(2.5, 0.4, 3), 3);
        assert_eq!(two_a_node.round(2.5, 0.6, 3), 2);
        assert_eq!(two_a_node.round(1.0, 0.5, 1), 1);
    }

    #[test]
    fn starts_and_least_times_are_paid() {
        let paid = Bill { cold_start: true, minimum_s: 60.0, ..LABS };
        assert_eq!([paid.paid_s(30.0, 10.0), paid.paid_s(30.0, 50.0)], [60.0, 80.0]);
        assert_eq!(
            [LABS.paid_s(30.0, 10.0), Bill { cold_start: false, ..paid }.paid_s(30.0, 70.0)],
            [10.0, 70.0]
        );
    }
}
