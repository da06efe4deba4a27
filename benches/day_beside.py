#!/usr/bin/env python3
"""The day of long answers with two programs in turns: user CPU of each, and the ratio.

    python3 benches/day_beside.py BEFORE AFTER [ROUNDS]

BEFORE and AFTER are `scalefront` programs, such as target/release/scalefront of two commits; of commits since
4d904ad each knows one of the two ways to set KEDA. One cell of each policy of sweeps/day.json runs on one
thread, without report; of three rounds (or ROUNDS) the least CPU counts.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

DAY = Path(__file__).resolve().parent.parent / "sweeps" / "day.json"
# What each cell sets, as the grid says it now, and as it did before, with what it then sets of the cluster.
CELLS = {
    "static, 5 replicas": [({"static": {"replicas": 5}}, {})],
    "hpa on KV use, 0.4": [({"hpa": {"metric": "kv_use", "target_per_replica": 0.4}}, {})],
    "keda, 40 outstanding": [
        ({"keda": {"target_per_replica": 40, "min_replicas": 4}}, {}),
        ({"keda": {"threshold_per_replica": 40}}, {"min_replicas": 4}),
    ],
    "frontier, level 0.1": [({"frontier": {"service_level": 0.1}}, {})],
}


def grid(policy, cluster):
    day = json.loads(DAY.read_text())
    del day["$schema"], day["objectives"]["constraints"]
    day["autoscalers"] = [policy]
    day["cluster"] |= cluster
    return day


def cpu_s(program, path, out):
    """User seconds of a sweep of one cell; the error it ended with, if it did."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [program, "sweep", path, "--out", out, "--shard", "1/1", "--threads", "1", "--quiet"]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        return None, ended.stderr.strip()
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, None


def of_cell(program, ways, directory, round_):
    for number, way in enumerate(ways):
        path = os.path.join(directory, f"way{number}.json")
        Path(path).write_text(json.dumps(grid(*way)))
        out = os.path.join(directory, f"out{round_}.{number}.{os.path.basename(program)}.{len(os.listdir(directory))}")
        seconds, error = cpu_s(program, path, out)
        if error is None:
            return seconds
    sys.exit(f"{program}: {error}")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    programs, rounds = sys.argv[1:3], int(sys.argv[3]) if len(sys.argv) == 4 else 3
    print("| cell | before, s | after, s | ratio |\n| --- | --- | --- | --- |")
    for cell, ways in CELLS.items():
        least = [float("inf")] * 2
        with tempfile.TemporaryDirectory() as directory:
            for round_ in range(rounds):
                for which, program in enumerate(programs):
                    least[which] = min(least[which], of_cell(program, ways, directory, round_))
        print(f"| {cell} | {least[0]:.2f} | {least[1]:.2f} | {least[1] / least[0]:.2f} |", flush=True)


main()
