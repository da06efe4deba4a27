"""How much of the runs of one workload, seed and cluster comes before they decide differently.

    scalefront simulate CELL.json --out runs/CELL     # for each cell
    python3 benches/shared_beginnings.py runs/*

Prints how many of all simulated requests belong to runs that decide like another to the end, and how many of the others' come before the
first decision in which a run differs from every other: what a sweep could save that let cells share their beginning.
"""

import csv
import os
import sys


def read(path):
    """Replicas at the start with the decisions that changed anything, and the arrivals."""
    with open(f"{path}/replicas.csv") as file:
        first = next(csv.DictReader(file))["num_replicas"]
    decisions = {}
    if os.path.exists(f"{path}/decisions.csv"):
        with open(f"{path}/decisions.csv") as file:
            # One line for each thing that a decision rests on.
            decisions = {float(row["time_s"]): int(row["applied"]) for row in csv.DictReader(file)}
    with open(f"{path}/requests.csv") as file:
        arrivals = [float(row["arrived_at_s"]) for row in csv.DictReader(file)]
    return (int(first), tuple((at_s, applied) for at_s, applied in sorted(decisions.items()) if applied)), arrivals


def parts_at_s(one, other):
    """When two runs first decide differently."""
    if one[0] != other[0]:
        return 0.0
    alike = 0
    while alike < min(len(one[1]), len(other[1])) and one[1][alike] == other[1][alike]:
        alike += 1
    return min(decisions[alike][0] for decisions in (one[1], other[1]) if alike < len(decisions))


def main(paths):
    decided, arrivals = set(), []
    for path in paths:
        decisions, arrivals = read(path)
        decided.add(decisions)
    total, different = len(paths) * len(arrivals), len(decided) * len(arrivals)
    # In order, each shares most with the one before it.
    decided = sorted(decided)
    begun = sum(sum(at_s < parts_at_s(one, other) for at_s in arrivals) for one, other in zip(decided, decided[1:]))
    print(f"{len(paths)} runs, {total} requests: {100 * (total - different) / total:.1f} % in runs that decide like another to the end, ", end="")
    print(f"{100 * begun / total:.1f} % ({100 * begun / different:.1f} % of the rest) before the first difference")


if __name__ == "__main__":
    main(sys.argv[1:])
