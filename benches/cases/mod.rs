//! What is measured: the same cases for the benches, for the instruction counts, and, at tiny size, for the
//! tests.
//!
//! Each case does one piece of work and answers with a digest of its result, so that nobody gets faster by
//! changing the answer.
#![allow(dead_code, unused_imports, reason = "whoever includes this uses a part of it")]

mod bare;
mod day;
mod envelope;
mod fleets;
mod import;
mod search;

pub use day::cases as day;
pub use envelope::{envelope, envelope_costs, naive_envelope, naive_query_ns};
pub use fleets::{FLEETS, cases as fleets};
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, Workspace, simulate};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::grid::source::Source;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::{Progress, run_all};
use scalefront::workload::{self, Workload, WorkloadSpec};
pub use search::search;
use serde_json::{Value, json};

/// How much work: enough to measure, enough to count instructions, or just enough to see that it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Full,
    Small,
    Tiny,
}

impl Size {
    /// The share of a full case's work.
    pub fn share(self) -> f64 {
        match self {
            Self::Full => 1.0,
            Self::Small => 0.05,
            Self::Tiny => 0.002,
        }
    }
}

/// One piece of work that can be done again and again.
pub struct Case {
    pub name: String,
    /// What the time is divided by: requests, updates, cells, rows.
    pub elements: u64,
    pub run: Box<dyn FnMut() -> String + Send>,
}

impl Case {
    fn new(name: impl Into<String>, elements: usize, run: impl FnMut() -> String + Send + 'static) -> Self {
        Self { name: name.into(), elements: elements as u64, run: Box::new(run) }
    }
}

pub fn digest(result: impl std::fmt::Debug) -> String {
    blake3::hash(format!("{result:?}").as_bytes()).to_hex()[..16].to_string()
}

pub fn generated(arrivals: Value, lengths: Value) -> Workload {
    let generate = json!({"name": "bench", "generate": {"arrivals": arrivals, "lengths": lengths}});
    workload::load(&serde_json::from_value::<WorkloadSpec>(generate).expect("valid settings"), 1, &[])
        .expect("a generated workload")
}

/// Traffic like the lab's hour of 126,000 requests: steps of load, prompts of 256 tokens, one output token.
pub fn steps(size: Size) -> Workload {
    let phases: Vec<Value> = [(1200.0, 20), (600.0, 30), (1200.0, 50), (600.0, 40)]
        .map(|(duration_s, rate)| json!({"duration_s": duration_s * size.share(), "rate_per_s": rate}))
        .into();
    generated(
        json!({"poisson": {"phases": phases}}),
        json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}),
    )
}

/// Traffic like a conversation trace: 19,400 requests, 4 million output tokens.
fn conversations(size: Size) -> Workload {
    let lengths = json!({"lognormal": {
        "prefill": {"mean_tokens": 1155, "cv": 0.9, "max_tokens": 3500},
        "decode": {"mean_tokens": 211, "cv": 0.8, "max_tokens": 500}}});
    generated(json!({"poisson": {"rate_per_s": 5.5, "duration_s": 3530.0 * size.share()}}), lengths)
}

/// Traffic like a trace of long contexts: 12,000 requests of 12,000 prompt and 343 output tokens.
fn long_contexts(size: Size) -> Workload {
    let lengths = json!({"lognormal": {
        "prefill": {"mean_tokens": 12_000, "cv": 1.0, "max_tokens": 100_000},
        "decode": {"mean_tokens": 343, "cv": 0.8, "max_tokens": 2000}}});
    generated(json!({"poisson": {"rate_per_s": 3.4, "duration_s": 3530.0 * size.share()}}), lengths)
}

/// Everything a run needs, owned, so that it can be run again and again.
pub struct Setup {
    workload: Workload,
    cluster: ClusterSettings,
    autoscaler: AutoscalerSettings,
    times: ExecutionTime,
}

impl Setup {
    pub fn new(workload: Workload, cluster: Value, autoscaler: Value) -> Self {
        let cluster: ClusterSettings = serde_json::from_value(cluster).expect("valid settings");
        let files = Files::default();
        let deployment = Deployment::resolve(
            &cluster.model,
            &cluster.node,
            cluster.tensor_parallel,
            cluster.pipeline_parallel,
            &files,
        );
        let times = ExecutionTime::load(
            &cluster.execution_time,
            &deployment.expect("a known model and node"),
            &files,
        );
        let autoscaler = serde_json::from_value(autoscaler).expect("valid settings");
        let times = times.expect("embedded tables").with_overheads(&cluster.engine_overheads, false, &files);
        Self { workload, cluster, autoscaler, times: times.expect("known overheads") }
    }

    pub fn requests(&self) -> usize {
        self.workload.num_requests() as usize
    }

    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    pub fn inputs(&self) -> RunInputs<'_> {
        RunInputs::new(&self.workload, &self.cluster, &self.autoscaler, &self.times, 1)
            .expect("a run that fits")
    }

    fn case(self, name: impl Into<String>) -> Case {
        let mut workspace = Workspace::default();
        Case::new(name, self.requests(), move || {
            digest(simulate(&self.inputs(), &mut workspace).expect("a run that ends"))
        })
    }
}

/// The setup that the engine's speed is stated for.
pub fn lab(size: Size, router: &str) -> Setup {
    let cluster = json!({"global_scheduler": router, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    Setup::new(steps(size), cluster, json!("inferline"))
}

/// The bare loop on the same traffic: what nobody can beat who queues, scales and takes a percentile.
pub fn bare(size: Size) -> Case {
    let setup = lab(size, "round_robin");
    Case::new("bare loop", setup.requests(), move || digest(run_bare(&setup)))
}

/// P90 of the latency, and replica-seconds.
pub fn run_bare(setup: &Setup) -> (f64, f64) {
    bare::run(&setup.workload, &bare::batch_times_s(&setup.times))
}

/// Requests x replicas x scheduler.
pub fn engine(size: Size) -> Vec<Case> {
    let mut cases: Vec<Case> = ["round_robin", "least_outstanding"]
        .map(|router| lab(size, router).case(format!("steps, vllm, {router}, inferline")))
        .into();
    for scheduler in ["sarathi", "orca", "lightllm", "faster_transformer"] {
        let cluster = json!({"replica_scheduler": {scheduler: {"batch_size_cap": 16}}});
        cases.push(
            Setup::new(steps(size), cluster, json!("inferline"))
                .case(format!("steps, {scheduler}, round_robin, inferline")),
        );
    }
    cases.extend([10, 100, 1000, 10_000].map(|replicas| many_replicas(size, replicas)));
    cases
}

/// About so many requests at the lab's mean rate, whatever the number: more of them make the run longer.
pub fn lab_of(requests: usize) -> Case {
    let workload = generated(
        json!({"poisson": {"rate_per_s": 35, "duration_s": requests as f64 / 35.0}}),
        json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}),
    );
    Setup::new(workload, json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}}), json!("inferline"))
        .case(format!("{requests} requests"))
}

/// So many replicas, each as busy as the next; the number of requests is the same whatever the number of
/// replicas.
pub fn many_replicas(size: Size, replicas: u32) -> Case {
    let requests = 400_000.0 * size.share();
    let rate_per_s = 6.0 * f64::from(replicas);
    let workload = generated(
        json!({"poisson": {"rate_per_s": rate_per_s, "duration_s": requests / rate_per_s}}),
        json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}),
    );
    let cluster = json!({"global_scheduler": "least_outstanding", "max_replicas": replicas, "initial_replicas": replicas});
    let name = format!("{replicas} replicas, vllm, least_outstanding, static");
    Setup::new(workload, cluster, json!({"static": {"replicas": replicas}})).case(name)
}

/// Long outputs, which cost per request and not per token.
pub fn decode(size: Size) -> Vec<Case> {
    let cluster = json!({"global_scheduler": "least_outstanding"});
    let long = json!({"global_scheduler": "least_outstanding", "max_request_tokens": 131_072, "memory_margin_fraction": 0.05,
        "replica_scheduler": {"vllm": {"max_tokens_in_batch": 131_072, "num_blocks": 32_768}}});
    let planned = json!({"inferline": {"throughput_measure": "planned"}});
    vec![
        Setup::new(conversations(size), cluster.clone(), json!({"static": {"replicas": 8}}))
            .case("conversations, static"),
        Setup::new(conversations(size), cluster.clone(), planned).case("conversations, inferline"),
        Setup::new(conversations(size), cluster, json!("hpa")).case("conversations, hpa"),
        Setup::new(long_contexts(size), long, json!({"static": {"replicas": 32}}))
            .case("long contexts, static"),
    ]
}

/// Prompts that come again, of which nothing is known, or which are known and not cached, or cached.
pub const PROMPTS: [&str; 3] =
    ["prompts unknown, caching off", "prompts known, caching off", "prompts known, caching on"];

/// The cases of [`PROMPTS`]: what prefix caching costs those who do not use it, and those who do.
pub fn prefix_caching(size: Size) -> Vec<Case> {
    let workload = || {
        let generate = json!({"name": "bench", "generate": {
            "arrivals": {"poisson": {"rate_per_s": 12, "duration_s": 1000.0 * size.share()}},
            "lengths": {"lognormal": {
                "prefill": {"mean_tokens": 3000, "cv": 0.8, "max_tokens": 12_000}, "decode": {"mean_tokens": 200, "cv": 0.8}}},
            "prompts": {"groups": 10, "prompts_per_group": 10, "shared_tokens": 1000}}});
        workload::load(&serde_json::from_value::<WorkloadSpec>(generate).expect("valid settings"), 1, &[])
            .expect("a generated workload")
    };
    let cases = PROMPTS.map(|name| {
        let (known, caching) = (name.contains("prompts known"), name.ends_with("on"));
        let workload = Workload { prefix: workload().prefix.filter(|_| known), ..workload() };
        let cluster = json!({"node": "h100_dgx", "execution_time": "analytical", "memory_planner": "vllm", "max_request_tokens": 32_768,
            "replica_scheduler": {"vllm_v1": {"prefix_caching": caching, "num_blocks": 20_000}}});
        Setup::new(workload, cluster, json!({"static": {"replicas": 8}})).case(name)
    });
    cases.into()
}

/// Cells of a sweep, from the grid to the rows, journal and tables apart: tiny cells show what a cell costs
/// beyond its run.
pub fn sweep(size: Size) -> Vec<Case> {
    let cells = match size {
        Size::Full => 2000,
        Size::Small => 200,
        Size::Tiny => 6,
    };
    vec![
        sweep_of("cells of 20 requests", cells, 1.0),
        sweep_of("cells of 6,300 requests", cells / 10 + 1, 300.0),
    ]
}

pub fn sweep_of(name: &str, cells: usize, duration_s: f64) -> Case {
    let delays: Vec<f64> = (0..cells).map(|i| i as f64 * 0.5).collect();
    let grid = json!({
        "name": "bench",
        "workloads": [{"name": "steady", "generate": {
            "arrivals": {"poisson": {"rate_per_s": 21, "duration_s": duration_s}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}],
        "cluster": {"scale_up_delay_s": delays},
        "autoscalers": [{"inferline": {}}],
    });
    Case::new(name, cells, move || {
        let source = Source { file: "bench.json".into(), text: grid.to_string() };
        let grid = Grid::parse(source, "bench.json".as_ref(), Vec::new()).expect("a valid grid");
        let plan = Plan::new(grid).expect("a grid that can be planned");
        digest(run_all(&plan, &Quiet).expect("not interrupted"))
    })
}

struct Quiet;

impl Progress for Quiet {
    fn run_ended(&self, _requests: u64) {}

    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Files read: traces of two formats, a hardware profile.
pub fn import(size: Size) -> Vec<Case> {
    import::cases((100_000.0 * size.share()) as usize)
}
