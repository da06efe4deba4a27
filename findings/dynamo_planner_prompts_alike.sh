#!/usr/bin/env bash
# NVIDIA Dynamo's planner: where all prompts are alike, a queue has no length.
#
# With latency targets, the planner's load-based scaling learns what forward passes cost from those it observes: a plane per kind of pass
# through standardised features. Passes whose features do not vary give no plane, however many there are. So on traffic of equal prompts,
# what a benchmark with a fixed input length sends, a queue of 400,000 prompt tokens gets no estimate, and load scaling has nothing to
# decide by; one prompt ten tokens shorter among two hundred, and the same queue takes 9.7 s. The model reports "ready" as soon as some
# kind of pass can be estimated, decodes for example, so readiness does not tell.
#
# Seen with ai-dynamo 1.6.1, ai-dynamo-runtime 1.6.1 and aisimulate 0.13.0.dev202610270000000085 (Python 3.11), November 2026:
#   200 prompts of 8,000 tokens             insufficient_data   no estimate
#   199 of them and one of 7,990            ready               9.74 s
#   the 200, and 100 decodes that vary      ready               no estimate
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# Of what they ask for, only what the planner's model imports; and scikit-learn, which they do not ask for.
"$work/venv/bin/pip" install --quiet --no-deps 'ai-dynamo==1.6.1' 'ai-dynamo-runtime==1.6.1' 'aisimulate==0.13.0.dev202610270000000085'
"$work/venv/bin/pip" install --quiet msgspec==0.23.0 pydantic==2.14.4 numpy==2.4.6 scikit-learn==1.9.1 packaging==26.4 kubernetes==37.0.2 2>&1 |
    grep -v -E 'dependency|requires' || true
cat > "$work/look.py" <<'PY'
import logging
from importlib.metadata import version

logging.disable(logging.CRITICAL)
from dynamo.common.forward_pass_metrics import ForwardPassMetrics, QueuedRequestMetrics, ScheduledRequestMetrics
from dynamo.planner.config.planner_config import PlannerConfig
from dynamo.planner.core.perf_model.ais_adapter import PlannerEnginePerfModel
from dynamo.planner.core.types import EngineCapabilities

assert (version("ai-dynamo"), version("aisimulate")) == ("1.6.1", "0.13.0.dev202610270000000085")


def prompt(tokens, wall_s):
    work = ScheduledRequestMetrics(num_prefill_requests=1, sum_prefill_tokens=tokens)
    return ForwardPassMetrics(worker_id="w", wall_time=wall_s, scheduled_requests=work)


def decodes(context_tokens, wall_s):
    work = ScheduledRequestMetrics(num_decode_requests=16, sum_decode_kv_tokens=16 * context_tokens)
    return ForwardPassMetrics(worker_id="w", wall_time=wall_s, scheduled_requests=work)


def learned(passes):
    config = PlannerConfig(mode="agg", optimization_target="sla", enable_load_scaling=True, enable_throughput_scaling=False)
    engine = EngineCapabilities(num_gpu=1, max_num_batched_tokens=8192, max_num_seqs=256, max_kv_tokens=400_000)
    model = PlannerEnginePerfModel(worker_type="aggregated", config=config, capabilities=engine)
    for one in passes:
        model.add_observations({("w", 0): one})
    queue = QueuedRequestMetrics(num_prefill_requests=50, sum_prefill_tokens=400_000)
    estimate_s = model.estimate_queued_prefill_time([ForwardPassMetrics(worker_id="w", queued_requests=queue)], max_num_batched_tokens=8192)
    return model._engine_diagnostics()["readiness"], estimate_s


alike = learned([prompt(8000, 0.19)] * 200)
one_other = learned([prompt(8000, 0.19)] * 199 + [prompt(7990, 0.1897)])
with_decodes = learned([decodes(1000 + i, 0.02 + 1e-6 * i) for i in range(100)] + [prompt(8000, 0.19)] * 100)
print("prompts alike:", alike, "one other:", one_other, "alike, and decodes that vary:", with_decodes)
assert alike == ("insufficient_data", None), alike
assert one_other[0] == "ready" and abs(one_other[1] - 9.74) < 0.01, one_other
assert with_decodes == ("ready", None), with_decodes
PY
"$work/venv/bin/python" "$work/look.py"
echo "as described"
