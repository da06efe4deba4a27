//! Starts from cold, warm and hot beside what was measured of them.

use std::collections::BTreeMap;
use std::path::Path;

use scalefront::simulation::Workspace;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::run_cell;

/// P99 of time to first token of the table's rows, s.
fn measured(file: &Path) -> Vec<(&'static str, f64)> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|found| found == name).unwrap();
    let (table, policy, p99) = (column("table"), column("policy"), column("ttft_p99_s"));
    let rows: Vec<_> = reader.records().map(Result::unwrap).filter(|row| &row[table] == "F1").collect();
    let of = |word: &'static str| {
        let row = rows.iter().find(|row| row[policy].contains(word)).unwrap();
        (word, row[p99].parse().unwrap())
    };
    ["cold", "warm", "hot"].map(of).to_vec()
}

/// The order, and each within a factor of 1.5 in the mean over seeds. Not on record: how many prefixes the
/// prompts had, and how long the client waited; see docs/methods.md.
pub fn cold_warm_hot(shared: &Path) {
    let grid = Grid::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/starts.json")).unwrap();
    let plan = Plan::new(grid).unwrap();
    let mut found: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for &index in plan.unique() {
        let cell = plan.cell(index);
        let metrics = run_cell(&cell, &plan.inputs, &mut Workspace::default()).unwrap();
        let kind = match cell.cluster.cold_start.spares.first() {
            None => "cold",
            Some(spares) if spares.start_s > 60.0 => "warm",
            Some(_) => "hot",
        };
        let p99_s = metrics.ttft_s.unwrap().p99;
        println!(
            "{kind}: P99 of time to first token {p99_s:.1} s, {} of {} cut off",
            metrics.num_cut, metrics.num_requests
        );
        found.entry(kind).or_default().push(p99_s);
    }
    let mut earlier_s = f64::INFINITY;
    for (kind, measured_s) in measured(&shared.join("data/real_autoscaling/measured_tables.csv")) {
        let of_seeds = &found[kind];
        let mean_s = of_seeds.iter().sum::<f64>() / of_seeds.len() as f64;
        println!("{kind}: {mean_s:.1} s, measured {measured_s:.1} s");
        assert!(
            (measured_s / 1.5..measured_s * 1.5).contains(&mean_s),
            "{kind}: {of_seeds:?}, measured {measured_s}"
        );
        assert!(mean_s < earlier_s, "{kind} is no sooner than what starts later");
        earlier_s = mean_s;
    }
}
