//! A measured run, simulated: the same requests, or as many at the stated rates, on one replica of the same
//! model and device.

use anyhow::{Context, Result};
use rand::RngExt;
use rand_distr::Exp1;
use serde_json::json;

use super::experiment::{
    Experiment, Experiments, TracedRequest, is_in_process, read_trace, sorts_logits, vllm_version,
};
use crate::autoscaler::AutoscalerSettings;
use crate::hardware::{
    Deployment, ExecutionTime, Files, HardwareError, OverheadSettings, Overheads, catalog,
};
use crate::random;
use crate::settings::Faults;
use crate::simulation::{
    ClusterSettings, Parts, RequestRecord, RunInputs, Workspace, simulate_parts_in_detail,
};
use crate::workload::prompts::{self, BLOCK_TOKENS};
use crate::workload::{PrefixBlocks, Workload};

/// From the end of a stage to the start of the next.
const BETWEEN_STAGES_S: f64 = 2.0;

/// A measured run with everything its simulation needs but the overheads of its engine.
pub struct Replay {
    pub experiment: Experiment,
    cluster: ClusterSettings,
    autoscaler: AutoscalerSettings,
    times: ExecutionTime,
    requests: Option<Vec<TracedRequest>>,
    /// Tokens of the longest prompt.
    longest_prompt: u32,
    /// What its engine samples by, and whether it has an API server.
    samples: bool,
    has_api: bool,
}

/// One request of a simulated run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    pub stage: u32,
    /// Place among the requests of its stage.
    pub index: usize,
    pub ttft_ms: f64,
    pub e2e_ms: f64,
    /// `None` of a request of one token.
    pub tpot_ms: Option<f64>,
}

/// Nodes by what measured runs call their devices; the first whose words are all there.
const NODES: &[(&[&str], &str)] = &[
    (&["GB300"], "gb300_nvl"),
    (&["GB200"], "gb200_nvl"),
    (&["B300"], "b300_dgx"),
    (&["B200"], "b200_dgx"),
    (&["H200"], "h200_dgx"),
    (&["H100", "PCIE"], "h100_pcie_server"),
    (&["H100"], "h100_dgx"),
    (&["A100", "PCIE"], "a100_pcie_server"),
    (&["A100"], "a100_dgx"),
    (&["L40S"], "l40s_server"),
    (&["PRO 6000"], "rtx_pro_6000_server"),
    (&["A40"], "a40_pairwise_nvlink"),
    (&["A30"], "a30_server"),
    (&["L4"], "l4_server"),
];

/// The node a measured run's device stands in.
pub fn node_of(gpu: &str) -> Option<&'static str> {
    let gpu = gpu.to_uppercase();
    NODES.iter().find(|(words, _)| words.iter().all(|word| gpu.contains(word))).map(|(_, node)| *node)
}

impl Replay {
    /// Prepares a measured run.
    ///
    /// Errors: why it cannot be simulated.
    pub fn new(experiments: &Experiments, experiment: &Experiment) -> Result<Self, String> {
        let requests =
            experiment.trace.as_ref().map(|trace| read_trace(&experiments.dir.join(trace))).transpose();
        Self::of(experiment, requests.map_err(|error| format!("{error:#}"))?)
    }

    /// Prepares a run of these requests, or of those that its load describes.
    ///
    /// Errors: why it cannot be simulated.
    pub fn of(experiment: &Experiment, requests: Option<Vec<TracedRequest>>) -> Result<Self, String> {
        let (model, engine) = (&experiment.model, &experiment.engine);
        if experiment.usable == Some(false) {
            return Err("its description says that it is not usable".into());
        }
        if let Some(name) = engine.engine.as_ref().filter(|name| !name.to_lowercase().contains("vllm")) {
            return Err(format!("engine `{name}` is not modelled, only vLLM is"));
        }
        let Some(node) =
            catalog::node(&experiment.gpu).map(|node| node.name).or_else(|| node_of(&experiment.gpu))
        else {
            return Err(format!("device `{}` is not in the catalogue", experiment.gpu));
        };
        if catalog::model(model).is_none() {
            return Err(format!("model `{model}` is not in the catalogue"));
        }
        if let Some(parallel) = engine.data_parallel.filter(|&parallel| parallel > 1) {
            return Err(format!("{parallel} replicas behind one server (data parallel) are not modelled"));
        }
        let precision = experiment.precision.as_deref().unwrap_or("BF16").to_uppercase();
        let weights = match () {
            () if precision.contains("16") => "bf16",
            () if precision.contains("FP8") => "fp8",
            () => return Err(format!("precision `{precision}` is not modelled")),
        };
        let mut scheduler = json!({
            "batch_size_cap": engine.max_num_seqs.unwrap_or(256),
            "block_size_tokens": engine.block_size.unwrap_or(16),
            "max_tokens_in_batch": engine.max_num_batched_tokens.unwrap_or(8192),
            "version": vllm_version(engine),
            "prefix_caching": engine.prefix_caching.unwrap_or(true),
        });
        if let Some(blocks) = engine.kv_blocks_gpu {
            scheduler["num_blocks"] = json!(blocks);
        }
        let cluster = json!({
            "model": model, "node": node, "node_price_usd_per_hour": 1, "tensor_parallel": experiment.tp,
            "execution_time": {"analytical": {"weights": weights}},
            "replica_scheduler": {"vllm_v1": scheduler},
            "memory_planner": {"vllm_profiled": {
                "gpu_memory_utilization": engine.gpu_memory_utilization.unwrap_or(0.9),
                "max_batched_tokens": engine.max_num_batched_tokens.unwrap_or(8192),
                "max_num_seqs": engine.max_num_seqs.unwrap_or(256),
            }},
            "max_request_tokens": engine.max_model_len.unwrap_or(4096).min(4096),
        });
        let cluster: ClusterSettings = serde_json::from_value(cluster).map_err(|error| error.to_string())?;
        let mut faults = Faults::default();
        cluster.check(&mut faults);
        if let Some(fault) = faults.found.first() {
            return Err(format!("`{}`: {}", fault.path, fault.message));
        }
        let times = Deployment::resolve(model, node, experiment.tp, 1, &Files::default())
            .and_then(|deployment| {
                ExecutionTime::load(&cluster.execution_time, &deployment, &Files::default())
            })
            .map_err(|error| error.to_string())?;
        let load = &experiment.load;
        if requests.is_none() && (load.prompt.tokens().is_none() || load.output.tokens().is_none()) {
            return Err("neither a trace nor constant prompt and output lengths are stated".into());
        }
        if let Some(stage) = load.stages.iter().find(|stage| requests.is_none() && stage.arrivals().is_none())
        {
            return Err(format!(
                "neither a trace nor rate, duration or number of the requests of stage {} are stated",
                stage.stage
            ));
        }
        let longest_prompt = requests
            .iter()
            .flatten()
            .map(|request| request.prompt_tokens)
            .chain(load.prompt.tokens())
            .max()
            .unwrap_or(1);
        let autoscaler =
            serde_json::from_value(json!({"static": {"replicas": 1}})).expect("settings of a static policy");
        let samples = sorts_logits(engine) && catalog::samples_by_default(model);
        let has_api = !is_in_process(engine);
        let replay = Self {
            experiment: experiment.clone(),
            cluster,
            autoscaler,
            times,
            requests,
            longest_prompt,
            samples,
            has_api,
        };
        replay.inputs(&Workload::default(), &replay.times).map_err(|error| error.to_string())?;
        Ok(replay)
    }

    pub fn device(&self) -> &'static str {
        self.times.deployment.device.name
    }

    /// Overheads as this run's server has them.
    pub fn overheads(&self, fitted: &Overheads) -> Overheads {
        Overheads {
            sampling_ns_per_logit: if self.samples { fitted.sampling_ns_per_logit } else { 0.0 },
            api_ms: if self.has_api { fitted.api_ms } else { 0.0 },
            ..*fitted
        }
    }

    /// What the catalogue says its overheads are, or `settings` do.
    ///
    /// Errors: stored ones cannot be read.
    pub fn resolve(&self, settings: &OverheadSettings, files: &Files) -> Result<Overheads, HardwareError> {
        let sampling: OverheadSettings =
            serde_json::from_value(json!({"calibrated": {"samples": true}})).expect("settings that exist");
        let settings = if matches!(settings, OverheadSettings::Calibrated(_)) { &sampling } else { settings };
        let (overheads, _) = settings.resolve(&self.times.deployment, self.samples, files)?;
        Ok(self.overheads(&overheads))
    }

    pub fn deployment(&self) -> &Deployment {
        &self.times.deployment
    }

    fn inputs<'a>(
        &'a self,
        workload: &'a Workload,
        times: &'a ExecutionTime,
    ) -> Result<RunInputs<'a>, HardwareError> {
        RunInputs::new(workload, &self.cluster, &self.autoscaler, times, 1)
    }

    /// Simulates the run with requests drawn under `seed`, where they are not on record.
    ///
    /// Errors: the simulation gives up.
    pub fn run(&self, overheads: &Overheads, seed: u64, workspace: &mut Workspace) -> Result<Vec<Served>> {
        let times = self.times.clone().with(overheads);
        let (mut workload, mut stages) = (Workload::default(), Vec::new());
        if self.prompts().is_some() {
            workload.prefix = Some(PrefixBlocks::new(BLOCK_TOKENS));
        }
        if let Some(requests) = &self.requests {
            for (i, request) in requests.iter().enumerate() {
                self.push(&mut workload, request, i as u32);
                stages.push(request.stage);
            }
            // Arrivals as the server saw them need not be in the order of the list.
            let mut order: Vec<usize> = (0..requests.len()).collect();
            order.sort_by(|&a, &b| requests[a].arrived_at_s.total_cmp(&requests[b].arrived_at_s));
            workload.sort();
            stages = order.iter().map(|&i| stages[i]).collect();
            return Ok(served(&self.records(&workload, &times, workspace)?, &stages));
        }
        let load = &self.experiment.load;
        let mut random = random::stream(seed, "validation.arrivals");
        let mut started_at_s = 0.0;
        for (number, stage) in load.stages.iter().enumerate() {
            let Some((requests, duration_s)) = stage.arrivals() else { continue };
            let gaps: Vec<f64> = (0..requests).map(|_| random.sample::<f64, _>(Exp1)).collect();
            let scale = duration_s / gaps.iter().sum::<f64>();
            let mut at_s = started_at_s;
            for (k, gap) in (0_u32..).zip(&gaps) {
                at_s += gap * scale;
                let request = TracedRequest {
                    stage: stage.stage,
                    arrived_at_s: at_s,
                    prompt_tokens: load.prompt.tokens().unwrap_or(1),
                    output_tokens: load.output.tokens().unwrap_or(1),
                    prompt_id: self.prompts().map(|(_, prompts)| k % prompts),
                    shared_prefix_tokens: 0,
                };
                self.push(&mut workload, &request, k);
                stages.push(stage.stage);
            }
            if number + 1 < load.stages.len() {
                // The next stage waits for the last answer of this one.
                let records = self.records(&workload, &times, workspace)?;
                let last_s = records.iter().filter_map(|record| record.completed_at_s).fold(at_s, f64::max);
                started_at_s = last_s + BETWEEN_STAGES_S;
            }
        }
        Ok(served(&self.records(&workload, &times, workspace)?, &stages))
    }

    /// Prompts of a group and prompts in all, where a fixed set of them is used again and again.
    fn prompts(&self) -> Option<(u32, u32)> {
        let prefix = &self.experiment.load.prefix;
        let of_group = prefix.prompts_per_group.unwrap_or(1).max(1);
        let set = prefix
            .groups
            .filter(|&groups| groups > 0)
            .map(|groups| (of_group, groups.saturating_mul(of_group)));
        let shares =
            |request: &TracedRequest| request.shared_prefix_tokens > 0 || request.prompt_id.is_some();
        set.or_else(|| self.requests.as_ref()?.iter().any(shares).then_some((1, u32::MAX)))
    }

    /// Adds a request and, where prompts come again, what its prompt begins with.
    fn push(&self, workload: &mut Workload, request: &TracedRequest, number: u32) {
        let TracedRequest { arrived_at_s, prompt_tokens, output_tokens, .. } = *request;
        workload.push(arrived_at_s, prompt_tokens, output_tokens);
        let (Some(prefix), Some((of_group, _))) = (&mut workload.prefix, self.prompts()) else { return };
        let (prompt, group, shared_tokens) = match request.prompt_id {
            Some(prompt) => {
                (prompt, prompt / of_group, self.experiment.load.prefix.shared_prefix_len.unwrap_or_default())
            }
            None => (number, 0, request.shared_prefix_tokens),
        };
        prefix.push(
            &prompts::blocks(prompt, group, shared_tokens, prompt_tokens, self.longest_prompt),
            prompt_tokens,
        );
    }

    fn records(
        &self,
        workload: &Workload,
        times: &ExecutionTime,
        workspace: &mut Workspace,
    ) -> Result<Vec<RequestRecord>> {
        let inputs = self.inputs(workload, times)?;
        let (_, detail) = simulate_parts_in_detail(&inputs, Parts::of(&inputs), workspace)
            .with_context(|| self.experiment.id.clone())?;
        Ok(detail.requests)
    }
}

fn served(records: &[RequestRecord], stages: &[u32]) -> Vec<Served> {
    let mut of_stage = std::collections::BTreeMap::<u32, usize>::new();
    let mut served = Vec::with_capacity(records.len());
    for (record, &stage) in records.iter().zip(stages) {
        let index = of_stage.entry(stage).or_default();
        *index += 1;
        let (Some(first_s), Some(last_s)) = (record.first_token_at_s, record.completed_at_s) else {
            continue;
        };
        served.push(Served {
            stage,
            index: *index - 1,
            ttft_ms: (first_s - record.arrived_at_s) * 1e3,
            e2e_ms: (last_s - record.arrived_at_s) * 1e3,
            tpot_ms: (record.decode_tokens > 1)
                .then(|| (last_s - first_s) * 1e3 / f64::from(record.decode_tokens - 1)),
        });
    }
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_the_names_people_give_them() {
        for (gpu, node) in [
            ("H100-80GB-SXM", Some("h100_dgx")),
            ("NVIDIA A100-SXM4-80GB", Some("a100_dgx")),
            ("L40S", Some("l40s_server")),
            ("RTX PRO 6000 96GB", Some("rtx_pro_6000_server")),
            ("RTX 4090", None),
        ] {
            assert_eq!(node_of(gpu), node);
        }
        assert!(NODES.iter().all(|(_, node)| catalog::node(node).is_some()));
    }
}
