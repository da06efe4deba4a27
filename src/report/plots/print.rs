//! Figures for print: `figures/<kind>_<workload>.pdf`, as wide as a column, each with a caption that says
//! what was run, as plain text and as a piece of LaTeX.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::style::{ColumnWidth, Style};
use super::{KINDS, pdf, plot, remove_stale, slugs};
use crate::analysis::table::Cells;
use crate::files::{make_directory, write_atomically};
use crate::report::names::{counted, grouped, label_within, sentence};
use crate::report::palette::DASHES;
use crate::report::study::Study;
use crate::sweep::run::series::judged;

/// Columns of runs that a caption names, where all runs have one or few values, and what stands before them.
const SAID: [(&str, &str); 8] = [
    ("model", ""),
    ("node", "on "),
    ("tensor_parallel", "tensor parallel "),
    ("pipeline_parallel", "pipeline parallel "),
    ("replica_scheduler", "replica scheduler "),
    ("global_scheduler", "router "),
    ("execution_time", "step times "),
    ("scale_up_delay_s", "cold start (s) "),
];

/// More values of a column than this are counted.
const MOST_VALUES: usize = 4;

/// Draws every figure for a column of print into `directory`, and removes those of before that this one does
/// not draw.
pub fn draw_for_print(study: &mut Study, directory: &Path, width: ColumnWidth) -> Result<usize> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    let looks = study.looks.clone();
    // Without its colour a family is known by marker and dash.
    for (family, look) in study.looks.iter_mut().enumerate() {
        let own = crate::report::palette::look(family);
        (look.marker, look.marker_name) = (own.marker, own.marker_name);
        look.dash = DASHES[family % DASHES.len()];
    }
    let drawn = draw(study, directory, width);
    study.looks = looks;
    drawn
}

fn draw(study: &Study, directory: &Path, width: ColumnWidth) -> Result<usize> {
    let style = Style::Column(width);
    let slugs = slugs(study);
    let jobs = (0..slugs.len()).flat_map(|workload| KINDS.map(|kind| (workload, kind))).collect::<Vec<_>>();
    let cluster = cluster(study);
    let draw = |&(workload, kind): &(usize, &str)| -> Result<Option<String>> {
        let Some(drawn) = plot(study, workload, kind, style)? else { return Ok(None) };
        let stem = format!("{kind}_{}", slugs[workload]);
        let caption = caption(study, workload, kind, &drawn.notes, &cluster);
        let title = format!("{} on {}", subject(study, kind), study.analysis.workloads[workload].name);
        let write = |extension: &str, bytes: &[u8]| {
            write_atomically(&directory.join(format!("{stem}.{extension}")), |out| Ok(out.write_all(bytes)?))
        };
        write("pdf", &pdf::of_svg(&drawn.svg, width.mm(), &title)?)?;
        write("caption.txt", format!("{caption}\n").as_bytes())?;
        write("tex", latex(&stem, width, &caption).as_bytes())?;
        Ok(Some(stem))
    };
    let stems = jobs.par_iter().map(draw).collect::<Result<Vec<_>>>()?;
    remove_stale(directory, &KINDS, &["pdf", "tex"], &stems)?;
    let captions: Vec<_> =
        stems.iter().map(|stem| stem.as_ref().map(|stem| format!("{stem}.caption"))).collect();
    remove_stale(directory, &KINDS, &["txt"], &captions)?;
    Ok(stems.iter().flatten().count())
}

/// What a kind of figure shows.
fn subject(study: &Study, kind: &str) -> String {
    let (latency, cost) = study.objectives();
    match kind {
        "front" => format!("{} against {}", sentence(&label_within(latency)), label_within(cost)),
        "robustness" => "How robust the cheapest setting is that keeps the limits".into(),
        "importance" => "Settings that matter most".into(),
        "pools" => "Replicas by pool over time".into(),
        "replicas" => "Replicas over time".into(),
        "arrival_rate" => "Arrival rate".into(),
        _ => format!("{} of requests", sentence(judged(&study.manifest.objectives).label)),
    }
}

fn caption(study: &Study, workload: usize, kind: &str, notes: &[String], cluster: &str) -> String {
    let name = &study.analysis.workloads[workload].name;
    let mut text = format!("{} on workload {name}.", subject(study, kind));
    for note in notes {
        text += &format!(" {}.", sentence(note.trim_end_matches('.')));
    }
    let seeds = study.seeds();
    let of_seeds: Vec<_> = study.manifest.workloads.iter().filter(|summary| summary.name == *name).collect();
    if let Some(first) = of_seeds.first() {
        let requests = grouped(first.requests as u64);
        let about = if of_seeds.iter().any(|other| other.requests != first.requests) { "about " } else { "" };
        text += &format!(
            " Workload: {about}{requests} requests in {:.0} s, {:.0} prefill and {:.0} decode tokens each in the mean.",
            first.duration_s,
            first.prefill_tokens as f64 / first.requests.max(1) as f64,
            first.decode_tokens as f64 / first.requests.max(1) as f64,
        );
    }
    let limits = study.manifest.objectives.constraints.on(name);
    if !limits.is_empty() {
        let limits: Vec<String> = limits.iter().map(ToString::to_string).collect();
        text += &format!(" Limits: {}.", limits.join(", "));
    }
    let manifest = &study.manifest;
    let listed = match &seeds[..] {
        [only] => format!("seed {only}"),
        [first, .., last] if last - first + 1 == seeds.len() as i64 => format!("seeds {first} to {last}"),
        all => format!("seeds {}", all.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    };
    text += &format!(
        " Cluster: {cluster}. {}, {listed}; simulated by Scalefront {} (results version {}).",
        sentence(&counted(manifest.runs_planned, "run")),
        manifest.scalefront_version,
        manifest.results_version
    );
    text
}

/// What the runs' replicas are, as far as it is worth a caption.
fn cluster(study: &Study) -> String {
    let of = |&(column, before): &(&str, &str)| {
        let cells = Cells::named(&study.runs, column).ok()?;
        let mut values: Vec<String> = (0..study.runs.height()).filter_map(|row| cells.text(row)).collect();
        values.sort();
        values.dedup();
        match values.len() {
            0 => None,
            // What is left at one says nothing.
            1 if column.ends_with("_parallel") && values[0] == "1" => None,
            1..=MOST_VALUES => Some(format!("{before}{}", values.join(" or "))),
            many => Some(format!("{many} values of {column}")),
        }
    };
    SAID.iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

/// A figure as LaTeX takes it.
fn latex(stem: &str, width: ColumnWidth, caption: &str) -> String {
    let (caption, mm) = (escaped(caption), width.mm());
    format!(
        "\\begin{{figure}}\n  \\centering\n  \\includegraphics[width={mm}mm]{{{stem}.pdf}}\n  \\caption{{{caption}}}\n  \\label{{fig:{stem}}}\n\
         \\end{{figure}}\n"
    )
}

/// Text as LaTeX shows it as it is.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => shown.extend(['\\', c]),
            '\\' => shown += "\\textbackslash{}",
            '~' => shown += "\\textasciitilde{}",
            '^' => shown += "\\textasciicircum{}",
            '<' => shown += "$<$",
            '>' => shown += "$>$",
            '≤' => shown += "$\\leq$",
            '≥' => shown += "$\\geq$",
            '·' => shown += "$\\cdot$",
            '−' => shown += "$-$",
            '±' => shown += "$\\pm$",
            '✗' => shown += "$\\times$",
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_latex() {
        let width = ColumnWidth::new(84.0).unwrap();
        let text = latex("front_steps", width, "p99_ttft_s ≤ 2 & 5 % of {x}: a\\b");
        assert!(text.contains("\\includegraphics[width=84mm]{front_steps.pdf}"), "{text}");
        assert!(
            text.contains("\\caption{p99\\_ttft\\_s $\\leq$ 2 \\& 5 \\% of \\{x\\}: a\\textbackslash{}b}"),
            "{text}"
        );
    }
}
