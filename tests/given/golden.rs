//! The reference simulator's outputs, request by request.

use std::path::Path;

use super::case::Case;

/// Holds each of these cases against our run of it.
pub fn check(shared: &Path, names: &[&str]) {
    for name in names {
        let trace = shared.join("data/traces/Synthetic_Trace1_1hr.csv");
        let deviation = Case::load(&shared.join("golden").join(name), Some(&trace)).check();
        println!("{name}: at most {:.1e} s, cost {:.1e} relative", deviation.time_s, deviation.cost);
    }
}
