//! What runs are asked for and cannot give: told before they start.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use crate::autoscaler::{LatencyTarget, LatencyTargets};
use crate::hardware::{BatchShape, ExecutionTime};
use crate::workload::Workload;

/// Combinations of a section that are looked at.
const MOST_LOOKED_AT: u64 = 4096;

/// A sentence each, in order.
pub fn of_policies(plan: &Plan) -> Vec<String> {
    let mut found = BTreeSet::new();
    let grid = &plan.grid;
    let clusters: Vec<_> =
        (0..grid.cluster.count().min(MOST_LOOKED_AT)).map(|index| grid.cluster.get(index)).collect();
    let to_zero = clusters.iter().any(|cluster| cluster.min_replicas == 0);
    let most_replicas = clusters.iter().map(|cluster| cluster.max_replicas).min();
    let mut beyond: BTreeMap<String, u32> = BTreeMap::new();
    let from_zero = clusters.iter().any(|cluster| cluster.initial_replicas == 0);
    let pairs = plan
        .inputs
        .workloads
        .iter()
        .flat_map(|workload| plan.inputs.hardware.iter().map(move |hardware| (workload, hardware)));
    let idle = LazyCell::new(|| -> Vec<Idle> {
        pairs
            .map(|(workload, hardware)| Idle::new(&workload.summary.name, &workload.content, &hardware.times))
            .collect()
    });
    for section in &grid.autoscalers {
        for entry in (0..section.count().min(MOST_LOOKED_AT)).map(|index| section.get(index)) {
            let settings = entry.settings.settings();
            if to_zero && !settings.reaches_zero() && settings.initial_replicas().is_none() {
                let begins = if from_zero {
                    ", and begins with it although `cluster.initial_replicas` is 0"
                } else {
                    ""
                };
                found.insert(format!(
                    "{}: keeps at least one replica although `cluster.min_replicas` is 0{begins}",
                    entry.family()
                ));
            }
            if let (Some(replicas), Some(most)) = (settings.initial_replicas(), most_replicas)
                && replicas > most
            {
                let largest = beyond.entry(entry.family().to_owned()).or_insert(replicas);
                *largest = replicas.max(*largest);
            }
            found.extend(settings.doubts().iter().map(|doubt| format!("{}: {doubt}", entry.family())));
            for target in settings.latency_targets() {
                found.extend(idle.iter().filter_map(|idle| idle.doubt(entry.family(), &target)));
            }
        }
    }
    let most = most_replicas.unwrap_or_default();
    found.extend(beyond.into_iter().map(|(family, replicas)| {
        format!("{family}: keeps up to {replicas} replicas although `cluster.max_replicas` is {most}, a bound of policies that scale")
    }));
    found.into_iter().collect()
}

/// Sessions that outgrow what memory is planned for: an engine with so short a context would refuse their
/// later turns.
pub fn of_contexts(plan: &Plan) -> Vec<String> {
    let clusters =
        (0..plan.grid.cluster.count().min(MOST_LOOKED_AT)).map(|index| plan.grid.cluster.get(index));
    let Some(planned) = clusters.map(|cluster| cluster.max_request_tokens).min() else { return Vec::new() };
    let of_sessions = plan.inputs.workloads.iter().filter(|workload| workload.content.sessions.is_some());
    let doubts = of_sessions.filter_map(|workload| {
        let content = &workload.content;
        let contexts = content.prefill_tokens.iter().zip(&content.decode_tokens).map(|(prompt, answer)| prompt + answer);
        let longer = contexts.filter(|&tokens| tokens > planned);
        let (count, longest) = longer.fold((0_u64, 0), |(count, longest), tokens| (count + 1, longest.max(tokens)));
        (count > 0).then(|| {
            format!(
                "workload `{}`: {count} of {} turns have more than `cluster.max_request_tokens` ({planned}) in prompt and answer, up to \
                 {longest}; they are served as far as memory goes, where an engine with that limit would refuse them; end sessions by \
                 `max_context_tokens`, or plan for longer requests",
                workload.summary.name,
                content.len()
            )
        })
    });
    doubts.collect()
}

/// What a replica that has nothing else to do takes for a workload's typical request.
struct Idle<'a> {
    workload: &'a str,
    prefill_tokens: u32,
    ttft_s: f64,
    /// `None` if it has one output token.
    itl_s: Option<f64>,
}

impl<'a> Idle<'a> {
    fn new(name: &'a str, workload: &Workload, times: &ExecutionTime) -> Self {
        let median = |tokens: &[u32]| {
            let mut tokens = tokens.to_vec();
            let middle = tokens.len() / 2;
            *tokens.select_nth_unstable(middle).1
        };
        let (prefill_tokens, decode_tokens) =
            (median(&workload.prefill_tokens), median(&workload.decode_tokens));
        let takes_s = |shape: &BatchShape| {
            (0..times.deployment.pipeline_parallel).map(|stage| times.stage_time_s(shape, stage)).sum()
        };
        let mut prompt = BatchShape::default();
        prompt.add_prefill(prefill_tokens, 0);
        let itl_s = (decode_tokens > 1).then(|| {
            let mut decode = BatchShape::default();
            decode.add_decode(prefill_tokens + decode_tokens / 2);
            takes_s(&decode)
        });
        Self { workload: name, prefill_tokens, ttft_s: takes_s(&prompt), itl_s }
    }

    fn doubt(&self, family: &str, target: &LatencyTarget) -> Option<String> {
        let (what, takes_s) = match target.of {
            LatencyTargets::Ttft => {
                (format!("for a prompt of {} tokens", self.prefill_tokens), Some(self.ttft_s))
            }
            LatencyTargets::Itl => ("from one output token to the next".to_owned(), self.itl_s),
        };
        let takes_s = takes_s.filter(|&takes_s| target.s < takes_s)?;
        Some(format!(
            "{family}: `{}` of {} s cannot be met: a replica with nothing else to do takes {takes_s:.3} s {what}, the median of workload \
                 `{}`; more replicas do not help",
            target.field, target.s, self.workload
        ))
    }
}
