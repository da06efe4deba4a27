"""A policy to begin with: replicas for the outstanding requests, quick up and slow down."""

import math

from scalefront.policy import Policy, serve


class Reactive(Policy):
    def __init__(self, settings, cluster, seed):
        super().__init__(settings, cluster, seed)
        self.target_per_replica = settings.get("target_per_replica", 8)
        self.hold_s = settings.get("hold_s", 60)
        self.last_high_s = 0.0
        self.wanted = 0

    def decide(self, now_s, tick):
        self.wanted = math.ceil(tick.outstanding_requests / self.target_per_replica)
        if self.wanted >= tick.committed:
            self.last_high_s = now_s
            return self.wanted
        # Going down waits until the load has been low for a while.
        return None if now_s - self.last_high_s < self.hold_s else tick.committed - 1

    def evidence(self):
        return {"wanted_replicas": self.wanted}


if __name__ == "__main__":
    serve(Reactive)
