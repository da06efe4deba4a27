"""What deciding outside of the simulator costs: microseconds a decision, and the lab's run beside the same policy built in.

    python3 python/time_decisions.py [PROGRAM]        # by default $SCALEFRONT, or target/release/scalefront

The run is the lab's: an hour, 126,000 requests, a decision every 5 s, by the clock; what the program asks to be told besides is what
differs. Simulator and program take turns on one thread, so times are processor time of both together, whatever else the machine does;
least of ROUNDS. A decision's cost is the difference between deciding every second and every 5 s, less that of the built-in policy.
Exits with 1 if a decision on the counts takes more than 100 us, or a run more than 1.5 times the built-in policy's.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scalefront.policy import Policy, serve

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
RUNS = 20
SLOW_S, FAST_S = 5, 1
MOST_US_A_DECISION = 100
MOST_TIMES_THE_BUILT_IN = 1.5
DURATION_S = 3600

LAB = {
    "name": "timing",
    "workloads": [{"name": "steps", "generate": {
        "arrivals": {"poisson": {"phases": [
            {"duration_s": 1200, "rate_per_s": 20}, {"duration_s": 600, "rate_per_s": 30},
            {"duration_s": 1200, "rate_per_s": 50}, {"duration_s": 600, "rate_per_s": 40}]}},
        "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}],
    "seeds": list(range(1, RUNS + 1)),
}
CLUSTER = {"execution_time": {"profile": {"attention": "lab_fit"}}, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}
SCHEDULE = {"steps": [{"at_s": 0, "replicas": 4}, {"at_s": 1195, "replicas": 6}, {"at_s": 1795, "replicas": 9}, {"at_s": 2990, "replicas": 7}],
            "period_s": DURATION_S}


class ByTheClock(Policy):
    def decide(self, now_s, tick):
        steps = self.settings["steps"]
        passed = [step for step in steps if step["at_s"] <= now_s % self.settings["period_s"]]
        return (passed or steps)[-1]["replicas"]


def seconds_a_run(program, autoscaler, tick_s, work):
    """Processor time of the simulator and of the program it asks."""
    file = Path(work) / "grid.json"
    file.write_text(json.dumps({**LAB, "cluster": {**CLUSTER, "tune_interval_s": tick_s}, "autoscalers": [autoscaler]}))
    least = float("inf")
    for turn in range(ROUNDS):
        out = Path(work) / f"out-{tick_s}-{turn}"
        # A shard of one: runs are stored, and neither curves nor a report are made.
        command = [program, "sweep", str(file), "--quiet", "--threads", "1", "--shard", "1/1", "--resume", "--out", str(out)]
        before = os.times()
        subprocess.run(command, check=True)
        after = os.times()
        least = min(least, after.children_user - before.children_user + after.children_system - before.children_system)
        subprocess.run(["rm", "-r", str(out)], check=True)
    return least / RUNS


def main(program):
    fair = True
    with tempfile.TemporaryDirectory() as work:
        slow, fast = (seconds_a_run(program, {"schedule": SCHEDULE}, tick_s, work) for tick_s in (SLOW_S, FAST_S))
        print(f"{'is told':24}{'ms a run':>10}{'ratio':>8}{'us a decision':>16}")
        print(f"{'(built in)':24}{1000 * slow:>10.1f}{1:>8.2f}")
        for told in ("", "replicas", "arrivals", "latencies"):
            external = {"external": {"command": ["python3", __file__, "serve", told], "settings": SCHEDULE}}
            own_slow, own_fast = (seconds_a_run(program, external, tick_s, work) for tick_s in (SLOW_S, FAST_S))
            decisions = DURATION_S / FAST_S - DURATION_S / SLOW_S
            us = 1e6 * ((own_fast - own_slow) - (fast - slow)) / decisions
            if not told:
                fair = us <= MOST_US_A_DECISION and own_slow <= MOST_TIMES_THE_BUILT_IN * slow
            print(f"{told or 'counts':24}{1000 * own_slow:>10.1f}{own_slow / slow:>8.2f}{us:>16.1f}", flush=True)
    return 0 if fair else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        ByTheClock.observes = tuple(told for told in sys.argv[2:] if told)
        serve(ByTheClock)
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SCALEFRONT", str(ROOT / "target/release/scalefront"))))
