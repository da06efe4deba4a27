"""ray_example.py on three nodes of one machine, one of which is killed: the same bytes as without Ray. See check.sh."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ray_example  # noqa: E402

SHARDS = 6
GRID = {
    "name": "ray",
    "workloads": [{"name": "steps", "generate": {
        "arrivals": {"poisson": {"phases": [{"duration_s": 1200, "rate_per_s": 20}, {"duration_s": 600, "rate_per_s": 40}]}},
        "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}}}}],
    "seeds": list(range(1, 13)),
    "autoscalers": [{"static": {"replicas": [4, 6, 8]}}, {"hpa": {"target_per_replica": [2, 4, 8]}}, "inferline"],
}


def main(work):
    os.environ["PATH"] = f"{work / 'bin'}{os.pathsep}{os.environ['PATH']}"
    grid = work / "ray.json"
    grid.write_text(json.dumps(GRID))
    subprocess.run(["scalefront", "sweep", str(grid), "--quiet", "--out", str(work / "alone")], check=True)

    # The head takes no work, so that a node with work can be lost. One task at a time on each of the others.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=ray_example.CORES) for _ in range(2)]
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    out = work / "shared"
    killed = []

    def kill_one():
        # As soon as a node works on a shard: its journal holds some runs, and not all.
        while not any(journal.stat().st_size > 2000 for journal in out.glob("*/journal.jsonl")):
            time.sleep(0.05)
        killed.append(sorted(path.parent.name for path in out.glob("*/journal.jsonl")))
        cluster.remove_node(workers[0], allow_graceful=False)

    killer = threading.Thread(target=kill_one)
    killer.start()
    code = ray_example.main(str(grid), str(out), SHARDS)
    killer.join(timeout=1)
    alive = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    cluster.shutdown()
    assert killed, "nothing was killed: the grid is too small for this machine"
    assert alive == 2, f"{alive} nodes alive, expected 2 of 3"
    assert code == 0, code
    same = (out / "runs.parquet").read_bytes() == (work / "alone" / "runs.parquet").read_bytes()
    print(f"ray {ray.__version__}: node killed while {', '.join(killed[0])} were under way; runs.parquet {'is' if same else 'IS NOT'} the same")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
