#!/usr/bin/env bash
# Dynamo's own load scaling beside the one that imitates it: installs ai-dynamo 1.6.1 in a temporary directory, runs dynamo.json, prints both.
# Then its planner above planners, in the cases that the tests hold ours against.
# Usage: check_dynamo.sh [PROGRAM], by default target/release/scalefront. PYTHON names an interpreter that has it already (and polars).
# Fails if a run failed, a pair differs in cost or latency, or the planner above planners grants other wishes.
set -euo pipefail
cd "$(dirname "$0")"
program="$(realpath "${1:-../../target/release/scalefront}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$work/venv"
    python="$work/venv/bin/python"
    # Of what they ask for, only what the scaling core imports; and scikit-learn, which they do not ask for.
    "$python" -m pip install --quiet --no-deps 'ai-dynamo==1.6.1' 'ai-dynamo-runtime==1.6.1' 'aisimulate==0.13.0.dev202610270000000085'
    "$python" -m pip install --quiet msgspec==0.23.0 pydantic==2.14.4 numpy==2.4.6 scikit-learn==1.9.1 packaging==26.4 kubernetes==37.0.2 \
        filterpy==2.0.0 pmdarima==2.1.1 'polars>=1' 2>&1 | grep -v -E 'dependency|requires' || true
fi
mkdir "$work/bin"
# A link would lose the environment that the interpreter stands in.
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" > "$work/bin/python3"
chmod +x "$work/bin/python3"
PATH="$work/bin:$PATH" "$program" sweep dynamo.json --quiet --out "$work/results"
"$python" - "$work/results/runs.parquet" <<'PYTHON'
import sys

import polars

runs = polars.read_parquet(sys.argv[1]).select("family", "status", "total_cost_usd", "p90_e2e_s", "replica_hours", "scale_ups", "scale_downs", "error")
with polars.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=60):
    print(runs)
assert (runs["status"] == "ok").all()
figures = runs.drop("family", "error").rows()
for built_in, real in zip(figures[::2], figures[1::2]):
    assert built_in == real, "the two have parted"
PYTHON
"$python" global_planner.py 2>/dev/null | cmp - ../../tests/data/global_planner.json
echo "What its planner above planners grants is what the tests hold."
