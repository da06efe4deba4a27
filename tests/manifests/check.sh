#!/usr/bin/env bash
# Exported files against the programs that read them: HorizontalPodAutoscalers against Kubernetes' own OpenAPI schemas, as PyPI's
# kubernetes-validate carries them; autoscaling_config by Ray Serve's own config class; ScaledObjects and Knative Services against the CRDs
# that KEDA and Knative publish, where these are at hand. Outside the main tests: it needs Python and the network; with RAY_PYTHON, a Python
# that has ray[serve] 2.60.0 already, less of it.
#
#     cargo build --release && tests/manifests/check.sh [target/release/scalefront]
#
# KEDA_CRD and KNATIVE_CRD name the CRDs, from checkouts of the two:
#
#     git -C keda show v2.20.2:config/crd/bases/keda.sh_scaledobjects.yaml > scaledobjects.yaml
#     git -C serving show knative-v1.23.0:config/core/300-resources/service.yaml > service.yaml
#     KEDA_CRD=scaledobjects.yaml KNATIVE_CRD=service.yaml tests/manifests/check.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scalefront=$(realpath "${1:-$here/../../target/release/scalefront}")
KEDA_CRD=${KEDA_CRD:+$(realpath "$KEDA_CRD")}
KNATIVE_CRD=${KNATIVE_CRD:+$(realpath "$KNATIVE_CRD")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet kubernetes-validate==1.37.0 jsonschema pyyaml
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
test "$(ls keda-*.yaml | wc -l)" -eq 3
test "$(ls knative-*.yaml | wc -l)" -eq 2
# Against a CRD, and a slip that it finds.
against() {
    local crd=$1 field=$2
    shift 2
    venv/bin/python "$here/crd.py" "$crd" "$@"
    sed "s/$field/misspelt/" "$1" > wrong.yaml
    if venv/bin/python "$here/crd.py" "$crd" wrong.yaml > /dev/null 2>&1; then
        echo "a misspelt $field was accepted" >&2
        exit 1
    fi
}
if [ -n "$KEDA_CRD" ]; then
    against "$KEDA_CRD" pollingInterval keda-*.yaml
    against "$KEDA_CRD" scaleTargetRef schedule-*.yaml
else
    echo "INFO ScaledObjects are not checked here: KEDA_CRD is not set"
fi
if [ -n "$KNATIVE_CRD" ]; then
    against "$KNATIVE_CRD" containers knative-*.yaml
else
    echo "INFO Knative Services are not checked here: KNATIVE_CRD is not set"
fi
