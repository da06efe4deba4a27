"""Ray Serve's own autoscaling function in the simulator's loop. Tried with ray[serve]==2.60.0; see check.sh beside this file.

What decides is Ray's: the policy, its factors, bounds and delays. What feeds it is ours: requests outstanding at each tick, averaged over
`look_back_period_s` by time, as one handle would report them. Ray's clock is the simulator's, so runs are repeatable.
"""

import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ray.serve import autoscaling_policy as ray_policy  # noqa: E402
from ray.serve.config import AutoscalingConfig, AutoscalingContext  # noqa: E402

from scalefront.policy import Policy, serve  # noqa: E402


class RayServe(Policy):
    tick_interval_s = 1.0

    def __init__(self, settings, cluster, seed):
        super().__init__(settings, cluster, seed)
        limits = {"min_replicas": cluster.min_replicas, "max_replicas": cluster.max_replicas}
        self.config = AutoscalingConfig(**limits, **settings)
        # What Ray's controller makes of the configured policy: factors, bounds and delays around it.
        self.policy = ray_policy._apply_autoscaling_config(ray_policy.replica_queue_length_autoscaling_policy)
        self.samples = deque()
        self.state = {}
        self.target = None
        self.load = 0.0

    def decide(self, now_s, tick):
        ray_policy.time = SimpleNamespace(time=lambda: now_s)
        self.samples.append((now_s, tick.outstanding_requests))
        while self.samples[0][0] < now_s - self.config.look_back_period_s:
            self.samples.popleft()
        self.load = self.mean(now_s)
        target = tick.committed if self.target is None else self.target
        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="simulated",
            app_name=None,
            current_num_replicas=tick.serving,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=self.load,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics={},
            capacity_adjusted_min_replicas=self.cluster.min_replicas,
            capacity_adjusted_max_replicas=self.cluster.max_replicas,
            policy_state=self.state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now_s,
            config=self.config,
        )
        self.target, self.state = self.policy(context)
        return self.target

    def mean(self, now_s):
        """Each sample holds until the next, the last until now."""
        ends = [at_s for at_s, _ in self.samples][1:] + [now_s]
        spans = [(end_s - at_s, value) for (at_s, value), end_s in zip(self.samples, ends)]
        total_s = sum(span_s for span_s, _ in spans)
        return sum(span_s * value for span_s, value in spans) / total_s if total_s > 0 else self.samples[-1][1]

    def evidence(self):
        return {"mean_outstanding_requests": self.load}


if __name__ == "__main__":
    serve(RayServe)
