//! A figure of `docs/which-policy-when.md`: how much of the edge on `bursts` of `sweeps/frontier_shapes.json`
//! is left to whoever learns of a burst when it begins. Replicas depend on the time since then alone, in a
//! way that is fitted to each draw in hindsight.
//!
//! `cargo bench --bench told_when_bursts_begin`: five minutes, and no benchmark.

use rayon::prelude::*;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::oracle::{Objective, OracleSettings, ReplicaSchedule, evaluate, limits, search_with};
use scalefront::simulation::{ClusterSettings, RunInputs, RunMetrics, Workspace};
use scalefront::workload::arrivals::Bursts;
use scalefront::workload::{self, Workload, WorkloadSpec};
use serde_json::Value;

const PAUSE_AFTER_S: f64 = 120.0;

fn main() {
    let grid: Value = serde_json::from_str(include_str!("../sweeps/frontier_shapes.json")).expect("a grid");
    let of_bursts =
        grid["workloads"].as_array().into_iter().flatten().find(|workload| workload["name"] == "bursts");
    let of_bursts = of_bursts.expect("a workload of bursts");
    let spec: WorkloadSpec = serde_json::from_value(of_bursts.clone()).expect("a workload");
    let bursts: Bursts =
        serde_json::from_value(of_bursts["generate"]["arrivals"]["bursts"].clone()).expect("bursts");
    let seeds: Vec<u64> = serde_json::from_value(grid["seeds"].clone()).expect("seeds");
    seeds.into_par_iter().for_each(|seed| {
        let (mut at_s, mut begin) = (0.0, Vec::new());
        for phase in bursts.phases(seed) {
            begin.extend((phase.rate_per_s == bursts.burst_rate_per_s).then_some(at_s));
            at_s += phase.duration_s;
        }
        let workload = workload::load(&spec, seed, &[]).expect("a generated workload");
        println!(
            "seed {seed}, {} bursts: hypervolume {:.4}",
            begin.len(),
            share_of_box(&grid, &workload, &begin)
        );
    });
}

fn with_inputs<T>(cluster: &Value, workload: &Workload, run: impl Fn(&RunInputs) -> T) -> T {
    let cluster: ClusterSettings = serde_json::from_value(cluster.clone()).expect("a cluster");
    let autoscaler = serde_json::from_value(serde_json::json!({"inferline": {}})).expect("an autoscaler");
    let files = Files::default();
    let deployment =
        Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).expect("a known model and node");
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).expect("embedded tables");
    run(&RunInputs::new(workload, &cluster, &autoscaler, &times, 1).expect("a run that fits"))
}

/// The hypervolume of what is found for bursts that begin at these times.
fn share_of_box(grid: &Value, workload: &Workload, begin: &[f64]) -> f64 {
    let [most_cost, most_latency] =
        ["cost", "latency"].map(|of| grid["objectives"]["reference"][of].as_f64().expect("a number"));
    let settings = OracleSettings { budget: 5000, archive: 300, ..OracleSettings::default() };
    // What is searched holds from the beginning of a burst on.
    let mut short = Workload::default();
    (0..130).for_each(|second| short.push(f64::from(second), 256, 1));
    with_inputs(&grid["cluster"], workload, |inputs| {
        let limits = limits(inputs, &settings);
        // What is ordered when a burst begins is there after a cold start.
        let expanded = |plan: &ReplicaSchedule| {
            let replicas = (0..7300).map(|half_seconds| {
                let now_s = f64::from(half_seconds) / 2.0;
                let since = begin.iter().map(|&begin_s| now_s - begin_s);
                let told = since.filter(|since_s| (limits.scale_up_delay_s..PAUSE_AFTER_S).contains(since_s));
                (now_s, told.map(|since_s| plan.at(since_s)).max().unwrap_or(plan.at(PAUSE_AFTER_S)))
            });
            ReplicaSchedule::following(replicas).within(&limits)
        };
        with_inputs(&grid["cluster"], &short, |short_inputs| {
            let mut workspace = Workspace::default();
            let evaluate = |plans: &[ReplicaSchedule]| {
                plans.iter().map(|plan| evaluate(inputs, &limits, &expanded(plan), &mut workspace)).collect()
            };
            let objective = Objective {
                latency: &|metrics| metrics.e2e_s.map(|e2e| e2e.p90),
                cost: &|metrics| Some(metrics.total_cost_usd),
                reference: Some((most_cost, most_latency)),
            };
            let found = search_with(short_inputs, &[], &settings, objective, |_| (), evaluate);
            let (mut latency, mut area) = (most_latency, 0.0);
            for RunMetrics { total_cost_usd, e2e_s, .. } in found.points.iter().map(|point| &point.metrics) {
                let p90 = e2e_s.expect("requests that complete").p90;
                if *total_cost_usd < most_cost && p90 < latency {
                    area += (most_cost - total_cost_usd) * (latency - p90);
                    latency = p90;
                }
            }
            area / (most_cost * most_latency)
        })
    })
}
