"""The lab's second part as a student may hand it in: InferLine's tuner behind the lab's own interface.

It decides as the built-in `inferline` does; `tests/it/external.rs` holds one against the other.
"""

import math
from collections import deque

from scalefront.lab import as_policy, serve


class Envelope:
    """Highest token rate over any window of `min_window_s` within the last `look_back_s`, by the definition: slow and plain."""

    def __init__(self, look_back_s, min_window_s):
        self.look_back_s, self.min_window_s = look_back_s, min_window_s
        self.arrivals = deque()

    def add(self, time, tokens):
        self.arrivals.append((time, tokens))

    def rate(self, now):
        """Windows (s, s + w] end at an arrival; with less history than w, tokens so far over w."""
        while self.arrivals and self.arrivals[0][0] <= now - self.look_back_s - self.min_window_s:
            self.arrivals.popleft()
        recent = [(time, tokens) for time, tokens in self.arrivals if time > now - self.look_back_s]
        most = total = first = 0
        for time, tokens in recent:
            total += tokens
            while recent[first][0] <= time - self.min_window_s:
                total -= recent[first][1]
                first += 1
            most = max(most, total)
        return most / self.min_window_s


class InferlineAutoscaler:
    def __init__(self, config):
        self.config = config
        self.throughput = config.initial_replica_token_throughput
        self.envelope = Envelope(config.look_back_s, config.min_window_s)
        self.last_up = -math.inf

    def on_request_arrival(self, request):
        self.envelope.add(request.arrived_at, request.total_tokens)

    def on_batch_end(self, batch):
        alpha = self.config.throughput_alpha
        measured = batch.total_num_tokens / (batch.completed_at - batch.scheduled_at)
        self.throughput = alpha * measured + (1 - alpha) * self.throughput

    def tune(self, time):
        needed = math.ceil(self.envelope.rate(time) / self.throughput)
        present = self.num_replicas + self.num_pending_scale_ups - self.num_pending_scale_downs
        if needed > present:
            self.last_up = time
            return needed - present
        if time - self.last_up < self.config.stabilization_delay_s:
            return 0
        return min(max(needed, 1), present) - present


if __name__ == "__main__":
    serve(as_policy(InferlineAutoscaler))
