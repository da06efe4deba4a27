#!/usr/bin/env python3
"""Does the suite notice? Applies each fault of list.tsv by itself to a copy of the repository and runs the tests, which have to fail.

    tests/mutants/run.py [NAME...]

Faults outside src/analysis are put before the core's tests alone (no tables, which build slowly); those within before all unit tests of
the library. Prints a line for each: killed, and by which tests first; SURVIVED; or, if it does not even compile, broken. Exit code 1
unless all are killed. Takes a minute or two a fault; what CARGO_TARGET_DIR holds is used again.
"""

import os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [line.split("\t") for line in (ROOT / "tests/mutants/list.tsv").read_text().splitlines() if line and not line.startswith("#")]


def tests(file):
    """The commands that have to fail, one of them at least: the quick ones first."""
    if file.startswith("src/analysis"):
        return [["cargo", "test", "--release", "--quiet", "--lib"]]
    core = ["cargo", "test", "--no-default-features", "--quiet"]
    return [[*core, "--lib"], [*core, "--test", "it"]]


def main():
    wanted = sys.argv[1:]
    copy = Path(os.environ.get("MUTANTS_DIR") or tempfile.mkdtemp(prefix="mutants-"))
    for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "README.md"]:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy / name)
    for name in ["src", "tests", "benches", "sweeps", "traces", "docs", "fuzz", "deploy", ".cargo"]:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True)
    alive = 0
    for name, what, file, before, after in FAULTS:
        if wanted and name not in wanted:
            continue
        path = copy / file
        text = (ROOT / file).read_text()
        before, after = before.replace("\\n", "\n"), after.replace("\\n", "\n")
        assert text.count(before) == 1, f"{name}: its text stands {text.count(before)} times in {file}, expected once"
        path.write_text(text.replace(before, after))
        for command in tests(file):
            run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
            if run.returncode != 0:
                break
        # A new time, so that cargo sees the change back.
        path.write_text(text)
        failed = sorted(set(re.findall(r"^    ([a-z_0-9:]+)$", run.stdout, re.M)))
        if "could not compile" in run.stderr:
            verdict, alive = "broken: " + run.stderr.strip().splitlines()[0], alive + 1
        elif run.returncode == 0:
            verdict, alive = "SURVIVED", alive + 1
        else:
            more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
            verdict = f"killed by {', '.join(failed[:3]) or 'a crash'}{more}"
        print(f"{name}\t{what}\t{verdict}", flush=True)
    sys.exit(1 if alive else 0)


main()
