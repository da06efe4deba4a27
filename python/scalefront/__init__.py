"""Scalefront from Python: sweeps and single runs by the `scalefront` program, their results as data frames.

    import scalefront

    results = scalefront.sweep("sweeps/grid.json")        # or a grid as a dict
    results.hypervolume                                   # a polars frame
    results.runs.filter(results.runs["p90_e2e_s"] < 1)
    results.report                                        # the page, to open
    scalefront.recommend("ask.json", {"p99_ttft_s": 2}).verdict

What is computed is what the command computes, to the byte: this package starts the same program. `scalefront.policy` is for policies
written in Python.
"""

from ._frames import Table
from ._program import GridError, ScalefrontError, find_program
from ._results import Recommendation, Results, Simulation, compare, open_results, recommend, simulate, sweep

__all__ = [
    "GridError",
    "Recommendation",
    "Results",
    "ScalefrontError",
    "Simulation",
    "Table",
    "compare",
    "find_program",
    "open_results",
    "recommend",
    "simulate",
    "sweep",
]
