#!/usr/bin/env python3
"""Does the suite notice? Puts the faults of list.tsv into a copy of the repository, each behind a switch, and runs the core's tests once for
each fault, with it alone switched on: they have to fail.

    tests/mutants/run.py [NAME...]

Prints a line for each fault: killed, and by which tests, or SURVIVED. Exit code 1 unless all are killed, and 2 if the suite fails without
any. Builds once, then takes as long as the suite for each fault. Data beside the repository is not looked at.
"""

import os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [line.split("\t") for line in (ROOT / "tests/mutants/list.tsv").read_text().splitlines() if line and not line.startswith("#")]
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
# The suite takes a minute or two once it is built.
MOST_S = "1200"
COMMANDS = [["cargo", "test", "--no-default-features", "--quiet", *part] for part in (["--lib"], ["--test", "it"])]


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


def suite(copy, name):
    """The tests that fail, or None if none does."""
    environment = {**os.environ, "MUTANT": name, "SCALEFRONT_SHARED": "/nowhere"}
    for command in COMMANDS:
        run = subprocess.run(["timeout", MOST_S, *command], cwd=copy, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            if run.returncode == 124:
                return ["a run that never ends"]
            if "could not compile" in run.stderr:
                sys.exit(run.stderr)
            return sorted(set(re.findall(r"^    ([a-z_0-9:]+)$", run.stdout, re.M))) or ["a crash"]
    return None


def main():
    copy = Path(os.environ.get("MUTANTS_DIR") or tempfile.mkdtemp(prefix="mutants-"))
    shutil.copytree(ROOT, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target", ".git", "results", "corpus", "artifacts"))
    for name, _, file, where, after in FAULTS:
        (copy / file).write_text(switched(name, (copy / file).read_text(), where, after, file))
    lib = copy / "src/lib.rs"
    # What the compiler and the house say of such code does not matter here.
    lib.write_text(lib.read_text().replace("#![forbid(unsafe_code)]", "#![forbid(unsafe_code)]\n#![allow(warnings)]") + SWITCH)
    (copy / "tests/it/tidy.rs").write_text("")
    if failed := suite(copy, ""):
        print(f"without any fault: {', '.join(failed)}")
        sys.exit(2)
    survived = 0
    for name, what, *_ in FAULTS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        failed = suite(copy, name)
        survived += failed is None
        more = f" and {len(failed) - 3} more" if failed and len(failed) > 3 else ""
        print(f"{name}\t{what}\t{'SURVIVED' if failed is None else 'killed by ' + ', '.join(failed[:3]) + more}", flush=True)
    sys.exit(1 if survived else 0)


main()
