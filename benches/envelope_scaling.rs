//! The traffic envelope with 10^3 to 10^7 requests in the look-back, beside its definition.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

fn main() {
    let mut cases = Vec::new();
    for exponent in 3..=7 {
        let in_look_back = 10_usize.pow(exponent);
        cases.push(cases::envelope((2 * in_look_back).max(1_000_000), in_look_back));
    }
    for exponent in 3..=5 {
        let in_look_back = 10_usize.pow(exponent);
        cases.push(cases::naive_envelope(2 * in_look_back, in_look_back));
    }
    measure::measure("envelope_scaling", cases);
}
