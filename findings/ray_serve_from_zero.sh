#!/usr/bin/env bash
# Ray Serve: the first order after zero replicas knows nothing of the load.
#
# With no replica and requests waiting, the default policy asks for ceil(upscaling_factor) replicas, one by default, whether one request
# waits or ten thousand; with one replica the same requests ask for thousands at once. So a fleet that has scaled to zero pays a whole
# cold start before the size of a burst counts, and `upscaling_factor`, elsewhere a multiplier of the step, is there a number of replicas.
# A custom policy whose result Ray scales, delays and bounds is not asked at all at zero.
#
# Seen with ray 2.60.0 (Python 3.11), November 2026:
#   waiting       1     100   10000
#   from 0        1       1       1    upscaling_factor 3: 3 3 3
#   from 1        1      50    5000
#   a policy that always wants 7 gets 1 at zero, without having been called, and 7 with one replica
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'ray[serve]==2.60.0'
cat > "$work/look.py" <<'PY'
import math

import ray
from ray.serve.autoscaling_policy import _apply_autoscaling_config, replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

assert ray.__version__ == "2.60.0", ray.__version__


def context(replicas, waiting, **settings):
    config = AutoscalingConfig(min_replicas=0, max_replicas=10_000, initial_replicas=0, target_ongoing_requests=2,
                               upscale_delay_s=0, **settings)
    return AutoscalingContext(
        deployment_id=None, deployment_name="llm", app_name="app", current_num_replicas=replicas, target_num_replicas=replicas,
        running_replicas=[], total_num_requests=waiting, total_queued_requests=waiting, aggregated_metrics=None, raw_metrics=None,
        capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=10_000, policy_state={}, last_scale_up_time=None,
        last_scale_down_time=None, current_time=1000.0, config=config)


def wanted(replicas, waiting, **settings):
    return math.ceil(replica_queue_length_autoscaling_policy(context(replicas, waiting, **settings))[0])


loads = [1, 100, 10_000]
from_zero = [wanted(0, waiting) for waiting in loads]
factor_three = [wanted(0, waiting, upscaling_factor=3) for waiting in loads]
from_one = [wanted(1, waiting) for waiting in loads]
print("from 0:", from_zero, "with a factor of 3:", factor_three, "from 1:", from_one)
assert from_zero == [1, 1, 1], from_zero
assert factor_three == [3, 3, 3], factor_three
assert from_one == [1, 50, 5000], from_one

calls = []


@_apply_autoscaling_config
def always_seven(ctx):
    calls.append(ctx.current_num_replicas)
    return 7, {}


at_zero, at_one = always_seven(context(0, 100))[0], always_seven(context(1, 100))[0]
print("a policy that wants 7 gets", at_zero, "at zero and", at_one, "at one; it was called with", calls)
assert (at_zero, at_one, calls) == (1, 7, [1]), (at_zero, at_one, calls)
PY
"$work/venv/bin/python" "$work/look.py"
echo "as described"
