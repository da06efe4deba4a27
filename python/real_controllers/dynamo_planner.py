"""NVIDIA Dynamo's own load-based scaling in the simulator's loop. See check_dynamo.sh beside this file. Run with ai-dynamo 1.6.1.

What decides is the planner's scaling core: its targets, its model of the engine learned from forward passes, its refusals and holds. What
feeds it is ours: every 5 s the latest pass and the queue of each serving replica, and how many serve and start. The orchestrator around it
and Kubernetes are not run; no clock is read, so runs are repeatable.

Settings: `optimization_target` (`throughput`, `latency` or `sla`), `ttft_s` and `itl_s` (for `sla`), `adjustment_interval_s`.
"""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

logging.disable(logging.CRITICAL)

from dynamo.common.forward_pass_metrics import ForwardPassMetrics, QueuedRequestMetrics, ScheduledRequestMetrics  # noqa: E402
from dynamo.planner.config.planner_config import PlannerConfig  # noqa: E402
from dynamo.planner.core.state_machine import PlannerScalingState  # noqa: E402
from dynamo.planner.core.types import EngineCapabilities, FpmObservations, WorkerCapabilities, WorkerCounts  # noqa: E402

from scalefront.policy import Policy, serve  # noqa: E402

MAX_NUM_BATCHED_TOKENS = 4096  # the simulator's schedulers'


class DynamoPlanner(Policy):
    observes = ("passes",)

    def __init__(self, settings, cluster, seed):
        super().__init__(settings, cluster, seed)
        self.tick_interval_s = settings.get("adjustment_interval_s", 5.0)
        config = PlannerConfig(
            mode="agg",
            optimization_target=settings.get("optimization_target", "throughput"),
            enable_load_scaling=True,
            enable_throughput_scaling=False,
            ttft_ms=1000 * settings.get("ttft_s", 0.5),
            itl_ms=1000 * settings.get("itl_s", 0.05),
            min_endpoint=max(cluster.min_replicas, 1),
            # Unbounded: the cluster's max_replicas bounds every policy alike.
            max_gpu_budget=-1,
        )
        engine = EngineCapabilities(
            num_gpu=cluster.devices_per_replica,
            max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
            max_num_seqs=cluster.batch_size_cap,
            max_kv_tokens=cluster.kv_blocks * cluster.kv_block_size_tokens,
        )
        self.state = PlannerScalingState(config, WorkerCapabilities(decode=engine))
        self.estimates = {}

    def decide(self, now_s, tick):
        # A start counts as such only while nothing stops.
        pending = tick.starting if tick.stopping == 0 else 0
        engines = {(f"{r['id']:06}", 0): metrics(r) for r in tick.replicas if not r["draining"] and "pass" in r}
        seen = FpmObservations(decode=engines)
        self.state.begin_tick()
        self.state.observe_worker_counts(WorkerCounts(
            ready_num_decode=tick.serving, expected_num_decode=tick.committed, pending_num_decode=pending,
            decode_scaling_in_progress=tick.stopping > 0,
        ))
        self.state.observe_fpm(seen)
        decision = self.state.advance_load(seen)
        found = self.state.diagnostics()
        self.estimates = {"estimated_ttft_ms": found.estimated_ttft_ms, "estimated_itl_ms": found.estimated_itl_ms}
        return None if decision is None else decision.num_decode

    def evidence(self):
        return {name: value for name, value in self.estimates.items() if value is not None}


def metrics(replica):
    """A replica as its engine would report it."""
    done = replica["pass"]
    return ForwardPassMetrics(
        version=1,
        worker_id=f"{replica['id']:06}",
        dp_rank=0,
        wall_time=done["duration_s"],
        scheduled_requests=ScheduledRequestMetrics(
            num_prefill_requests=done["prefill_requests"],
            sum_prefill_tokens=done["prefill_tokens"],
            sum_prefill_kv_tokens=done["prefill_cached_tokens"],
            num_decode_requests=done["decode_requests"],
            sum_decode_kv_tokens=done["decode_kv_tokens"],
        ),
        queued_requests=QueuedRequestMetrics(
            num_prefill_requests=replica["queued_requests"], sum_prefill_tokens=replica["queued_prefill_tokens"]
        ),
    )


if __name__ == "__main__":
    serve(DynamoPlanner)
