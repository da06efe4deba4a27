//! The highest gauges of each replica over a window: `max_over_time`.

use std::collections::BTreeMap;

use super::ReplicaSignals;
use super::window::Window;

/// Peaks of one replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    pub kv_use: f64,
    pub queued_requests: f64,
}

/// Windows of gauges, replica by replica.
#[derive(Debug, Clone)]
pub struct Peaks {
    window_s: f64,
    replicas: BTreeMap<u32, (Window, Window)>,
}

impl Peaks {
    pub fn new(window_s: f64) -> Self {
        Self { window_s, replicas: BTreeMap::new() }
    }

    /// Adds the gauges of a scrape; replicas that are not in it are forgotten.
    pub fn push(&mut self, now_s: f64, scraped: &[ReplicaSignals]) {
        self.replicas.retain(|id, _| scraped.binary_search_by_key(id, |replica| replica.id).is_ok());
        for replica in scraped {
            let empty = || (Window::new(self.window_s), Window::new(self.window_s));
            let (kv_use, queued) = self.replicas.entry(replica.id).or_insert_with(empty);
            kv_use.push(now_s, replica.kv_use());
            queued.push(now_s, f64::from(replica.queued_requests));
        }
    }

    /// Peaks in order of replicas' ids.
    pub fn read(&self) -> impl Iterator<Item = Peak> {
        self.replicas
            .values()
            .map(|(kv_use, queued)| Peak { kv_use: kv_use.max(), queued_requests: queued.max() })
    }
}
