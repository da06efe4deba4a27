"""Makes moocore.json: what moocore, an independent implementation, says of random fronts with ties and duplicates.

    pip install moocore==0.3.2 && python moocore.py > moocore.json

Points are (latency, cost), both minimised. Of every four sets three lie on a coarse lattice, where ties, duplicates and points on or
beyond the reference are frequent; the fourth is made of decimals. Contributions follow the definition HV(X) - HV(X without x), so
dominated points count (`ignore_dominated=False`). `attainment` holds (latency, cost, percent) of the union of `points`, split by `runs`.
"""

import json

import moocore
import numpy as np

random = np.random.default_rng(20260101)
cases = []
for number in range(300):
    def points(least):
        count = int(random.integers(least, 16))
        if number % 4 == 3:
            return np.round(random.uniform(0, 1.2, (count, 2)), 3)
        return random.integers(0, 13, (count, 2)).astype(float)

    reference = [1.0, 0.9] if number % 4 == 3 else [11.0, 10.0]
    found, target = points(3), points(1)
    if number % 5 == 0:
        found = found[moocore.is_nondominated(found)]
    runs = np.sort(np.concatenate([np.arange(min(3, len(found))), random.integers(0, min(3, len(found)), max(0, len(found) - 3))]))
    attained = moocore.eaf(found, runs, percentiles=[10, 50, 90])
    cases.append({
        "reference": reference,
        "points": found.tolist(),
        "target": target.tolist(),
        "runs": runs.tolist(),
        "front": np.flatnonzero(moocore.is_nondominated(found)).tolist(),
        "hypervolume": float(moocore.hypervolume(found, ref=reference)),
        "contributions": moocore.hv_contributions(found, ref=reference, ignore_dominated=False).tolist(),
        "igd_plus": float(moocore.igd_plus(found, ref=target)),
        "additive_epsilon": float(moocore.epsilon_additive(found, ref=target)),
        "attainment": attained.tolist(),
    })
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
print(f'{{"made_by":"moocore.py","moocore":"{moocore.__version__}","cases":[\n{lines}\n]}}')
