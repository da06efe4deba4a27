#!/usr/bin/env bash
# NVIDIA Dynamo's planner in the offline replay: the same run, started again, may decide by other estimates.
#
# The replay with the planner says of itself that it is deterministic (`planner/offline/replay_adapter.py`). Yet what the planner takes an engine to be
# able to serve differs between processes that are given the same trace and settings, from some interval on: there are a few outcomes, and
# each start has one of them. A fixed PYTHONHASHSEED does not change that. Where an estimate is near the next whole number of replicas the
# runs part: an hour of a published trace came to 5.44 replica-hours in one start and to 5.83 in the next.
#
# Seen with ai-dynamo 1.6.1 and aisimulate 0.13.0.dev202610130000000070 (Python 3.11), November 2026, requests a second of an engine in the sixth
# interval of this trace, twelve starts: 0.61827 six times, 0.61822 three times, and three times a value between.
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
import random
import sys
from importlib.metadata import version

logging.disable(logging.CRITICAL)
from dynamo.replay import run_trace_replay

assert (version("ai-dynamo"), version("aisimulate")) == ("1.6.1", "0.13.0.dev202610130000000070")
draws, rows, now_ms = random.Random(1), [], 0.0
while now_ms < 400_000:
    now_ms += draws.expovariate(2 / 1000)
    length = min(max(int(draws.lognormvariate(8.5, 1.2)), 16), 60_000)
    rows.append({"timestamp": int(now_ms), "input_length": length, "output_length": 1 + int(draws.expovariate(1 / 300)),
                 "hash_ids": [len(rows) * 200 + i for i in range(-(-length // 512))]})
with open("trace.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
engine = {"startup_time": 60.0, "engine": {
    "backend": "vllm", "worker_type": "aggregated", "num_gpu_blocks": 65_536, "block_size": 16, "max_num_batched_tokens": 8_192,
    "timing_model": {"type": "external", "provider": "ais", "config": {
        "model": "meta-llama/Meta-Llama-3.1-70B", "system": "h200_sxm", "backend": "vllm", "backend_version": "0.24.0",
        "worker_type": "aggregated", "tp": 4}}}}
planner = {"mode": "agg", "optimization_target": "sla", "ttft_ms": 2000.0, "itl_ms": 50.0, "environment": "kubernetes", "backend": "vllm",
           "served_model_name": "m", "load_predictor": "constant", "enable_load_scaling": False, "enable_throughput_scaling": True,
           "max_gpu_budget": -1, "throughput_adjustment_interval_seconds": 60}
report = run_trace_replay("trace.jsonl", extra_engine_args=engine, num_workers=8, trace_block_size=512, planner_config=planner)
rates = [tick["effects"]["diagnostics"]["engine_rps_decode"] for tick in report.planner.ticks]
print(json.dumps([[rate for rate in rates if rate is not None][:6], report.summary["gpu_hours"]]))
PY
seen="$(for start in 1 2 3 4 5 6 7 8 9 10 11 12; do venv/bin/python look.py; done | sort | uniq -c)"
echo "$seen"
test "$(wc -l <<< "$seen")" -gt 1
echo "as described"
