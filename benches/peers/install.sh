#!/usr/bin/env bash
# A virtual environment with the peer at one version: 1.6 GB, in a directory that is given.
set -euo pipefail
directory="${1:?where the environment goes}"
test -x "$directory/bin/aisimulate" && exit 0
python3 -m venv "$directory"
"$directory/bin/pip" install --quiet --disable-pip-version-check --pre aisimulate==0.13.0.dev202610270000000085
