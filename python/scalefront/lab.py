"""The autoscaling lab's own interface: a class with `on_request_arrival`, `on_batch_end`, `tune` and, if it likes, `init_service_level`.

    class CustomAutoscaler:
        def __init__(self, config): ...
        def init_service_level(self, service_level): ...
        def on_request_arrival(self, request): ...     # arrived_at, num_prefill_tokens, num_decode_tokens, total_tokens
        def on_batch_end(self, batch): ...             # scheduled_at, completed_at, num_prefill_tokens, num_decode_tokens, total_num_tokens
        def tune(self, time): ...                      # replicas to add (positive) or free (negative)

    serve(as_policy(CustomAutoscaler))

`config` has the settings of the grid as attributes, `service_level` among them, and `num_replicas`, `num_pending_scale_ups` and
`num_pending_scale_downs` are kept up to date on the object before each `tune`. As in the lab, arrivals tell true output lengths, which
no real controller knows.
"""

from types import SimpleNamespace

from .policy import Change, Policy, serve  # noqa: F401: `serve` is for whoever imports this module


def as_policy(autoscaler):
    """The class as a `Policy`."""

    class Lab(Policy):
        observes = ("arrivals", "decode_tokens", "batches")

        def __init__(self, settings, cluster, seed):
            super().__init__(settings, cluster, seed)
            self.autoscaler = autoscaler(SimpleNamespace(**vars(cluster), **settings))
            if hasattr(self.autoscaler, "init_service_level") and "service_level" in settings:
                self.autoscaler.init_service_level(settings["service_level"])

        def decide(self, now_s, tick):
            arrivals = tick.arrivals
            columns = (arrivals["arrived_at_s"], arrivals["prefill_tokens"], arrivals["decode_tokens"])
            # The lab calls back at each event; between two ticks the order of the two kinds cannot be seen by `tune`.
            for arrived_at, prefill, decode in zip(*columns):
                self.autoscaler.on_request_arrival(
                    SimpleNamespace(
                        arrived_at=arrived_at,
                        num_prefill_tokens=prefill,
                        num_decode_tokens=decode,
                        total_tokens=prefill + decode,
                    )
                )
            for batch in tick.batches:
                self.autoscaler.on_batch_end(
                    SimpleNamespace(
                        scheduled_at=batch["scheduled_at_s"],
                        completed_at=batch["completed_at_s"],
                        num_requests=batch["num_requests"],
                        num_prefill_tokens=batch["prefill_tokens"],
                        num_decode_tokens=batch["tokens"] - batch["prefill_tokens"],
                        total_num_tokens=batch["tokens"],
                    )
                )
            self.autoscaler.num_replicas = tick.serving
            self.autoscaler.num_pending_scale_ups = tick.starting
            self.autoscaler.num_pending_scale_downs = tick.stopping
            return Change(self.autoscaler.tune(now_s) or 0)

    return Lab
