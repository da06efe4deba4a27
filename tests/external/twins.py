"""Copies of built-in policies, to be held against them: `python3 twins.py schedule`, and so on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from lab_inferline import InferlineAutoscaler  # noqa: E402
from scalefront.lab import as_policy  # noqa: E402
from scalefront.policy import Change, Policy, serve  # noqa: E402


class Schedule(Policy):
    def decide(self, now_s, tick):
        at_s = now_s % self.settings["period_s"]
        steps = self.settings["steps"]
        passed = [step for step in steps if step["at_s"] <= at_s]
        return (passed or steps)[-1]["replicas"]


class Chiron(Policy):
    observes = ("replicas",)
    tick_interval_s = 1.0

    def __init__(self, settings, cluster, seed):
        super().__init__(settings, cluster, seed)
        self.free_s = -1.0

    def decide(self, now_s, tick):
        serving = [replica for replica in tick.replicas if not replica["draining"]]
        if not serving or now_s < self.free_s:
            return None
        busy = sum(replica["running_requests"] > 0 for replica in serving)
        if busy / len(serving) > 0.6:
            self.free_s = now_s + self.cluster.scale_up_delay_s
            return Change(1)
        if tick.committed <= 1:
            return None
        self.free_s = now_s + self.cluster.scale_down_delay_s
        return Change(-1)


if __name__ == "__main__":
    serve({"schedule": Schedule, "chiron": Chiron, "inferline": as_policy(InferlineAutoscaler)}[sys.argv[1]])
