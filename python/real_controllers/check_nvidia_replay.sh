#!/usr/bin/env bash
# Dynamo's planner in NVIDIA's own simulator beside the zoo's in this one, on a trace in Mooncake's format: replica-hours and latencies.
# Usage: check_nvidia_replay.sh TRACE.jsonl [PROGRAM], by default target/release/scalefront. PYTHON names an interpreter that has it already.
# Minutes; fails if replica-hours differ by more than 15 %.
set -euo pipefail
trace="$(realpath "${1:?a trace in the format of Mooncake}")"
here="$(cd "$(dirname "$0")" && pwd)"
program="$(realpath "${2:-$here/../../target/release/scalefront}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python="$work/venv/bin/python"
    # Of what they ask for, only what the planner in the replay imports.
    "$python" -m pip install --quiet --no-deps 'ai-dynamo==1.6.1' 'ai-dynamo-runtime==1.6.1' 'aisimulate==0.13.0.dev202610130000000070'
    "$python" -m pip install --quiet msgspec==0.23.0 pydantic==2.14.4 numpy==2.4.6 scikit-learn==1.9.1 packaging==26.4 kubernetes==37.0.2 \
        filterpy==2.0.0 pmdarima==2.1.1 plotly==7.1.0 prometheus-api-client==0.7.2 prometheus-client==0.26.0 prophet==1.5.0 psutil==7.2.2 \
        ijson==3.6.0 pyyaml pyarrow aiohttp transformers 2>&1 | grep -v -E 'dependency|requires' || true
fi
cd "$work"
"$python" "$here/nvidia_replay.py" "$program" "$trace"
