//! What a sweep will take, guessed before it runs: time, money for the machine, disk.

use std::fmt;

use super::Plan;

/// Time of one simulated request on one thread: what `sweeps/grid.json` takes on a busy server core. The true figure varies with policy
/// and lengths.
pub const ESTIMATED_NS_PER_REQUEST: f64 = 150.0;

/// Core time of whatever else there is to do for a run: planning, journal, tables. `docs/large-sweeps.md` says how it was measured.
pub const ESTIMATED_US_PER_RUN: f64 = 150.0;

/// Bytes of a run's line in the journal.
pub const JOURNAL_BYTES_PER_RUN: f64 = 900.0;

/// Dollars for an hour of one core where nothing else is said: what clouds ask on demand for a general-purpose virtual core.
pub const CORE_PRICE_USD_PER_HOUR: f64 = 0.05;

/// Prints as lines for the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub runs: u64,
    pub requests: u64,
    pub threads: usize,
    pub core_price_usd_per_hour: f64,
}

impl Plan {
    /// What all runs will take.
    pub fn estimate(&self, threads: usize, core_price_usd_per_hour: f64) -> Estimate {
        Estimate { runs: self.unique.len() as u64, requests: self.total_requests(), threads, core_price_usd_per_hour }
    }

    /// What the runs at `places` will take.
    pub fn estimate_of(&self, places: &[usize], threads: usize, core_price_usd_per_hour: f64) -> Estimate {
        let requests = places.iter().map(|&place| self.requests(self.unique[place])).sum();
        Estimate { runs: places.len() as u64, requests, threads, core_price_usd_per_hour }
    }
}

impl Estimate {
    /// Time on one core, in s.
    pub fn core_s(&self) -> f64 {
        self.requests as f64 * ESTIMATED_NS_PER_REQUEST * 1e-9 + self.runs as f64 * ESTIMATED_US_PER_RUN * 1e-6
    }

    pub fn cost_usd(&self) -> f64 {
        self.core_s() / 3600.0 * self.core_price_usd_per_hour
    }

    /// How long it will take, in words.
    pub fn duration(&self) -> String {
        let threads = self.threads;
        format!("{} on {threads} thread{}", duration(self.core_s() / threads as f64), if threads == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (time, price) = (self.duration(), self.core_price_usd_per_hour);
        writeln!(f, "Estimated time: {time} (at {ESTIMATED_NS_PER_REQUEST} ns a request and {ESTIMATED_US_PER_RUN} us a run)")?;
        let (cost, hours) = (self.cost_usd(), self.core_s() / 3600.0);
        writeln!(f, "Estimated cost: ${cost:.2} for {hours:.2} core-hours (at ${price} a core-hour, see --core-price-usd-per-hour)")?;
        write!(f, "Estimated disk: {:.1} MB while it runs", self.runs as f64 * JOURNAL_BYTES_PER_RUN * 1e-6)
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "under a second".into(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_requests_and_runs_cost() {
        let estimate = Estimate { runs: 1_000_000, requests: 20_000_000_000, threads: 2, core_price_usd_per_hour: 0.1 };
        assert_eq!(estimate.core_s(), 3000.0 + 150.0);
        let lines: Vec<String> = estimate.to_string().lines().map(str::to_string).collect();
        assert_eq!(lines[0], "Estimated time: 26 min on 2 threads (at 150 ns a request and 150 us a run)");
        assert_eq!(lines[1], "Estimated cost: $0.09 for 0.88 core-hours (at $0.1 a core-hour, see --core-price-usd-per-hour)");
        assert_eq!(lines[2], "Estimated disk: 900.0 MB while it runs");
    }
}
