//! Replicas that were ordered and do not serve yet.

/// Orders under way, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Orders {
    under_way: Vec<Order>,
    placed: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub number: u64,
    pub placed_at_s: f64,
}

impl Orders {
    /// Places an order; returns its number.
    pub fn place(&mut self, now_s: f64) -> u64 {
        self.placed += 1;
        self.under_way.push(Order { number: self.placed, placed_at_s: now_s });
        self.placed
    }

    /// Takes an order that is ready; `None` if it was cancelled.
    pub fn take(&mut self, number: u64) -> Option<Order> {
        let place = self.under_way.binary_search_by_key(&number, |order| order.number).ok()?;
        Some(self.under_way.remove(place))
    }

    /// Takes back the latest order. What was to happen when it is ready finds it gone.
    pub fn cancel_latest(&mut self) -> Option<Order> {
        self.under_way.pop()
    }

    /// Forgets all there were for these.
    pub fn renew(&mut self, under_way: impl Iterator<Item = Order>) {
        self.under_way.clear();
        self.under_way.extend(under_way);
        self.placed = self.under_way.last().map_or(0, |order| order.number);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.under_way.iter()
    }
}
