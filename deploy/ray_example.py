"""A sweep on a Ray cluster: one task a shard, each on the cores it asks for. Needs a file system all nodes see.

    python deploy/ray_example.py sweeps/grid.json /shared/results/lab3 100

Run with ray 2.60.0 on three nodes of one machine, one of which was killed: `deploy/check.sh` does it again.
"""

import subprocess
import sys

import ray

CORES = 4


@ray.remote(num_cpus=CORES, max_retries=3)
def run_shard(grid: str, out: str, number: int, of: int) -> int:
    """Exit code of the shard. A task that Ray starts again, because its node died, goes on where its journal ends."""
    command = ["scalefront", "sweep", grid, "--shard", f"{number}/{of}", "--resume", "--quiet", "--threads", str(CORES), "--out", out]
    return subprocess.run(command).returncode


def main(grid: str, out: str, of: int) -> int:
    ray.init()
    codes = ray.get([run_shard.remote(grid, out, number, of) for number in range(1, of + 1)])
    wrong = [number for number, code in enumerate(codes, start=1) if code not in (0, 1)]
    if wrong:
        print(f"shards {wrong} could not be run", file=sys.stderr)
        return 2
    return subprocess.run(["scalefront", "merge", out, "--out", out]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
