#!/bin/bash
# A sweep of 2,000 cells as a Slurm array of 10 tasks on 3 nodes, one of which is killed midway. Requeued and merged, the results must have
# the bytes of one machine's. As root, from anywhere: tests/slurm/run.sh path/to/scalefront
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scalefront=$(realpath "$1")
work=$(mktemp -d)
export D=$work/cluster SCALEFRONT=$scalefront
export SLURM_CONF=$D/slurm.conf
trap '"$here/mini_slurm.sh" stop; rm -rf "$work"' EXIT
cd "$work"
cp "$here/grid.json" grid.json
mkdir -p cluster logs
since() { echo "$(($(date +%s) - began)) s: $*"; }

began=$(date +%s)
"$scalefront" sweep grid.json --quiet --out alone
since "one machine has run it"

"$here/mini_slurm.sh" start
began=$(date +%s)
sbatch --array=1-10 --requeue --output="$work/logs/%a.txt" --open-mode=append --export=ALL "$here/../../deploy/slurm_array.sh" grid.json "$work/shards"
# Amid the runs of a task on node 2.
task=
lines() { cat "shards/shard-$1-of-10/journal.jsonl" 2>/dev/null | wc -l; }
for _ in $(seq 200); do
    task=$(squeue -h -r -t R -w node2 -o %K 2>/dev/null | head -1)
    if [ -z "$task" ]; then sleep 0.05; continue; fi
    while [ "$(lines "$task")" -le 10 ]; do sleep 0.01; done
    # One that is nearly done would be done before it is killed; another will come.
    [ "$(lines "$task")" -lt 100 ] && break
    task=
done
[ -n "$task" ] || { echo "no task ran on node 2" >&2; exit 1; }
"$here/mini_slurm.sh" kill-node 2
since "node 2 is killed; task $task had $(wc -l <"shards/shard-$task-of-10/journal.jsonl") lines"
before=$(wc -l <"shards/shard-$task-of-10/journal.jsonl")
if [ "$before" -ge 201 ]; then echo "note: that task had just finished its runs" >&2; fi
"$scalefront" merge shards --out early 2>&1 | sed 's/^/    before the end: /' || true
scontrol update nodename=node2 state=down reason=killed
while [ -n "$(squeue -h)" ]; do sleep 0.5; done
since "the queue is empty"
grep -o 'JobState=[A-Z_]*' "$D/log/jobcomp.txt" | sort | uniq -c

began=$(date +%s)
"$scalefront" merge shards --quiet --out merged
since "merged"
for file in runs.parquet series.parquet fronts.parquet fronts.csv hypervolume.csv; do
    cmp "alone/$file" "merged/$file"
done
cat logs/*.txt | sort | uniq -c | sort -rn | head -20
echo "OK: the same bytes"
