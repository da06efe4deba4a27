#!/usr/bin/env bash
# Exported files against the programs that read them: HorizontalPodAutoscalers against Kubernetes' own OpenAPI schemas, as PyPI's
# kubernetes-validate carries them; autoscaling_config by Ray Serve's own config class. Outside the main tests: it needs Python and the
# network; with RAY_PYTHON, a Python that has ray[serve] 2.60.0 already, less of it.
#
#     cargo build --release && tests/manifests/check.sh [target/release/scalefront]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scalefront=$(realpath "${1:-$here/../../target/release/scalefront}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$scalefront" sweep "$here/grid.json" --quiet --out results
python3 -m venv venv
venv/bin/pip install --quiet kubernetes-validate==1.37.0
if [ -z "${RAY_PYTHON:-}" ]; then
    venv/bin/pip install --quiet 'ray[serve]==2.60.0'
    RAY_PYTHON=$work/venv/bin/python
fi
python3 - <<'PY' > runs.tsv
import csv
for row in csv.DictReader(open("results/fronts.csv")):
    print(row["run_id"], row["policy"].split()[0], sep="\t")
PY
while IFS=$'\t' read -r id to; do
    "$scalefront" export results --run "$id" --to "$to" --out "$to-$id.yaml" --quiet
done < runs.tsv
for version in 1.33 1.37; do
    venv/bin/kubernetes-validate --strict --kubernetes-version "$version" hpa-*.yaml
done
# A schema that accepts anything would prove nothing.
sed 's/maxReplicas/mostReplicas/' "$(ls hpa-*.yaml | head -1)" > wrong.yaml
if venv/bin/kubernetes-validate --strict --kubernetes-version 1.33 wrong.yaml > /dev/null 2>&1; then
    echo "a misspelt field was accepted" >&2
    exit 1
fi
"$RAY_PYTHON" - ray_serve-*.yaml <<'PY'
import sys, yaml
from ray.serve.config import AutoscalingConfig
for name in sys.argv[1:]:
    config = yaml.safe_load(open(name))["autoscaling_config"]
    read = AutoscalingConfig(**config)
    for key, value in config.items():
        assert getattr(read, key) == value, (name, key, getattr(read, key), value)
    print("INFO", name, "is read by Ray's AutoscalingConfig as it is written")
PY
test "$(ls hpa-*.yaml | wc -l)" -eq 4
test "$(ls ray_serve-*.yaml | wc -l)" -eq 2
