"""What the commands leave behind, as objects."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from . import _program
from ._frames import Table

Grid = Mapping[str, Any] | str | os.PathLike[str]


class _Directory:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise _program.ScalefrontError(f"{self.path}: no {name} there") from error

    def table(self, name: str) -> Table:
        """A stored table by its file name, such as `fronts.parquet`."""
        return Table(self.path / name)


class Results(_Directory):
    """A sweep's results. Frames are polars', or pandas' where polars is not installed; `table(name).pandas()` asks for one kind."""

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Grid, versions, workloads, hardware, timings."""
        return self._json("manifest.json")

    @cached_property
    def runs(self) -> Any:
        """One row a run: every setting, every metric; failed runs are rows with a reason."""
        return self.table("runs.parquet").frame()

    @cached_property
    def fronts(self) -> Any:
        """The runs no other of their family and seed beats in both objectives."""
        return self.table("fronts.parquet").frame()

    @cached_property
    def hypervolume(self) -> Any:
        """Scores per workload and family."""
        return self.table("hypervolume.csv").frame()

    @property
    def verdict(self) -> list[dict[str, Any]]:
        """On each workload with constraints the cheapest setting that keeps them; empty without."""
        return self._json("verdict.json")

    @property
    def report(self) -> Path:
        """The page: one file, opens offline."""
        return self.path / "report.html"

    @property
    def summary(self) -> str:
        """The summary in Markdown."""
        return (self.path / "summary.md").read_text(encoding="utf-8")

    def _repr_markdown_(self) -> str:
        return self.summary


class Simulation(_Directory):
    """One run with everything that happened in it."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Every setting and every metric of the run."""
        return self._json("summary.json")

    @cached_property
    def requests(self) -> Any:
        return self.table("requests.parquet").frame()

    @cached_property
    def batches(self) -> Any:
        return self.table("batches.parquet").frame()

    @cached_property
    def replicas(self) -> Any:
        return self.table("replicas.parquet").frame()

    @cached_property
    def decisions(self) -> Any:
        return self.table("decisions.parquet").frame()


class Recommendation(_Directory):
    """What `recommend` found."""

    @cached_property
    def answer(self) -> dict[str, Any]:
        """`recommendation.json` as a whole."""
        return self._json("recommendation.json")

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        return self.answer["verdict"]

    @property
    def kept(self) -> bool:
        """Whether a setting was found that keeps the limits."""
        return self.answer["kept"]

    @property
    def setting(self) -> dict[str, Any] | None:
        """The setting that is recommended, or `None`."""
        return self.answer["setting"]

    @property
    def cost_usd_per_month(self) -> float | None:
        """Of 30.44 days, the mean over workloads and seeds."""
        return self.answer["cost_usd_per_month"]

    def _repr_markdown_(self) -> str:
        return self.verdict


def sweep(
    grid: Grid, *, out: str | os.PathLike[str] | None = None, threads: int | None = None, resume: bool = False, quiet: bool = False
) -> Results:
    """Runs a grid (a file, or a dict with a `name`) and returns its results; `out` is their directory, by default `results/<name>`.

    Failed runs are rows and a warning. Raises `GridError` for a wrong grid, `KeyboardInterrupt` if interrupted: what had run is kept,
    and `resume=True` goes on there.
    """
    with _file_of(grid) as (file, name):
        directory = Path(out) if out is not None else Path("results") / name
        arguments = ["sweep", str(file), "--out", str(directory), *_threads(threads), *(["--resume"] if resume else [])]
        if _program.run(arguments, quiet=quiet) == 1:
            warnings.warn(f"some runs failed: see `status` and `error` in {directory / 'runs.parquet'}", stacklevel=2)
    return Results(directory)


def recommend(
    grid: Grid,
    limits: Mapping[str, float] | None = None,
    *,
    budget: int | None = None,
    minutes: float | None = None,
    workloads: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> Recommendation:
    """Searches the cheapest setting of a grid that keeps its limits, those of `objectives.constraints` and of `limits` (`{"p99_ttft_s": 2}`).

    `budget` is in runs, by default a tenth of the grid's. `out` is by default `results/<name>_recommended`; the same call goes on there.
    """
    with _file_of(grid) as (file, name):
        directory = Path(out) if out is not None else Path("results") / f"{name}_recommended"
        arguments = ["recommend", str(file), "--out", str(directory), *_threads(threads)]
        arguments += [word for metric, value in (limits or {}).items() for word in ("--limit", f"{metric}={value!r}")]
        arguments += [word for workload in workloads for word in ("--workload", workload)]
        arguments += [] if budget is None else ["--budget", str(budget)]
        arguments += [] if minutes is None else ["--minutes", str(minutes)]
        _program.run(arguments, quiet=quiet)
    return Recommendation(directory)


def simulate(grid: Grid, *, out: str | os.PathLike[str] | None = None, quiet: bool = True) -> Simulation:
    """Simulates one run (a grid without axes) in detail."""
    with _file_of(grid) as (file, name):
        directory = Path(out) if out is not None else Path("results") / name
        _program.run(["simulate", str(file), "--format", "parquet", "--out", str(directory)], quiet=quiet)
    return Simulation(directory)


def compare(*results: Results | str | os.PathLike[str], out: str | os.PathLike[str] = "results/compare", quiet: bool = False) -> Path:
    """Sets sweep against sweep, or the families of one against each other; returns the directory with the page."""
    paths = [str(result.path if isinstance(result, Results) else result) for result in results]
    _program.run(["compare", *paths, "--out", str(out)], quiet=quiet)
    return Path(out)


def open_results(path: str | os.PathLike[str]) -> Results:
    """Results that are there already."""
    results = Results(path)
    results.manifest
    return results


def _threads(threads: int | None) -> list[str]:
    return [] if threads is None else ["--threads", str(threads)]


class _file_of:
    """A grid's file and name; a dict is written to a file for as long as it is needed."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> tuple[Path, str]:
        if not isinstance(self.grid, Mapping):
            file = Path(self.grid)
            under_sweeps = Path("sweeps") / file
            found = under_sweeps if not file.exists() and under_sweeps.exists() else file
            return file, self._name(found)
        name = self.grid.get("name")
        if not isinstance(name, str) or not name:
            raise _program.GridError("name: a grid given as a dict needs one, such as {\"name\": \"mine\", ..}: it names the results")
        self.directory = tempfile.TemporaryDirectory()
        file = Path(self.directory.name) / "grid.json"
        # Indented, so that an error's line and column lead somewhere.
        file.write_text(json.dumps(self.grid, indent=1), encoding="utf-8")
        return file, name

    def __exit__(self, *_: object) -> None:
        if self.directory is not None:
            self.directory.cleanup()

    @staticmethod
    def _name(file: Path) -> str:
        # As the program names a sweep; a file it cannot read is its to complain about.
        try:
            name = json.loads(file.read_text(encoding="utf-8")).get("name")
        except (OSError, ValueError, AttributeError):
            name = None
        return name if isinstance(name, str) and name else file.stem
