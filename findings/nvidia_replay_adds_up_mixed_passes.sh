#!/usr/bin/env bash
# NVIDIA's AI Simulate: a pass that computes a prompt beside decodes takes as long as the prompt alone plus the decodes alone.
#
# vLLM runs both in one pass: the weights are read once, and its tokens go through the same matrix products. The replay adds up two passes of
# the performance model instead. On large dense models, where a pass of few decodes is one reading of the weights, that is a decode pass too
# much for every chunk of a prompt that has company: +12 ms on each, for 70 billion parameters on four H200.
#
# Seen with ai-dynamo 1.6.1 and aisimulate 0.13.0.dev202610130000000070, tables of vLLM 0.24.0 (Python 3.11), November 2026:
#   a pass of 8191 prompt tokens and 1 decode: 754.776 ms; such a prompt alone 742.399, such a decode alone 12.377
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
from dynamo._internal.ais import create_session
from dynamo.replay import run_trace_replay

assert (version("ai-dynamo"), version("aisimulate")) == ("1.6.1", "0.13.0.dev202610130000000070")
step_times = {"model": "meta-llama/Meta-Llama-3.1-70B", "system": "h200_sxm", "backend": "vllm", "backend_version": "0.24.0",
              "worker_type": "aggregated", "tp": 4}
rows = [{"timestamp": 0, "input_length": 2_000, "output_length": 1_000, "hash_ids": [0, 1, 2, 3]},
        {"timestamp": 2_000, "input_length": 100_000, "output_length": 10, "hash_ids": list(range(10, 206))}]
with open("trace.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
engine = {"engine": {"backend": "vllm", "worker_type": "aggregated", "num_gpu_blocks": 65_536, "block_size": 16, "max_num_batched_tokens": 8_192,
                     "timing_model": {"type": "external", "provider": "ais", "config": step_times}}}
planner = {"mode": "agg", "optimization_target": "sla", "environment": "kubernetes", "backend": "vllm", "served_model_name": "m",
           "enable_load_scaling": True, "enable_throughput_scaling": False, "max_gpu_budget": -1}
report = run_trace_replay("trace.jsonl", extra_engine_args=engine, num_workers=1, trace_block_size=512, planner_config=planner)
(seen,) = [each["metrics"] for each in report.planner.ticks[0]["input"]["fpm_observations"]["decode"]]
work = seen["scheduled_requests"]
session = create_session(config=step_times)
prompt_ms = session.predict_prefill(work["num_prefill_requests"], work["sum_prefill_tokens"], work["sum_prefill_kv_tokens"])
decode_ms = session.predict_decode(work["num_decode_requests"], work["sum_decode_kv_tokens"] // work["num_decode_requests"], 2)
print(f"a pass of {work['sum_prefill_tokens']} prompt tokens and {work['num_decode_requests']} decode: {1000 * seen['wall_time']:.3f} ms;"
      f" such a prompt alone {prompt_ms:.3f}, such a decode alone {decode_ms:.3f}, together {prompt_ms + decode_ms:.3f}")
assert work["num_prefill_requests"] == work["num_decode_requests"] == 1, work
assert abs(1000 * seen["wall_time"] - prompt_ms - decode_ms) < 0.01
PY
venv/bin/python look.py
echo "as described"
