#!/usr/bin/env bash
# vLLM's CPU offloading: what the GPU still has of a prefix, the host forgets.
#
# `--kv-offloading-size` keeps copies of prompts' KV blocks in host memory, those used least recently go first, of one prompt the last ones
# first, "so tails precede heads". But where a prompt finds its first blocks in the GPU's cache and gets the rest from the host, only the
# rest counts as used there. The next prompts then push the beginning out of the host, before prompts that nobody has asked for since; what
# stays of the prefix can never be found again, for it is looked for from its beginning, and takes up room. So a GPU cache that kept more
# makes the host keep less: here a prefix of six blocks, used a second time while four of them were on the GPU, is gone when it comes a
# third time, and computed anew; used a second time when the GPU had none of it, five blocks are found.
#
# Seen with vllm 0.33.0 (Python 3.11, no GPU: its own scheduler, connector and host block manager, unmodified, driven step by step by
# python/real_schedulers), November 2026. 8 blocks of 256 tokens on the GPU, 12 on the host, requests one after the other:
#                                        found of six blocks, second and third time
#   prefix, other, prefix, large, prefix                        6, 0
#   the same, and the GPU overwritten before the second time    6, 5
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet setuptools==80.9.0 pydantic==2.14.4 msgspec==0.23.0 numpy==2.4.6 cachetools==8.0.2 regex==2026.11.19
mkdir "$work/sources"
# The archive cannot be built without torch, and need not be: it is unpacked before that is found out, and kept.
TMPDIR="$work/sources" "$python" -m pip download --quiet --no-clean --no-cache-dir --no-deps --no-binary :all: --no-build-isolation --dest "$work" \
    vllm==0.33.0 >/dev/null 2>&1 || true
source="$(find "$work/sources" -maxdepth 2 -name 'vllm_*' -type d)"
cat > "$work/look.py" <<'PY'
import os
import sys

source, driver = sys.argv[1:]
sys.path.insert(0, driver)
import inert
import vllm_scheduler

vllm_scheduler.SOURCE = source
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
inert.install(vllm_scheduler.is_absent)
sys.path.insert(0, source)

# Prompt and output tokens, names of the prompt's tokens by 512.
PREFIX, OTHER, LARGE = (1537, 1, [1, 2, 3]), (769, 1, [11, 12]), (1793, 1, [21, 22, 23, 24])
# Generated tokens fill the GPU's cache and are not copied to the host.
OVERWRITES = (1, 1990, [])


def found(*prompts):
    requests, step = [], 0
    for prompt_tokens, output_tokens, names in prompts:
        requests.append([prompt_tokens, output_tokens, step, names])
        step += output_tokens + 12
    settings = {"num_blocks": 8, "block_size": 256, "budget": 8192, "max_num_seqs": 8, "prefix_caching": True, "sched": {"offloaded_blocks": 12}}
    driver = vllm_scheduler.Driver({"settings": settings, "requests": requests})
    driver.run()
    _, second, third = (cached // 256 for prompt, cached in zip(prompts, driver.cached) if prompt is PREFIX)
    return second, third


kept, overwritten = found(PREFIX, OTHER, PREFIX, LARGE, PREFIX), found(PREFIX, OTHER, OVERWRITES, PREFIX, LARGE, PREFIX)
print("blocks found the second and third time:", kept, "and, with the GPU overwritten in between,", overwritten)
assert (kept, overwritten) == ((6, 0), (6, 5)), "it has changed"
PY
"$python" "$work/look.py" "$source" "$here/../python/real_schedulers"
echo "as described"
