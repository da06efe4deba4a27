//! Cells of a sweep.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

use cases::Size;

fn main() {
    let cases = cases::sweep(Size::Full);
    measure::measure("sweep", cases);
}
