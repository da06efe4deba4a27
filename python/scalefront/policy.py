"""A policy for Scalefront in Python: subclass `Policy`, call `serve`, name the file in a grid.

    {"external": {"command": ["python3", "my_policy.py"], "settings": {"target": [4, 8, 16]}}}

The simulator starts the file once a worker and asks it run after run. `docs/external-policies.md` has every field of a tick and the
dialogue itself, for other languages. This module needs the standard library only and may be copied beside a policy.
"""

import json
import os
import sys
from types import SimpleNamespace

PROTOCOL = 1
OBSERVABLE = ("arrivals", "decode_tokens", "batches", "latencies", "replicas", "passes")


class Policy:
    """What a run asks. One object a run: whatever it remembers begins anew with `__init__`."""

    #: What each tick is to tell, from `OBSERVABLE`. What is not asked for costs nothing.
    observes = ()

    #: Seconds between ticks, if not the cluster's `tune_interval_s`.
    tick_interval_s = None

    def __init__(self, settings, cluster, seed):
        """`settings` as the grid has them, `cluster` with its limits and delays, `seed` for whoever draws."""
        self.settings, self.cluster, self.seed = settings, cluster, seed

    def decide(self, now_s, tick):
        """Replicas there should be (an int), `Change(n)`, or None to hold. `tick` has the fields of a tick as attributes."""
        raise NotImplementedError

    def evidence(self):
        """What the latest decision rested on: names and numbers, for `decisions.csv`."""
        return {}


class Change(int):
    """Replicas to add (positive) or drain (negative), where a decision is no target."""


class Tick:
    """What is known at a decision, a field an attribute."""

    def __init__(self, fields):
        # The parsed object as it is: a copy of it takes as long as the rest of an answer.
        self.__dict__ = fields

    def __repr__(self):
        return f"Tick({self.__dict__!r})"


def serve(policy, questions=None, answers=None):
    """Answers until the simulator has no more questions. What a policy prints goes to standard error, where it disturbs nothing."""
    if answers is None:
        answer_with, sys.stdout = _unbuffered(sys.stdout), sys.stderr
    else:
        answer_with = _flushed(answers)
    unknown = set(policy.observes) - set(OBSERVABLE)
    if unknown:
        raise ValueError(f"{policy.__name__}.observes: {sorted(unknown)} found, expected some of {OBSERVABLE}")
    running = None
    # A run asks thousands of times: ticks come first and are answered without building what most answers lack.
    decode = json.JSONDecoder().raw_decode
    for line in _lines(sys.stdin.fileno()) if questions is None else questions:
        question, _ = decode(line)
        kind = question["type"]
        if kind == "tick":
            decision = running.decide(question["now_s"], Tick(question))
            if decision is None:
                answer = '{"type": "decision"'
            elif isinstance(decision, Change):
                answer = '{"type": "decision", "change": %d' % decision
            else:
                answer = '{"type": "decision", "target": %d' % decision
            evidence = running.evidence()
            answer += ', "evidence": %s}\n' % json.dumps(evidence) if evidence else "}\n"
        elif kind == "start":
            running = policy(question["settings"], SimpleNamespace(**question["cluster"]), question["seed"])
            ready = {"type": "ready"}
            if running.tick_interval_s is not None:
                ready["tick_interval_s"] = running.tick_interval_s
            answer = json.dumps(ready) + "\n"
        elif kind == "hello":
            answer = json.dumps({"type": "hello", "protocol": PROTOCOL, "observes": list(policy.observes)}) + "\n"
        else:
            raise ValueError(f"question of type {kind!r} found, expected hello, start or tick")
        answer_with(answer)


def _lines(descriptor):
    """Lines as they come. Mostly each read is one, which a stream of text would take apart and put together again."""
    parts = []
    while data := os.read(descriptor, 1 << 16):
        if not parts and data.find(b"\n") == len(data) - 1:
            yield data.decode()
            continue
        *ended, rest = data.split(b"\n")
        for end in ended:
            yield b"".join([*parts, end]).decode()
            parts.clear()
        if rest:
            parts.append(rest)


def _unbuffered(stream):
    descriptor = stream.fileno()

    def write(text):
        data = text.encode()
        while data:
            data = data[os.write(descriptor, data):]

    return write


def _flushed(stream):
    def write(text):
        stream.write(text)
        stream.flush()

    return write
