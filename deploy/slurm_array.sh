#!/bin/bash
#SBATCH --job-name=scalefront
#SBATCH --ntasks=1
#SBATCH --requeue
# A sweep as a Slurm array: each task runs one shard on the cores it is given.
#
#   sbatch --array=1-100 --cpus-per-task=16 deploy/slurm_array.sh sweeps/grid.json /shared/results/lab3
#   scalefront merge /shared/results/lab3 --out results/lab3          # when the queue is empty
#
# A task that is requeued (node failure, preemption, time limit with --requeue) goes on where its journal ends. The directory has to be on
# a file system all nodes see. To run a few shards again by hand: scalefront sweep GRID --shard 17/100 --resume --out DIR
#
# Exit code 1 of a task says that runs failed; they are stored as rows with their reason, and the others are there.
set -eu
grid=$1
out=$2
exec "${SCALEFRONT:-scalefront}" sweep "$grid" --shard auto --resume --quiet --threads "${SLURM_CPUS_PER_TASK:-1}" --out "$out"
