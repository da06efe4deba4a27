#!/usr/bin/env bash
# Holds what is in this directory against what reads it: the Ray script on a real cluster of three nodes on this machine, one of which is
# killed while it works, and the Kubernetes job and the container recipe against their grammars.
# Usage: deploy/check.sh [PROGRAM], by default target/release/scalefront. Installs pinned packages from PyPI in a temporary directory;
# RAY_PYTHON names an interpreter that has ray already. Takes some minutes and no container engine.
set -euo pipefail
cd "$(dirname "$0")/.."
program="$(realpath "${1:-target/release/scalefront}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet kubernetes-validate==1.37.0 dockerfile==3.4.0
# 1.29 is the oldest with backoffLimitPerIndex on by default.
for version in 1.29 1.37; do
    "$work/venv/bin/kubernetes-validate" --strict -k "$version" deploy/kubernetes_job.yaml
done
"$work/venv/bin/python" - <<'PYTHON'
import dockerfile

# As docker/docs lists them; the parser reads any word as an instruction.
KNOWN = set("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split())
steps = dockerfile.parse_file("deploy/Containerfile")
assert all(step.cmd in KNOWN for step in steps), [step.cmd for step in steps]
stages = [step.value for step in steps if step.cmd == "FROM"]
assert stages[-1] == ("scratch",) and stages[0][1:] == ("AS", "build"), stages
taken = [step.flags for step in steps if step.cmd == "COPY" and step.flags]
assert taken == [("--from=build",)], taken
print(f"Containerfile: {len(steps)} steps in {len(stages)} stages")
PYTHON

python="${RAY_PYTHON:-}"
if [ -z "$python" ]; then
    "$work/venv/bin/pip" install --quiet 'ray==2.60.0'
    python="$work/venv/bin/python"
fi
mkdir "$work/bin"
ln -s "$program" "$work/bin/scalefront"
"$python" deploy/check_ray.py "$work"
