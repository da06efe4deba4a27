"""What a closed loop costs beside open requests of the same shape: instructions within the engine, counted by valgrind.

    python3 benches/sessions_cost.py [PROGRAM]        # by default $SCALEFRONT, or target/release/scalefront

The requests of a closed run are replayed open at the times at which they came, so that both runs do the same to the last digit.
Counts are the same on a busy machine. Exits with 1 if the closed run takes more than MOST_TIMES_THE_OPEN times the instructions.
"""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_TIMES_THE_OPEN = 1.3
CLUSTER = {"global_scheduler": "least_outstanding", "replica_scheduler": {"vllm_v1": {"prefix_caching": False}}}


def grid(work, name, workload):
    conversations = json.loads((ROOT / "sweeps/conversations.json").read_text())
    file = Path(work) / f"{name}.json"
    file.write_text(json.dumps({
        "name": name, "workloads": [workload or conversations["workloads"][0]], "seeds": [1],
        "cluster": {**conversations["cluster"], **CLUSTER}, "autoscalers": [{"static": {"replicas": 4}}]}))
    return file


def simulated(program, file):
    """The directory of a run's records, and what it measured of all requests."""
    out = file.with_suffix("")
    subprocess.run([program, "simulate", str(file), "--quiet", "--out", str(out)], check=True)
    summary = json.loads((out / "summary.json").read_text())
    names = [name for name in ("num_completed", "num_batches", "mean_e2e_s", "p99_e2e_s", "mean_ttft_s", "busy_s") if name in summary]
    return out, {name: summary[name] for name in names}


def instructions(program, file):
    # A shard of one: the run is stored, and neither curves nor turns are recorded in a second one.
    sweep = [program, "sweep", str(file), "--quiet", "--threads", "1", "--shard", "1/1", "--out", str(file.with_suffix(".shard"))]
    counting = ["valgrind", "--tool=callgrind", "--toggle-collect=*Engine*::run", "--callgrind-out-file=/dev/null"]
    told = subprocess.run(counting + sweep, check=True, capture_output=True, text=True).stderr
    return int(re.search(r"Collected : (\d+)", told).group(1))


def main(program):
    with tempfile.TemporaryDirectory() as work:
        closed = grid(work, "closed", None)
        records, of_closed = simulated(program, closed)
        trace = Path(work) / "trace.csv"
        with open(records / "requests.csv", newline="") as requests, open(trace, "w", newline="") as rows:
            writer = csv.writer(rows)
            writer.writerow(["arrived_at", "num_prefill_tokens", "num_decode_tokens"])
            writer.writerows((row["arrived_at_s"], row["prefill_tokens"], row["decode_tokens"]) for row in csv.DictReader(requests))
        opened = grid(work, "open", {"name": "chat", "trace": {"path": str(trace), "format": "vidur"}})
        _, of_open = simulated(program, opened)
        if of_closed != of_open:
            sys.exit(f"the two runs differ, so nothing is compared: {of_closed} closed, {of_open} open")
        counts = {file.stem: instructions(program, file) for file in (opened, closed)}
    ratio = counts["closed"] / counts["open"]
    print(f"{of_closed['num_completed']} requests; millions of instructions: open {counts['open'] / 1e6:.1f}, "
          f"closed {counts['closed'] / 1e6:.1f}; ratio {ratio:.3f}")
    return 0 if ratio <= MOST_TIMES_THE_OPEN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SCALEFRONT", str(ROOT / "target/release/scalefront"))))
