"""The same trace, deployment and measured tables in NVIDIA's simulator (aisimulate) and in Scalefront, side by side.

    python peers.py SCALEFRONT WORK_DIR [--trace FILE.jsonl ..]

Run by `cargo bench --bench peers` with the Python of a virtual environment that `install.sh` has made. Each program is started as its
users start it, as a process of its own that reads the trace and writes a line per request; time, CPU and memory are those of the whole
process and its children. Traces are in Mooncake's format, in which the peer reads them too.
"""

import argparse
import csv
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

SYSTEMS = Path(importlib.util.find_spec("aisimulate_core").origin).parent / "systems"
BACKEND_VERSION = "0.24.0"
BLOCK_TOKENS = 16
BLOCKS = 65_536  # never all in use
TOKENS_A_PASS, SEQUENCES = 8_192, 256


def traces(directory):
    """Name, file and replicas of each shape: as short as requests get, and long outputs."""
    draws = random.Random(1)
    shapes = [
        ("short", 4, 30_000, 40.0, lambda: (256, 1)),
        ("conversation", 8, 4_000, 4.0, lambda: (int(draws.lognormvariate(7.0, 0.8)), int(draws.lognormvariate(5.0, 0.6)))),
    ]
    for name, replicas, requests, rate_per_s, lengths in shapes:
        path = directory / f"{name}.jsonl"
        now_s = 0.0
        with open(path, "w") as file:
            for _ in range(requests):
                now_s += draws.expovariate(rate_per_s)
                prompt, output = lengths()
                row = {"timestamp": round(1000 * now_s), "input_length": min(max(prompt, 16), 7_000), "output_length": max(output, 1)}
                file.write(json.dumps(row | {"hash_ids": []}) + "\n")
        yield name, path, replicas


def with_hashes(path, directory):
    """The trace with as many ids of its own as each prompt has blocks: the peer wants them, and without caching they mean nothing."""
    out, next_id = directory / f"{path.stem}.peer.jsonl", 0
    with open(path) as rows, open(out, "w") as file:
        for line in rows:
            row = json.loads(line)
            blocks = -(-row["input_length"] // 512)
            row["hash_ids"] = list(range(next_id, next_id + blocks))
            next_id += blocks
            file.write(json.dumps(row) + "\n")
    return out


def measured(command, log):
    """Wall and CPU seconds of a command and its children, and their highest resident memory in MB.

    What a process has before it becomes another program counts for that one's memory, so nothing is read here before all have run.
    """
    started = time.monotonic()
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed; what it said: {log}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run_peer(trace, replicas, directory):
    worker = {
        "parallelism": {"replicas": replicas, "tensor": 4},
        "scheduler": {"max_batched_tokens": TOKENS_A_PASS, "max_sequences": SEQUENCES},
        "kv_cache": {"prefix_caching": False, "block_size": BLOCK_TOKENS, "capacity": {"type": "fixed", "blocks": BLOCKS}},
    }
    config = {
        # Patience on machines that are busy: it gives up after five seconds of writing results.
        "execution": {"resources": {"shutdown_timeout_seconds": 600}},
        "traffic": {"source": {"type": "trace", "paths": [str(trace)], "format": "mooncake"}, "load": {"type": "trace_timestamps"}},
        "engine": {
            "mode": "aggregated",
            "model": "meta-llama/Meta-Llama-3.1-70B",
            "hardware": "h200_sxm",
            "backend": "vllm",
            "backend_version": BACKEND_VERSION,
            "workers": {"aggregated": worker},
        },
    }
    path, out = directory / "peer.json", directory / "peer"
    path.write_text(json.dumps(config))
    aisimulate = Path(sys.executable).parent / "aisimulate"
    command = [str(aisimulate), "predict", "-c", str(path), "--output-dir", str(out), "--overwrite", "--capture-per-request"]
    return measured(command, directory / "peer.log")


def results_of_peer(directory):
    with open(directory / "peer" / "requests.jsonl") as file:
        rows = [json.loads(line) for line in file]
    return [(row["arrival_time_ms"] / 1000, row["ttft_ms"] / 1000, row["e2e_latency_ms"] / 1000) for row in rows]


def run_scalefront(program, trace, replicas, directory):
    grid = {
        "workloads": [{"name": "trace", "trace": {"path": str(trace), "format": "mooncake"}}],
        "cluster": {
            "model": "meta-llama/Meta-Llama-3-70B",
            "node": "h200_dgx",
            "node_price_usd_per_hour": 1,
            "tensor_parallel": 4,
            "max_request_tokens": 8192,
            "global_scheduler": "round_robin",
            "execution_time": {"aiconfigurator": {"systems_dir": str(SYSTEMS), "backend": "vllm", "backend_version": BACKEND_VERSION}},
            "replica_scheduler": {
                "vllm_v1": {
                    "batch_size_cap": SEQUENCES,
                    "max_tokens_in_batch": TOKENS_A_PASS,
                    "num_blocks": BLOCKS,
                    "prefix_caching": False,
                    "async_scheduling": False,
                }
            },
        },
        "autoscalers": [{"static": {"replicas": replicas}}],
    }
    path, out = directory / "grid.json", directory / "scalefront"
    path.write_text(json.dumps(grid))
    command = [program, "simulate", str(path), "--out", str(out), "--quiet", "--threads", "1"]
    # The first run makes the cache of condensed tables, the second is as all later ones.
    measured(command, directory / "scalefront.log")
    return measured(command, directory / "scalefront.log")


def results_of_scalefront(directory):
    def times(row):
        arrived_s = float(row["arrived_at_s"])
        return arrived_s, float(row["first_token_at_s"]) - arrived_s, float(row["completed_at_s"]) - arrived_s

    with open(directory / "scalefront" / "requests.csv") as file:
        return [times(row) for row in csv.DictReader(file)]


def quantile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def agreement(ours, theirs):
    """What differs, in words: by quantile, and request by request."""
    lines = []
    for column, what in ((1, "TTFT"), (2, "E2E")):
        a, b = [row[column] for row in ours], [row[column] for row in theirs]
        shares = ", ".join(
            f"{name} {100 * (of(a) / of(b) - 1):+.2f} %"
            for name, of in (("mean", statistics.fmean), ("P50", lambda v: quantile(v, 0.5)), ("P90", lambda v: quantile(v, 0.9)))
        )
        apart = [abs(x / y - 1) for x, y in zip(a, b)]
        lines.append(f"  {what}: {shares}; a request by {100 * statistics.median(apart):.3f} % in the median")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scalefront")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--trace", type=Path, action="append", default=[], help="a trace of one's own in Mooncake's format")
    parser.add_argument("--replicas", type=int, default=8, help="for traces of one's own")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    found = [(path.stem, path, arguments.replicas) for path in arguments.trace] or list(traces(arguments.directory))
    used = {}
    for name, path, replicas in found:
        directory = arguments.directory / name
        directory.mkdir(exist_ok=True)
        peer = run_peer(with_hashes(path, directory), replicas, directory)
        used[name] = peer, run_scalefront(arguments.scalefront, path, replicas, directory)
    print("| trace | requests | program | wall s | CPU s | MB |\n|---|---|---|---|---|---|")
    notes = []
    for name, (peer, us) in used.items():
        directory = arguments.directory / name
        theirs, ours = results_of_peer(directory), results_of_scalefront(directory)
        if len(ours) != len(theirs):
            sys.exit(f"{name}: {len(ours)} requests here and {len(theirs)} in the peer")
        for program, (wall_s, cpu_s, mb) in (("aisimulate", peer), ("scalefront", us)):
            print(f"| {name} | {len(ours):,} | {program} | {wall_s:.2f} | {cpu_s:.2f} | {mb:.0f} |")
        notes.append(f"{name}: {peer[0] / us[0]:.1f} times faster, {peer[1] / us[1]:.1f} times less CPU, by quantiles and requests:")
        notes += agreement(sorted(ours), sorted(theirs))
    print("\n" + "\n".join(notes))


main()
