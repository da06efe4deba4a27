#!/usr/bin/env bash
# NVIDIA Dynamo's planner: in the offline replay it never gives up a replica that starts, on Kubernetes it does.
#
# The planner may reduce while replicas start, and then the starting ones are given up, if it is told how many start. The Kubernetes connector
# tells (where it may list pods); the adapter for offline replays leaves `pending_num_decode` at 0, so that every tick between an order and
# the new replica's first report is "scaling_in_progress" or "worker_count_mismatch". Where starts take long and load comes and goes, a replay
# keeps more replicas than a cluster would: with a start of 60 s it cannot shrink in 65 of the seconds after each order.
#
# Seen with ai-dynamo 1.6.1 and aisimulate 0.13.0.dev202610130000000070 (Python 3.11), November 2026: a crowd of six seconds, then one short
# request every two; 17 ticks pass without a decision; told that one starts, the planner asks for 1 replica instead of 3 at the fifteenth, when all is calm.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Of what they ask for, only what the planner in the replay imports.
"$work/venv/bin/pip" install --quiet --no-deps 'ai-dynamo==1.6.1' 'ai-dynamo-runtime==1.6.1' 'aisimulate==0.13.0.dev202610130000000070'
"$work/venv/bin/pip" install --quiet msgspec==0.23.0 pydantic==2.14.4 numpy==2.4.6 scikit-learn==1.9.1 packaging==26.4 kubernetes==37.0.2 \
    filterpy==2.0.0 pmdarima==2.1.1 plotly==7.1.0 prometheus-api-client==0.7.2 prometheus-client==0.26.0 prophet==1.5.0 psutil==7.2.2 \
    ijson==3.6.0 pyyaml pyarrow aiohttp transformers 2>&1 | grep -v -E 'dependency|requires' || true
cd "$work"
cat > look.py <<'PY'
import json
import logging
from importlib.metadata import version

logging.disable(logging.CRITICAL)
from dynamo.planner.config.planner_config import PlannerConfig
from dynamo.planner.core.state_machine import PlannerScalingState
from dynamo.planner.core.types import EngineCapabilities, FpmObservations, WorkerCapabilities, WorkerCounts
from dynamo.planner.offline.replay_adapter import _build_fpm_from_dict
from dynamo.replay import run_trace_replay

assert (version("ai-dynamo"), version("aisimulate")) == ("1.6.1", "0.13.0.dev202610130000000070")
# A crowd for six seconds, then next to nothing.
rows = [{"timestamp": 20 * i, "input_length": 512 * 8, "output_length": 150, "hash_ids": list(range(8 * i, 8 * i + 8))} for i in range(300)]
rows += [{"timestamp": 6_000 + 2_000 * i, "input_length": 512, "output_length": 20, "hash_ids": [9_000 + i]} for i in range(60)]
with open("trace.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
engine = {"startup_time": 90.0,
          "engine": {"backend": "vllm", "worker_type": "aggregated", "num_gpu_blocks": 4_096, "block_size": 16, "max_num_batched_tokens": 8_192,
                     "timing_model": {"type": "external", "provider": "ais", "config": {
                         "model": "meta-llama/Meta-Llama-3.1-70B", "system": "h200_sxm", "backend": "vllm", "backend_version": "0.24.0",
                         "worker_type": "aggregated", "tp": 4}}}}
settings = {"mode": "agg", "optimization_target": "throughput", "environment": "kubernetes", "backend": "vllm", "served_model_name": "m",
            "enable_load_scaling": True, "enable_throughput_scaling": False, "max_gpu_budget": -1}
report = run_trace_replay("trace.jsonl", extra_engine_args=engine, num_workers=2, trace_block_size=512, planner_config=settings)
waiting = [tick for tick in report.planner.ticks if tick["input"]["worker_counts"]["expected_num_decode"] == 3]
waiting = [tick for tick in waiting if tick["input"]["worker_counts"]["ready_num_decode"] == 2]
reasons = {tick["effects"]["diagnostics"]["load_decision_reason"] for tick in waiting}
told = {tick["input"]["worker_counts"]["pending_num_decode"] for tick in waiting}
print(f"replay: {len(waiting)} ticks while a replica starts, of which it tells the planner of {max(told)}: {reasons}")
assert len(waiting) >= 15 and reasons == {"scaling_in_progress"} and told == {0}, (len(waiting), reasons, told)

# The same tick, told as the Kubernetes connector tells it.
engines = {}
for each in waiting[14]["input"]["fpm_observations"]["decode"]:
    passed, queued = each["metrics"]["scheduled_requests"], each["metrics"]["queued_requests"]
    flat = passed | {"worker_id": each["worker_id"], "wall_time": each["metrics"]["wall_time"]}
    flat |= {"num_queued_prefill": queued["num_prefill_requests"], "sum_queued_prefill_tokens": queued["sum_prefill_tokens"],
             "var_queued_prefill_length": 0.0, "num_queued_decode": 0, "sum_queued_decode_kv_tokens": 0, "var_queued_decode_kv_tokens": 0.0}
    engines[each["worker_id"], 0] = _build_fpm_from_dict(flat)
seen = FpmObservations(decode=engines)
capacity = EngineCapabilities(num_gpu=4, max_num_batched_tokens=8_192, max_num_seqs=256, max_kv_tokens=4_096 * 16)
state = PlannerScalingState(PlannerConfig(**settings), WorkerCapabilities(decode=capacity))
state.begin_tick()
state.observe_worker_counts(WorkerCounts(ready_num_decode=2, expected_num_decode=3, pending_num_decode=1))
state.observe_fpm(seen)
decision = state.advance_load(seen)
print("told that one starts:", decision)
assert decision is not None and decision.num_decode == 1, decision
PY
venv/bin/python look.py
echo "as described"
