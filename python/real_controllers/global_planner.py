#!/usr/bin/env python3
"""What Dynamo's own planner above planners grants (ai-dynamo 1.6.1), in cases drawn here.

    global_planner.py > ../../tests/data/global_planner.json

Needs ai-dynamo 1.6.1 and what its planner imports, as check_dynamo.sh installs them. Prints a JSON list of cases:

    most, least, ttl_s     bounds of all devices (null: none), how long a wish is remembered
    pools                  [deployment, devices of a replica, replicas at first] each
    wishes                 [time s, [[pool, replicas], ..], granted], in which granted is null or [[pool, replicas], ..], the wish included

What is granted is there at once; the wishes of a case are one deployment's each.
"""

import json
import random
import sys

from dynamo.global_planner.capacity_manager import PoolSpec
from dynamo.global_planner.orchestrator import Orchestrator
from dynamo.planner import SubComponentType, TargetReplica

ROLES = ("prefill", "decode")


def case(draw):
    deployments = draw.randint(1, 4)
    pools = [(deployment, draw.choice((1, 2, 4, 8)), draw.randint(0, 6)) for deployment in range(deployments) for _ in ROLES[: draw.choice((1, 2, 2))]]
    devices = sum(size * replicas for _, size, replicas in pools)
    most = draw.choice((None, devices, devices + draw.randint(0, 8), devices + draw.randint(0, 8)))
    least = draw.choice((None, None, devices, max(0, devices - draw.randint(0, 8))))
    if most is None and least is None:
        most = devices
    ttl_s = draw.choice((60.0, 360.0))
    clock = [0.0]
    orchestrator = Orchestrator(
        capacity_manager=None,
        managed_deployments=None,
        max_total_gpus=-1 if most is None else most,
        min_total_gpus=-1 if least is None else least,
        intent_cache_ttl_seconds=ttl_s,
        now=lambda: clock[0],
        use_lock=False,
    )
    now = [replicas for _, _, replicas in pools]
    place = {}
    for pool, (deployment, _, _) in enumerate(pools):
        role = ROLES[sum(1 for other in place if other[0] == deployment)]
        place[(deployment, role)] = pool
    roles = {pool: key for key, pool in place.items()}
    wishes = []
    for _ in range(draw.randint(4, 14)):
        clock[0] += draw.choice((0.0, 15.0, 30.0, 100.0))
        deployment = draw.randrange(deployments)
        own = [pool for pool, (of, _, _) in enumerate(pools) if of == deployment]
        asked = [(pool, max(0, now[pool] + draw.randint(-3, 3))) for pool in own if len(own) == 1 or draw.random() < 0.7]
        if not asked:
            continue
        seen = {}
        for (of, role), pool in place.items():
            spec = PoolSpec(sub_type=role, component_name=role, current_replicas=now[pool], gpu_per_replica=pools[pool][1])
            seen.setdefault(str(of), {})[role] = spec
        targets = [
            TargetReplica(sub_component_type=SubComponentType(roles[pool][1]), component_name=None, desired_replicas=replicas)
            for pool, replicas in asked
        ]
        result = orchestrator.mediate(str(deployment), targets, seen)
        granted = None
        if result.approved:
            partners = [(place[(int(p.participant_id), p.sub_type)], p.applied_desired) for p in result.selected_partners]
            granted = asked + partners
            for pool, replicas in granted:
                now[pool] = replicas
        wishes.append([clock[0], asked, granted])
    return {"most": most, "least": least, "ttl_s": ttl_s, "pools": pools, "wishes": wishes}


def main():
    draw = random.Random(1)
    cases = [case(draw) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 120)]
    print("[" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases) + "]")


main()
