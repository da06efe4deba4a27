//! Small runs for tests: a cluster from JSON, a workload from triples, the measured tables loaded once.

use std::sync::OnceLock;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::settings::Faults;
use scalefront::simulation::{ClusterSettings, RunInputs};
use scalefront::workload::Workload;
use serde_json::Value;

pub struct Scenario {
    pub workload: Workload,
    pub cluster: ClusterSettings,
    pub autoscaler: AutoscalerSettings,
}

impl Scenario {
    /// Requests are (arrival, prefill tokens, decode tokens) in order of arrival.
    pub fn new(
        cluster: Value,
        autoscaler: Value,
        requests: impl IntoIterator<Item = (f64, u32, u32)>,
    ) -> Self {
        let cluster: ClusterSettings = serde_json::from_value(cluster).unwrap();
        let autoscaler: AutoscalerSettings = serde_json::from_value(autoscaler).unwrap();
        let mut faults = Faults::default();
        cluster.check(&mut faults);
        autoscaler.check(&mut faults);
        assert_eq!(faults.found, []);
        let mut workload = Workload::default();
        for (arrived_at_s, prefill_tokens, decode_tokens) in requests {
            workload.push(arrived_at_s, prefill_tokens, decode_tokens);
        }
        Self { workload, cluster, autoscaler }
    }

    pub fn inputs(&self) -> RunInputs<'_> {
        let times = execution_time(self.cluster.tensor_parallel, self.cluster.pipeline_parallel);
        RunInputs::new(&self.workload, &self.cluster, &self.autoscaler, times, 1).unwrap()
    }
}

/// The embedded tables for 4 GPUs in one stage or 2 times 2.
pub fn execution_time(tensor_parallel: u32, pipeline_parallel: u32) -> &'static ExecutionTime {
    static ONE_STAGE: OnceLock<ExecutionTime> = OnceLock::new();
    static TWO_STAGES: OnceLock<ExecutionTime> = OnceLock::new();
    let cache = match (tensor_parallel, pipeline_parallel) {
        (4, 1) => &ONE_STAGE,
        (2, 2) => &TWO_STAGES,
        other => panic!("no cache for {other:?}"),
    };
    cache.get_or_init(|| {
        let cluster = ClusterSettings::default();
        let files = Files::default();
        let deployment =
            Deployment::resolve(&cluster.model, &cluster.node, tensor_parallel, pipeline_parallel, &files)
                .unwrap();
        ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap()
    })
}
