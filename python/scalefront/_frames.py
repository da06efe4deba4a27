"""Tables of results as frames: polars if it is installed, else pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._program import ScalefrontError


class Table:
    """A stored table. `polars()` and `pandas()` read it; neither needs the other."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def polars(self) -> Any:
        """A `polars.DataFrame`."""
        import polars

        return polars.read_parquet(self.path) if self.path.suffix == ".parquet" else polars.read_csv(self.path, infer_schema_length=None)

    def pandas(self) -> Any:
        """A `pandas.DataFrame`."""
        import pandas

        return pandas.read_parquet(self.path) if self.path.suffix == ".parquet" else pandas.read_csv(self.path)

    def frame(self) -> Any:
        """With what is there."""
        if not self.path.exists():
            raise ScalefrontError(f"{self.path}: no such table")
        try:
            return self.polars()
        except ImportError:
            pass
        try:
            return self.pandas()
        except ImportError as error:
            raise ScalefrontError("neither polars nor pandas is installed; try `pip install polars`") from error
