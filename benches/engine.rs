//! How fast a run is, by requests, replicas and scheduler, beside a bare loop.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

use cases::Size;

fn main() {
    let mut cases = vec![cases::bare(Size::Full)];
    cases.extend(cases::engine(Size::Full));
    measure::measure("engine", cases);
}
