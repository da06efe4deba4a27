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

# For type checkers; who runs it gets a name's module when the name is asked for. A policy's program, of which a sweep starts one a worker,
# imports this package for `policy` alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
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

_MODULES = {"_frames": ("Table",), "_program": ("GridError", "ScalefrontError", "find_program")}


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = next((module for module, names in _MODULES.items() if name in names), "_results")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})
