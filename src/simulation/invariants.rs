//! What must hold at the end of every run, whatever the policies. For tests, and for authors of schedulers.

use super::record::{BatchRecord, Detail};
use super::{RunInputs, RunMetrics, ScaleDownOrder, Workspace};

/// Everything about a finished, recorded run that cannot be; nothing of a right one.
///
/// `workspace` must be the one the run was left in. `detail` may come from a run that was not `stepping`;
/// then its batches are not all there, and what rests on them is not looked at.
pub fn violations(
    inputs: &RunInputs,
    metrics: &RunMetrics,
    detail: &Detail,
    workspace: &Workspace,
) -> Vec<String> {
    let mut found = Violations(Vec::new());
    check_requests(metrics, detail, &mut found);
    check_replicas(inputs, metrics, detail, &mut found);
    if inputs.stepping {
        check_batches(inputs, metrics, detail, &mut found);
        check_tokens(inputs, metrics, detail, &mut found);
    }
    found.0.extend(workspace.leftovers());
    found.0
}

struct Violations(Vec<String>);

impl Violations {
    fn require(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(message());
        }
    }

    /// Two sums of the same things in different order.
    fn require_close(&mut self, what: &str, one: f64, other: f64) {
        self.require((one - other).abs() <= 1e-9 * one.abs().max(1.0), || {
            format!("{what}: {one} and {other}")
        });
    }
}

/// Every request completes exactly once, is rejected or cut off, and lives through its stations in order.
fn check_requests(metrics: &RunMetrics, detail: &Detail, found: &mut Violations) {
    let completed = || detail.requests.iter().filter(|request| request.completed_at_s.is_some());
    let count = completed().count() as u64;
    found.require(metrics.num_completed == count, || {
        format!("{} completions of {count} requests", metrics.num_completed)
    });
    let cancelled = metrics.sessions.as_ref().map_or(0, |sessions| sessions.num_turns_cancelled);
    found.require(metrics.num_completed + metrics.num_rejected + metrics.num_cut + cancelled == metrics.num_requests, || {
        let RunMetrics { num_requests, num_completed, num_rejected, num_cut, .. } = metrics;
        let cancelled = format!("{cancelled} cancelled");
        format!("{num_completed} completed, {num_cut} cut off, {cancelled} and {num_rejected} rejected of {num_requests} requests")
    });
    let restarts = completed().map(|request| u64::from(request.restarts)).sum::<u64>();
    found.require(metrics.num_restarts == restarts, || {
        format!("{} restarts counted, {restarts} recorded", metrics.num_restarts)
    });
    let mut e2e_s = 0.0;
    for request in completed() {
        let stations = [
            Some(request.arrived_at_s),
            request.scheduled_at_s,
            request.first_token_at_s,
            request.completed_at_s,
        ];
        let in_order = stations.iter().all(Option::is_some)
            && stations.is_sorted()
            && request.scheduled_at_s < request.first_token_at_s;
        found.require(in_order, || format!("request {}: stations {stations:?}", request.request_id));
        found.require(
            request.decode_tokens > 1 || request.first_token_at_s == request.completed_at_s,
            || {
                format!(
                    "request {}: one token, first at {:?}, last at {:?}",
                    request.request_id, stations[2], stations[3]
                )
            },
        );
        e2e_s += request.completed_at_s.unwrap_or(f64::NAN) - request.arrived_at_s;
    }
    let reported = metrics.e2e_s.map_or(0.0, |e2e| e2e.mean * metrics.num_completed as f64);
    found.require_close("sum of e2e latencies", reported, e2e_s);
}

/// Costs follow from the replicas there were; time never goes back.
fn check_replicas(inputs: &RunInputs, metrics: &RunMetrics, detail: &Detail, found: &mut Violations) {
    let (mut cost_usd, mut replica_s) = (0.0, 0.0);
    for (i, change) in detail.replicas.iter().enumerate() {
        let until_s = detail.replicas.get(i + 1).map_or(metrics.simulated_s, |next| next.time_s);
        found.require(until_s >= change.time_s, || {
            format!("replicas: time goes back from {} to {until_s}", change.time_s)
        });
        found.require(change.num_draining <= change.num_replicas, || {
            format!("more drain than there are: {change:?}")
        });
        let least = inputs.cost_per_hour(change.num_replicas);
        // Where nodes are told apart, one that is paid may have room for more.
        let due = change.num_nodes.map_or(least, |nodes| inputs.node_price_usd_per_hour * nodes as f64);
        let is_due = change.cost_per_hour_usd == due
            || !inputs.cluster.cold_start.spares.is_empty() && change.cost_per_hour_usd > due;
        found.require(is_due && due >= least, || format!("wrong price: {change:?}"));
        let holding = change.num_replicas + change.num_starting - change.num_pending.unwrap_or(0);
        let most = inputs.cluster.max_devices.map_or(u64::MAX, u64::from);
        found.require(inputs.devices(holding) <= most, || {
            format!("more than {most} devices held: {change:?}")
        });
        cost_usd += change.cost_per_hour_usd * (until_s - change.time_s) / 3600.0;
        replica_s += f64::from(change.num_replicas) * (until_s - change.time_s);
    }
    found.require_close("cost", metrics.total_cost_usd, cost_usd);
    found.require_close("time replicas existed", metrics.replica_hours * 3600.0, replica_s);
    found.require(metrics.busy_s <= replica_s * (1.0 + 1e-9), || {
        format!("busy for {} s of {} s there were", metrics.busy_s, replica_s)
    });
    found.require(detail.tunes.is_sorted_by(|a, b| a.time_s < b.time_s), || "decisions out of order".into());
    let cluster = inputs.cluster;
    let serving = || detail.replicas.iter().map(|change| change.num_replicas - change.num_draining);
    let first = serving().next().unwrap_or(0);
    let most = cluster.max_replicas.max(first);
    found.require(serving().all(|now| now <= most), || {
        format!("{:?} replicas serve of {most} at most", serving().max())
    });
    if !cluster.failures.any() {
        let least = cluster.min_replicas.min(first);
        found.require(serving().all(|now| now >= least), || {
            format!("{:?} replicas serve of {least} at least", serving().min())
        });
    }
    if cluster.scale_down_order == ScaleDownOrder::StartingFirst && !cluster.failures.any() {
        for (before, after) in detail.replicas.iter().zip(detail.replicas.iter().skip(1)) {
            let stopped = after.num_replicas - after.num_draining < before.num_replicas - before.num_draining;
            found.require(!stopped || after.num_starting == 0, || {
                format!("one that serves stops while others start: {before:?}, {after:?}")
            });
        }
    }
    for tune in &detail.tunes {
        let settled = detail.replicas.iter().rfind(|change| change.time_s < tune.time_s);
        let unchanged = detail.replicas.iter().all(|change| change.time_s != tune.time_s);
        if let (Some(change), true, true) = (settled, unchanged, cluster.scale_down_delay_s == 0.0) {
            // Without delay, a scale-down that is pending is a replica that drains, or waits for one to join
            // where too few serve.
            let waiting = tune.pending_scale_downs.checked_sub(change.num_draining);
            let too_few = change.num_replicas - change.num_draining <= cluster.min_replicas;
            let sound =
                waiting.is_some_and(|waiting| waiting == 0 || (too_few && waiting <= tune.pending_scale_ups));
            found.require(sound && tune.num_replicas == change.num_replicas, || {
                format!("pending scale-downs leak: {tune:?} after {change:?}")
            });
        }
    }
}

/// Batches are worked on one after the other, at most one a stage at a time.
fn check_batches(inputs: &RunInputs, metrics: &RunMetrics, detail: &Detail, found: &mut Violations) {
    found.require(metrics.num_batches == detail.batches.len() as u64, || {
        format!("{} batches counted, {} recorded", metrics.num_batches, detail.batches.len())
    });
    let mut ids: Vec<u64> = detail.batches.iter().map(|batch| batch.batch_id).collect();
    ids.sort_unstable();
    // Batches that were lost with their replica have left gaps.
    let gaps = inputs.cluster.loses_replicas();
    found.require(
        (0..).zip(&ids).all(|(expected, &id)| gaps || expected == id) && ids.is_sorted_by(|a, b| a < b),
        || "batch ids with gaps or twice".into(),
    );
    found.require(detail.batches.is_sorted_by(|a, b| a.completed_at_s <= b.completed_at_s), || {
        "batches end out of order".into()
    });
    let stages = inputs.cluster.pipeline_parallel as usize;
    let mut by_replica: Vec<&BatchRecord> = detail.batches.iter().collect();
    by_replica.sort_by_key(|batch| batch.replica_id);
    for batch in &by_replica {
        let sound = batch.scheduled_at_s < batch.completed_at_s && batch.num_requests > 0;
        found.require(
            sound && u64::from(batch.num_requests) <= batch.prefill_tokens + batch.decode_tokens,
            || format!("{batch:?}"),
        );
    }
    for replica in by_replica.chunk_by(|a, b| a.replica_id == b.replica_id) {
        for (earlier, later) in replica.iter().zip(&replica[stages.min(replica.len())..]) {
            found.require(later.scheduled_at_s >= earlier.completed_at_s, || {
                format!("{stages} stages, but {later:?} overlaps {earlier:?}")
            });
        }
    }
}

/// Tokens processed are those of the requests; more only where a restart or a rejection on the way lost some.
fn check_tokens(inputs: &RunInputs, metrics: &RunMetrics, detail: &Detail, found: &mut Violations) {
    let processed: u64 = detail.batches.iter().map(|batch| batch.prefill_tokens + batch.decode_tokens).sum();
    let prefilled: u64 = detail.batches.iter().map(|batch| batch.prefill_tokens).sum();
    let completed = || detail.requests.iter().filter(|request| request.completed_at_s.is_some());
    let prompts: u64 =
        completed().map(|request| u64::from(request.prefill_tokens) - u64::from(request.cached_tokens)).sum();
    // A prefill yields the first output token on top.
    let outputs: u64 = completed().map(|request| u64::from(request.decode_tokens) - 1).sum();
    // Drafts that are not accepted are computed in vain.
    let drafts = inputs.cluster.replica_scheduler.drafts_tokens();
    if !drafts
        && metrics.num_restarts == 0
        && detail
            .requests
            .iter()
            .all(|request| request.completed_at_s.is_some() || request.replica_id.is_none())
    {
        found.require(prefilled == prompts && processed == prompts + outputs, || {
            format!(
                "{prefilled} tokens prefilled of {prompts}, {} decoded of {outputs}",
                processed - prefilled
            )
        });
    } else {
        // Once prompts are shared, one that starts over may find what others have computed meanwhile.
        let prompts =
            if detail.requests.iter().any(|request| request.cached_tokens > 0) { 0 } else { prompts };
        found.require(prefilled >= prompts && processed >= prompts + outputs, || {
            format!("only {processed} tokens processed, {prefilled} of them prefill, where {prompts} and {outputs} are needed")
        });
    }
}
