//! `compare.html`: one file, offline, without scripts.

use anyhow::{Context, Result};
use minijinja::Environment;
use serde_json::json;

use super::{Page, Row};
use crate::report::plots::ComparisonPlot;

const TEMPLATE: &str = include_str!("../assets/compare.html");
const STYLE: &str = include_str!("../assets/report.css");
const HEADINGS: [&str; 5] = [
    "candidate",
    "verdict on the hypervolume",
    "cost at equal latency",
    "latency at equal cost",
    "hypervolume difference",
];

pub fn page(page: &Page, plots: &[ComparisonPlot]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("compare.html", TEMPLATE)?; // by this ending minijinja escapes what it fills in
    let sections = page.sections.iter().map(|section| {
        let plot = plots.iter().find(|plot| plot.workload == section.workload).map(|plot| &plot.svg);
        let rows = section.rows.iter().map(cells).collect::<Vec<_>>();
        json!({ "name": section.name, "reference": section.reference, "plot": plot, "rows": rows })
    });
    let rendered = environment.get_template("compare.html")?.render(minijinja::value::Serde(json!({
        "style": STYLE,
        "version": env!("CARGO_PKG_VERSION"),
        "title": page.title,
        "headings": HEADINGS,
        // Between backticks stand names of settings.
        "warnings": page.warnings.iter().map(|warning| warning.split('`').collect::<Vec<_>>()).collect::<Vec<_>>(),
        "sections": sections.collect::<Vec<_>>(),
        "about": page.about,
        "sweeps": page.sweeps,
    })));
    rendered.context("the page's template does not render")
}

/// The columns of a row, each a figure and below it what it rests on.
fn cells(row: &Row) -> [Vec<String>; 5] {
    let with_interval = |text: &str| match text.split_once(" [") {
        Some((figure, interval)) => vec![figure.to_owned(), format!("[{interval}")],
        None => vec![text.to_owned()],
    };
    let mut difference = with_interval(&row.hv_difference);
    difference.push(format!("{} against {}", row.hv_candidate, row.hv_baseline));
    [
        vec![row.candidate.clone(), format!("against {}", row.baseline), row.pairs.clone()],
        vec![row.verdict.clone(), format!("won-lost-tied {}", row.record)],
        with_interval(&row.cost),
        with_interval(&row.latency),
        difference,
    ]
}
