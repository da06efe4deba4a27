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
python3 -m venv venv
venv/bin/pip install --quiet kubernetes-validate==1.37.0
if [ -z "${RAY_PYTHON:-}" ]; then
    venv/bin/pip install --quiet 'ray[serve]==2.60.0'
    RAY_PYTHON=$work/venv/bin/python
fi
# One grid a policy, so that what is recommended is that one.
python3 - "$here/grid.json" "$scalefront" <<'PY'
import json, subprocess, sys
whole, scalefront = json.load(open(sys.argv[1])), sys.argv[2]
for number, autoscaler in enumerate(whole["autoscalers"]):
    json.dump({"name": "one", "workloads": whole["workloads"], "autoscalers": [autoscaler]}, open("one.json", "w"))
    out = f"results{number}"
    subprocess.run([scalefront, "recommend", "one.json", "--limit", "p90_e2e_s=1000", "--quiet", "--out", out], check=True)
    run = json.load(open(f"{out}/recommendation.json"))["setting"]["run_ids"][0]
    to = autoscaler["label"].split()[0]
    subprocess.run([scalefront, "export", out, "--run", run, "--to", to, "--quiet", "--out", f"{to}-{number}.yaml"], check=True)
PY
for version in 1.33 1.37; do
    venv/bin/kubernetes-validate --strict --kubernetes-version "$version" hpa-*.yaml
done
# A schema that accepts anything would prove nothing.
sed 's/maxReplicas/mostReplicas/' hpa-0.yaml > wrong.yaml
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
