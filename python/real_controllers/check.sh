#!/usr/bin/env bash
# Ray Serve's own policy beside the one that imitates it: installs ray[serve]==2.60.0 in a temporary directory, runs grid.json, prints both.
# Usage: check.sh [PROGRAM], by default target/release/scalefront. Fails if a run failed or the two differ by more than a tenth in cost.
set -euo pipefail
cd "$(dirname "$0")"
program="$(realpath "${1:-../../target/release/scalefront}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "ray[serve]==2.60.0" "polars>=1"
PATH="$work/venv/bin:$PATH" "$program" sweep grid.json --quiet --out "$work/results"
"$work/venv/bin/python" - "$work/results/runs.parquet" <<'PYTHON'
import sys

import polars

runs = polars.read_parquet(sys.argv[1]).select("family", "status", "total_cost_usd", "p90_e2e_s", "replica_hours", "scale_ups", "scale_downs", "error")
print(runs)
assert (runs["status"] == "ok").all()
built_in, real = runs["total_cost_usd"]
assert abs(built_in / real - 1) < 0.1, "the two have parted"
PYTHON
