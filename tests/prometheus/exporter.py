"""Serves a recorded run on /metrics as if it happened now, so many seconds of it in one: usage exporter.py METRICS_DIR PORT SPEED.

Latencies pass as fast as all the rest: bounds and sums of histograms in seconds are divided by the speed. It begins with the first scrape, and answers no more once it is over: what Prometheus has is then the run and nothing else.
"""

import glob
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

series = []
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
    with open(path) as file:
        for result in json.load(file)["data"]["result"]:
            labels = {key: value for key, value in result["metric"].items() if key not in ("__name__", "job")}
            series.append((result["metric"]["__name__"], labels, [(float(t), value) for t, value in result["values"]]))
begin = min(values[0][0] for _, _, values in series)
end = max(values[-1][0] for _, _, values in series)
port, speed = int(sys.argv[2]), float(sys.argv[3])
for name, labels, values in series:
    if name.endswith("_seconds_bucket") and labels.get("le", "+Inf") != "+Inf":
        labels["le"] = str(float(labels["le"]) / speed)
    elif name.endswith("_seconds_sum"):
        values[:] = [(at, str(float(value) / speed)) for at, value in values]
started = None


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        global started
        started = started or time.time()
        now = begin + speed * (time.time() - started)
        if now > end:
            self.send_error(503)
            return
        lines = []
        for name, labels, values in series:
            past = [value for at, value in values if at <= now]
            inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
            lines.append(f"{name}{{{inner}}} {past[-1] if past else 0}\n")
        body = "".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", port), Metrics).serve_forever()
