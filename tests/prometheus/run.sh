#!/usr/bin/env bash
# A simulated hour through a real Prometheus: an exporter replays its record 30 times as fast, Debian's Prometheus scrapes it every half
# second, query_range gives it back, and `shadow` has to make the same run of it. Takes two and a half minutes; needs Python, curl, and
# `prometheus` on the path (or its file in PROMETHEUS). Outside the main tests.
#
#     cargo build --release && tests/prometheus/run.sh [target/release/scalefront]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scalefront=$(realpath "${1:-$here/../../target/release/scalefront}")
prometheus=${PROMETHEUS:-prometheus}
work=$(mktemp -d)
started=()
trap 'for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
"$prometheus" --version 2>&1 | head -1
"$scalefront" simulate "$here/grid.json" --quiet --prometheus 15 --out run
speed=30
cat > prometheus.yml <<'Y'
global: {scrape_interval: 500ms}
scrape_configs:
- {job_name: replayed, static_configs: [{targets: ['127.0.0.1:19187']}]}
Y
"$prometheus" --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:19190 > prometheus.log 2>&1 &
started+=($!)
until curl -sf 127.0.0.1:19190/-/ready > /dev/null; do sleep 0.2; done
python3 "$here/exporter.py" run/metrics 19187 $speed &
started+=($!)
begin=$(date +%s)
sleep $((3600 / speed + 10))
mkdir recorded
for file in run/metrics/*.json; do
    name=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["data"]["result"][0]["metric"]["__name__"])' "$file")
    curl -sfG 127.0.0.1:19190/api/v1/query_range --data-urlencode "query=$name{job=\"replayed\"}" \
        -d start="$begin" -d end="$(date +%s)" -d step=0.5 -o "recorded/$(basename "$file")"
done
"$scalefront" shadow recorded "$here/grid.json" --time-scale $speed --out shadow
python3 - <<'PY'
import json
run = json.load(open("run/summary.json"))
was = json.load(open("shadow/shadow.json"))
cost, replayed = run["total_cost_usd"], was["as_it_was"]["cost_usd"]
off = replayed / cost - 1
print(f"cost of the run {cost:.2f}, of its replay from Prometheus {replayed:.2f}: {100 * off:+.2f} %")
assert abs(off) < 0.05, off
requests = next(compared for compared in was["agreement"] if compared["what"] == "requests")
print("requests", run["num_requests"], "recorded", requests["measured"], "replayed", requests["replayed"])
assert abs(requests["replayed"] / run["num_requests"] - 1) < 0.05
PY
