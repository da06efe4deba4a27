#!/usr/bin/env python3
"""Does the suite notice? Puts the faults of list.tsv into a copy of the repository, each behind a switch, and for each fault, with it alone
switched on, runs the tests that the list says notice it: one of them has to fail. Where none does, the whole suite of the core is run.

    tests/mutants/run.py [NAME...]

Prints a line for each fault: killed, and by which tests, or SURVIVED. Exit code 1 if a fault is not noticed by the tests the list names (those
that do notice it are printed: put them into the list), and 2 if the suite fails without any fault. Builds once, with the profile `quick`, then
takes seconds a fault. Data beside the repository is not looked at.
"""

import os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = (ROOT / "tests/mutants/list.tsv").read_text().splitlines()
FAULTS = [line.split("\t") for line in LIST if line and not line.startswith("#")]
SWITCH = """
/// Which fault is switched on.
pub mod mutants {
    pub fn on(name: &str) -> bool {
        static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        NAME.get_or_init(|| std::env::var("MUTANT").unwrap_or_default()) == name
    }
}
// The front's mathematics need no tables: with this their tests are part of the core's.
#[cfg(not(feature = "report"))]
#[path = "analysis/front.rs"]
pub mod front;
"""
# A fault may make a run endless: that is noticed, too.
MOST_S = {"named": "300", "all": "3600"}
CARGO = ["cargo", "test", "--profile", "quick", "--no-default-features", "--quiet"]


def switched(name, text, where, after, file):
    before, target, behind = where.replace("\\n", "\n").split("¦")
    whole = before + target + behind
    assert text.count(whole) == 1, f"{name}: stands {text.count(whole)} times in {file}, expected once: {whole}"
    condition = f'if crate::mutants::on("{name}")'
    if not target:
        new = f"{condition} {{ {after} }}\n"
    elif target.endswith(";"):
        new = f"{condition} {{ {after} }} else {{ {target} }}"
    else:
        new = f"({condition} {{ {after} }} else {{ {target} }})"
    return text.replace(whole, before + new + behind)


def failing(copy, name, tests=()):
    """The tests that fail with this fault, of these or of all."""
    # Unit tests are in the library, the others in `it`.
    units = [test for test in tests if "::tests::" in test]
    others = [test for test in tests if test not in units]
    found = set()
    for target, chosen in ((["--lib"], units), (["--test", "it"], others)):
        if tests and not chosen:
            continue
        limit = MOST_S["named" if tests else "all"]
        command = ["timeout", limit, *CARGO, *target, "--", *(["--exact", *chosen] if chosen else [])]
        run = subprocess.run(command, cwd=copy, env={**os.environ, "MUTANT": name}, capture_output=True, text=True)
        if "could not compile" in run.stderr:
            sys.exit(run.stderr)
        if chosen and re.search(r"^running 0 tests", run.stdout, re.M):
            sys.exit(f"{name}: no such test: {' '.join(chosen)}")
        if run.returncode == 124:
            found |= set(chosen) or {"a run that never ends"}
        elif run.returncode != 0:
            found |= set(re.findall(r"^    ([a-z_0-9:]+)$", run.stdout, re.M)) or {"a crash"}
    return sorted(found)


def main():
    copy = Path(os.environ.get("MUTANTS_DIR") or tempfile.mkdtemp(prefix="mutants-"))
    ignored = shutil.ignore_patterns("target", ".git", "results", "corpus", "artifacts")
    shutil.copytree(ROOT, copy, dirs_exist_ok=True, ignore=ignored)
    for name, _, file, where, after, _ in FAULTS:
        (copy / file).write_text(switched(name, (copy / file).read_text(), where, after, file))
    lib = copy / "src/lib.rs"
    # What the compiler and the house say of such code does not matter here.
    allowed = "#![forbid(unsafe_code)]\n#![allow(warnings)]"
    lib.write_text(lib.read_text().replace("#![forbid(unsafe_code)]", allowed) + SWITCH)
    for rules in ("tidy", "mutants"):
        (copy / f"tests/it/{rules}.rs").write_text("")
    if failed := failing(copy, "", sorted({test for *_, tests in FAULTS for test in tests.split()})):
        print(f"without any fault: {', '.join(failed)}")
        sys.exit(2)
    wrong = 0
    for name, what, *_, tests in FAULTS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        named = failing(copy, name, tests.split())
        wrong += not named
        failed = named or failing(copy, name)
        said = f"killed by {' '.join(failed)}" if failed else "SURVIVED"
        print(f"{name}\t{what}\t{said}" + ("" if named else f", expected: {tests}"), flush=True)
    sys.exit(1 if wrong else 0)


main()
