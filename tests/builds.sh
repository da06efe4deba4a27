#!/bin/bash
# A debug and a release build must give the same bytes: both run one sweep (no tables: the core alone), and the rows they write down are
# compared. From anywhere: tests/builds.sh [grid.json]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
grid=$(realpath "${1:-$root/tests/slurm/grid.json}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --no-default-features
cp "$target/debug/scalefront" "$work/debug"
cargo build --quiet --no-default-features --release
cp "$target/release/scalefront" "$work/release"
cd "$work"
cp "$grid" grid.json
for build in debug release; do
    # On one thread runs end in the plan's order, so that the files can be compared as they are.
    time "./$build" sweep grid.json --quiet --threads 1 --shard 1/4 --out "out-$build"
done
cmp out-debug/shard-1-of-4/journal.jsonl out-release/shard-1-of-4/journal.jsonl
echo "OK: $(($(wc -l <out-debug/shard-1-of-4/journal.jsonl) - 1)) runs, the same bytes"
