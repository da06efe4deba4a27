//! The traffic envelope with 10^3 to 10^7 requests in the look-back, beside its definition.
//!
//! `-- --draw` measures single operations, the worst of them as well, and draws `envelope_scaling.svg` and
//! `.png` beside this file.

mod cases;
#[path = "cases/measure.rs"]
mod measure;

use std::path::Path;

use anyhow::Result;
use scalefront::report::{Series, draw_scaling};

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "--draw") {
        return draw();
    }
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
    Ok(())
}

fn draw() -> Result<()> {
    let names = [
        "query by the definition",
        "worst single query",
        "worst single update",
        "query, mean",
        "update, mean",
    ];
    let mut series =
        names.map(|name| Series { name: name.into(), points: Vec::new(), dashed: name.starts_with("worst") });
    println!(
        "| requests in the look-back | {} |\n| --- |{}",
        names.map(|name| format!("{name}, us")).join(" | "),
        " --- |".repeat(names.len())
    );
    for exponent in 3..=7 {
        let in_look_back = 10_usize.pow(exponent);
        let costs = cases::envelope_costs(in_look_back, 4);
        let naive_ns = cases::naive_query_ns(in_look_back, 3);
        let measured =
            [naive_ns, costs.worst_query_ns, costs.worst_update_ns, costs.query_ns, costs.update_ns]
                .map(|ns| ns * 1e-3);
        println!("| 10^{exponent} | {} |", measured.map(|us| format!("{us:.4}")).join(" | "));
        series
            .iter_mut()
            .zip(measured)
            .for_each(|(series, us)| series.points.push((in_look_back as f64, us)));
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    draw_scaling(
        "Traffic envelope: cost of an operation",
        ["Requests in the look-back", "Time (µs)"],
        &series,
        &directory,
        "envelope_scaling",
    )
}
