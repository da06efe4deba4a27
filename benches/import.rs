//! Reading traces and tables.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

use cases::Size;

fn main() {
    let cases = cases::import(Size::Full);
    measure::measure("import", cases);
}
