//! KV caches on their way.

use std::collections::BTreeMap;

/// A replica: number of its pool, and its own.
pub type Node = (u32, u32);

/// Transfers that are under way, in the order in which they began.
#[derive(Debug)]
pub struct Links {
    transfers: Vec<Transfer>,
    /// When something changes next; infinite if nothing is under way.
    next_s: f64,
    /// Transfers whose bytes flow, by the end they share: whether it sends, and which. Kept where links are
    /// shared.
    users: BTreeMap<(bool, Node), u32>,
    /// Of each rank; infinite where bytes take no time.
    bytes_per_s: f64,
    overhead_s: f64,
    shared: bool,
    /// Whether the end of a transfer is known as it begins, so that nothing has to be looked at when its
    /// bytes begin to flow.
    foreseen: bool,
}

#[derive(Debug)]
struct Transfer {
    id: u32,
    from: Node,
    to: Node,
    /// When its bytes begin to flow.
    flows_from_s: f64,
    /// Bytes of each rank that were left at `since_s`, and how fast they flow since.
    left_bytes: f64,
    since_s: f64,
    rate: f64,
    /// When it ends, as things are.
    ends_s: f64,
}

impl Transfer {
    fn flows(&self) -> bool {
        self.rate > 0.0
    }

    /// When something changes next: its bytes begin to flow, or all have come.
    fn next_s(&self) -> f64 {
        if self.flows() { self.ends_s } else { self.flows_from_s }
    }

    fn ends(&self) -> [(bool, Node); 2] {
        [(true, self.from), (false, self.to)]
    }
}

impl Links {
    pub fn new(bandwidth_gb_per_s: Option<f64>, overhead_s: f64, shared: bool) -> Self {
        Self {
            transfers: Vec::new(),
            next_s: f64::INFINITY,
            users: BTreeMap::new(),
            bytes_per_s: bandwidth_gb_per_s.map_or(f64::INFINITY, |gb| gb * 1e9),
            overhead_s,
            shared,
            foreseen: false,
        }
    }

    /// The same, where nobody asks between the beginning and the end of a transfer: one that shares nothing
    /// is then foreseen as a whole.
    pub fn unwatched(self) -> Self {
        Self { foreseen: !self.shared, ..self }
    }

    /// Begins a transfer of so many bytes a rank.
    pub fn begin(&mut self, id: u32, from: Node, to: Node, bytes_per_rank: f64, now_s: f64) {
        let flows_from_s = now_s + self.overhead_s;
        if self.foreseen {
            let (rate, ends_s) = (self.bytes_per_s, flows_from_s + bytes_per_rank / self.bytes_per_s);
            self.transfers.push(Transfer {
                id,
                from,
                to,
                flows_from_s,
                left_bytes: bytes_per_rank,
                since_s: flows_from_s,
                rate,
                ends_s,
            });
            self.next_s = self.next_s.min(ends_s);
            return;
        }
        self.transfers.push(Transfer {
            id,
            from,
            to,
            flows_from_s,
            left_bytes: bytes_per_rank,
            since_s: flows_from_s,
            rate: 0.0,
            ends_s: f64::INFINITY,
        });
        self.share(now_s);
    }

    /// When something changes next; infinite if nothing is under way.
    #[inline]
    pub fn next_s(&self) -> f64 {
        self.next_s
    }

    /// Takes the first of those transfers that have ended by now; what else changes now has then changed.
    pub fn take_ended(&mut self, now_s: f64) -> Option<u32> {
        if self.next_s > now_s {
            return None;
        }
        if self.transfers.iter().any(|transfer| !transfer.flows() && transfer.flows_from_s <= now_s) {
            self.share(now_s);
        }
        let place =
            self.transfers.iter().position(|transfer| transfer.flows() && transfer.ends_s <= now_s)?;
        Some(self.remove(place, now_s))
    }

    /// Takes back a transfer that is of no use any more.
    pub fn cancel(&mut self, id: u32, now_s: f64) {
        if let Some(place) = self.transfers.iter().position(|transfer| transfer.id == id) {
            self.remove(place, now_s);
        }
    }

    /// Takes a transfer away, and lets the others have its share; returns the number of its request.
    fn remove(&mut self, place: usize, now_s: f64) -> u32 {
        let gone = self.transfers.remove(place);
        if self.shared && gone.flows() {
            gone.ends()
                .iter()
                .for_each(|end| *self.users.get_mut(end).expect("whoever flows is counted") -= 1);
        }
        if self.foreseen {
            self.look_ahead()
        } else {
            self.share(now_s)
        }
        gone.id
    }

    /// Gives each transfer whose bytes flow its share of the links at both ends.
    fn share(&mut self, now_s: f64) {
        if self.shared {
            for transfer in
                self.transfers.iter().filter(|transfer| !transfer.flows() && transfer.flows_from_s <= now_s)
            {
                transfer.ends().iter().for_each(|&end| *self.users.entry(end).or_default() += 1);
            }
        }
        for transfer in self.transfers.iter_mut().filter(|transfer| transfer.flows_from_s <= now_s) {
            let users = if self.shared { transfer.ends().map(|end| self.users[&end]) } else { [1; 2] };
            let rate = self.bytes_per_s / f64::from(users[0].max(users[1]));
            // Whoever goes on as before ends when it was to end.
            if rate != transfer.rate {
                if transfer.rate > 0.0 {
                    transfer.left_bytes =
                        (transfer.left_bytes - transfer.rate * (now_s - transfer.since_s)).max(0.0);
                    transfer.since_s = now_s;
                }
                transfer.rate = rate;
                transfer.ends_s = transfer.since_s + transfer.left_bytes / rate;
            }
        }
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        self.next_s = self.transfers.iter().map(Transfer::next_s).fold(f64::INFINITY, f64::min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that ends, with its time.
    fn ends(links: &mut Links) -> Vec<(u32, f64)> {
        let mut found = Vec::new();
        while links.next_s() < f64::INFINITY {
            let now_s = links.next_s();
            while let Some(id) = links.take_ended(now_s) {
                found.push((id, now_s));
            }
        }
        found
    }

    #[test]
    fn a_transfer_takes_its_overhead_and_its_bytes() {
        let mut links = Links::new(Some(50.0), 0.03, false);
        links.begin(7, (0, 0), (1, 0), 2048.0 * 81_920.0, 1.0);
        links.begin(8, (0, 0), (1, 0), 2048.0 * 81_920.0, 1.0);
        let found = ends(&mut links);
        let expected = 1.03 + 2048.0 * 81_920.0 / 50e9;
        assert_eq!(found, [(7, expected), (8, expected)]);
    }

    #[test]
    fn shared_links_are_shared_at_the_busier_end() {
        // Two of 1 GB from one replica to two others, and one to a third replica from elsewhere, at 1 GB/s.
        let mut links = Links::new(Some(1.0), 0.0, true);
        links.begin(1, (0, 0), (1, 0), 1e9, 0.0);
        links.begin(2, (0, 0), (1, 1), 1e9, 0.0);
        links.begin(3, (0, 1), (1, 2), 1e9, 0.0);
        assert_eq!(ends(&mut links), [(3, 1.0), (1, 2.0), (2, 2.0)]);
        // One that begins halfway slows the other down from then on.
        links.begin(1, (0, 0), (1, 0), 1e9, 10.0);
        assert_eq!(links.next_s(), 11.0);
        links.begin(2, (0, 0), (1, 1), 1e9, 10.5);
        assert_eq!(ends(&mut links), [(1, 11.5), (2, 12.0)]);
        links.begin(1, (0, 0), (1, 0), 1e9, 20.0);
        links.begin(2, (0, 0), (1, 0), 1e9, 20.0);
        links.cancel(1, 20.5);
        assert_eq!(ends(&mut links), [(2, 21.25)]);
    }

    #[test]
    fn without_a_bandwidth_bytes_take_no_time() {
        for links in [Links::new(None, 0.2, false), Links::new(None, 0.2, false).unwatched()] {
            let mut links = links;
            links.begin(1, (0, 0), (1, 0), 1e12, 1.0);
            assert_eq!(ends(&mut links), [(1, 1.2)]);
        }
    }

    /// The twin is looked at whenever bytes begin to flow.
    #[test]
    fn what_shares_nothing_is_foreseen() {
        let mut twins = [Links::new(Some(3.0), 0.01, false), Links::new(Some(3.0), 0.01, false).unwatched()];
        let found = twins.each_mut().map(|links| {
            let mut found = Vec::new();
            for id in 0..200 {
                let now_s = f64::from(id) * 0.037;
                while links.next_s() <= now_s {
                    let at_s = links.next_s();
                    while let Some(ended) = links.take_ended(at_s) {
                        found.push((ended, at_s));
                    }
                }
                if id % 7 == 3 {
                    links.cancel(id - 1, now_s);
                }
                links.begin(id, (0, id % 3), (1, id % 2), 1e8 * f64::from(1 + id * id % 11), now_s);
            }
            found.extend(ends(links));
            found
        });
        assert_eq!(found[0], found[1]);
        assert!(found[0].len() > 150 && found[0].len() < 200, "{}", found[0].len());
    }
}
