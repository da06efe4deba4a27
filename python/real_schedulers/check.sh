#!/usr/bin/env bash
# vLLM's own scheduler on the cases of tests/data/vllm_scheduler: fetches the source archives of the versions named (by default all that there
# are cases of) into a temporary directory, runs their unmodified files without a GPU, and fails if a row differs from what the cases say, which
# the suite holds `vllm_v1` to. Usage: check.sh [VERSION...]; WRITE=1 writes the rows anew. PYTHON names an interpreter (3.11) that has the small
# packages already. About 50 MB and a minute for each version.
set -euo pipefail
cd "$(dirname "$0")"
cases=../../tests/data/vllm_scheduler
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-}"
if [ -z "$python" ]; then
    python3.11 -m venv "$work/venv"
    python="$work/venv/bin/python"
    "$python" -m pip install --quiet pydantic==2.14.4 msgspec==0.23.0 numpy==2.4.6 cachetools==8.0.2 regex==2026.11.19
fi
mkdir "$work/made"
"$python" make_cases.py "$work/made"
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(0.33.0 0.22.1 0.18.1)
for version in "${versions[@]}"; do
    mkdir "$work/$version"
    # The archive cannot be built here, and need not be: it is unpacked before that is found out, and kept.
    TMPDIR="$work/$version" "$python" -m pip download --quiet --no-clean --no-deps --no-binary :all: --no-build-isolation --no-cache-dir \
        --dest "$work" "vllm==$version" >"$work/log" 2>&1 || true
    source="$(find "$work/$version" -maxdepth 2 -name 'vllm_*' -type d)"
    [ -f "$source/vllm/v1/core/sched/scheduler.py" ] || { cat "$work/log"; exit 1; }
    for made in "$work/made"/*_"$version.json"; do
        name="$(basename "$made")"
        [ -z "${WRITE:-}" ] || cp "$made" "$cases/$name"
        # What is asked must be what is made up.
        "$python" - "$made" "$cases/$name" <<'PYTHON'
import json
import sys

made, kept = (json.load(open(path))["cases"] for path in sys.argv[1:])
asked = {name: {field: case[field] for field in ("settings", "requests", "priorities") if field in case} for name, case in kept.items()}
assert made == asked, f"{sys.argv[2]} has other cases than make_cases.py makes"
PYTHON
        "$python" vllm_scheduler.py "$source" "$version" "$cases/$name" ${WRITE:+--write}
    done
done
