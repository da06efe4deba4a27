//! Long outputs.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

use cases::Size;

fn main() {
    let cases = cases::decode(Size::Full);
    measure::measure("decode", cases);
}
