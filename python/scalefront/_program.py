"""The `scalefront` program: found, started, its exit codes turned into exceptions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path


class ScalefrontError(RuntimeError):
    """The program could not be found or did not do what it was asked to."""


class GridError(ScalefrontError, ValueError):
    """Something is wrong with what was given; the message names file, field, what was found and what was expected."""


def find_program() -> Path:
    """The program to run: `SCALEFRONT` if set, the one installed with this package, one on the path, or one built in this checkout."""
    name = "scalefront.exe" if os.name == "nt" else "scalefront"
    if given := os.environ.get("SCALEFRONT"):
        if shutil.which(given) is None:
            raise ScalefrontError(f"SCALEFRONT={given!r}: no program found there")
        return Path(given)
    schemes = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user"))]
    checkout = Path(__file__).resolve().parents[2] / "target" / "release"
    for directory in [*schemes, checkout]:
        if (candidate := Path(directory) / name).is_file():
            return candidate
    if found := shutil.which(name):
        return Path(found)
    raise ScalefrontError("no `scalefront` program found; install this package, build it (cargo build --release), or set SCALEFRONT")


def run(arguments: Sequence[str], *, quiet: bool) -> int:
    """Runs the program and returns 0, or 1 where some runs failed.

    Its progress bar is shown where standard error is a terminal. An interrupt reaches the program, which stores what it has.
    """
    command = [str(find_program()), *arguments, *(["--quiet"] if quiet else [])]
    show = not quiet and sys.stderr is not None and sys.stderr.isatty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE, text=True) as process:
        try:
            said, complaints = process.communicate()
        except KeyboardInterrupt:
            # In a terminal it has had the signal itself; a second one does no harm.
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise
    if process.returncode == 130 or process.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if not quiet and said:
        print(said, end="")
    if process.returncode in (0, 1):
        return process.returncode
    message = (complaints or "").strip() or f"`{' '.join(command)}` ended with exit code {process.returncode}"
    raise (GridError if process.returncode == 2 else ScalefrontError)(message)
