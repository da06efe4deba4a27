//! What must add up at the end of a run. Cheap enough to be verified in production: one pass over the
//! workload's lengths, one over the replicas. [`violations`](crate::simulation::violations) looks closer, at
//! a record of everything.

use super::Engine;
use crate::simulation::BillingUnit;

/// Sums of the same things in different order agree to this share.
const TOLERANCE: f64 = 1e-7;

fn agree(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()).max(1.0)
}

impl Engine<'_> {
    /// Everything that does not add up, once all time and money is booked; nothing of a right run.
    pub(super) fn imbalances(&self) -> Vec<String> {
        let (totals, workload, billing) = (&self.totals, self.inputs.workload, &self.inputs.cluster.billing);
        let mut found = self.work.leftovers();
        let mut require = |holds: bool, message: &dyn Fn() -> String| {
            if !holds {
                found.push(message());
            }
        };
        let (gone_back, handed_tokens) = self.feed.handed_back();
        require(
            totals.completed + totals.rejected + totals.cut + totals.cancelled + gone_back
                == self.num_requests,
            &|| {
                let (completed, rejected, cut, cancelled) =
                    (totals.completed, totals.rejected, totals.cut, totals.cancelled);
                let all = self.num_requests;
                format!(
                    "{completed} requests completed, {rejected} rejected, {cut} cut off and {cancelled} cancelled of {all}"
                )
            },
        );
        require(totals.queued == 0, &|| format!("{} requests counted as queued at the end", totals.queued));
        if totals.rejected + totals.cut + totals.cancelled + gone_back == 0 {
            let all = workload.totals();
            let asked = handed_tokens.unwrap_or(all.prefill_tokens + all.decode_tokens);
            require(totals.tokens == asked, &|| {
                format!("{} tokens in completed requests of {asked} asked for", totals.tokens)
            });
        }
        require(self.existing.len() as u32 == self.counts.existing, &|| {
            format!("{} replicas counted, {} there", self.counts.existing, self.existing.len())
        });
        let stage_s = totals.replica_s * f64::from(self.inputs.cluster.pipeline_parallel);
        require(totals.busy_s <= stage_s || agree(totals.busy_s, stage_s), &|| {
            format!("busy for {} s of the {stage_s} s there were", totals.busy_s)
        });
        let capacity_s = totals.node_s * f64::from(self.inputs.devices_per_node);
        let used_s = totals.replica_s * self.inputs.devices(1) as f64;
        require(!billing.drain || capacity_s >= used_s || agree(capacity_s, used_s), &|| {
            format!(
                "replicas used devices for {used_s} s, nodes with {capacity_s} device-seconds were billed"
            )
        });
        if billing.minimum_s == 0.0 {
            let (what, due) = match billing.unit {
                BillingUnit::Node => ("node", self.inputs.node_price_usd_per_hour * totals.node_s),
                BillingUnit::Device if billing.drain && !billing.cold_start => {
                    ("replica", self.inputs.replica_cost_per_hour() * totals.replica_s)
                }
                BillingUnit::Device => ("", totals.cost - totals.spares_cost),
            };
            let booked = totals.cost - totals.spares_cost;
            require(agree(booked, due), &|| {
                format!("{} USD booked, {} USD due for the {what}-seconds", booked / 3600.0, due / 3600.0)
            });
        }
        found
    }
}
