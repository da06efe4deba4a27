//! `compare.html`: one file, offline, without scripts.

use anyhow::{Context, Result};
use minijinja::Environment;
use serde_json::json;

use super::{HEADINGS, Page};
use crate::report::plots::ComparisonPlot;

const TEMPLATE: &str = include_str!("../assets/compare.html");
const STYLE: &str = include_str!("../assets/report.css");

pub fn page(page: &Page, plots: &[ComparisonPlot]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("compare.html", TEMPLATE)?; // by this ending minijinja escapes what it fills in
    let sections = page.sections.iter().map(|section| {
        let plot = plots.iter().find(|plot| plot.workload == section.workload).map(|plot| &plot.svg);
        let rows = section.rows.iter().map(|row| json!({ "cells": row.cells(), "pairs": row.pairs })).collect::<Vec<_>>();
        json!({ "name": section.name, "reference": section.reference, "plot": plot, "rows": rows })
    });
    let rendered = environment.get_template("compare.html")?.render(minijinja::value::Serde(json!({
        "style": STYLE,
        "version": env!("CARGO_PKG_VERSION"),
        "title": page.title,
        "headings": HEADINGS,
        "warnings": page.warnings,
        "sections": sections.collect::<Vec<_>>(),
        "about": page.about,
        "sweeps": page.sweeps,
    })));
    rendered.context("the page's template does not render")
}
