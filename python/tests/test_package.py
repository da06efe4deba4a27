"""The package beside the command: `python -m unittest discover python/tests`, with polars installed and SCALEFRONT=path of the program."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

import scalefront  # noqa: E402

GRID = {
    "name": "small",
    "workloads": [
        {
            "name": "w",
            "generate": {
                "arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 10}]}},
                "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}},
            },
        }
    ],
    "seeds": [1, 2],
    "autoscalers": [{"static": {"replicas": [1, 2]}}, "inferline"],
}
needs_polars = unittest.skipUnless(find_spec("polars"), "polars is not installed")


class Package(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory.name)

    def test_a_policy_does_without_the_package(self):
        # A sweep starts a policy's program once a worker: what the package needs besides would be read each time.
        asked = "import sys, scalefront.policy; print([name for name in sys.modules if name.startswith('scalefront')])"
        command = [sys.executable, "-c", asked]
        told = subprocess.run(command, cwd=ROOT / "python", check=True, capture_output=True, text=True).stdout
        self.assertEqual(told.strip(), "['scalefront', 'scalefront.policy']")
        self.assertTrue(all(name in dir(scalefront) and getattr(scalefront, name) for name in scalefront.__all__))
        with self.assertRaises(AttributeError):
            scalefront.nothing

    def test_a_sweep_is_the_commands_to_the_byte(self):
        Path("small.json").write_text(json.dumps(GRID))
        subprocess.run([scalefront.find_program(), "sweep", "small.json", "--quiet", "--out", "by_command"], check=True)
        for name, grid in (("by_file", "small.json"), ("by_dict", GRID)):
            results = scalefront.sweep(grid, out=name, quiet=True)
            for table in ("runs.parquet", "fronts.parquet", "hypervolume.csv"):
                self.assertEqual((results.path / table).read_bytes(), Path("by_command", table).read_bytes(), (name, table))

    def test_results_are_named_as_the_command_names_them(self):
        Path("other.json").write_text(json.dumps({key: value for key, value in GRID.items() if key != "name"}))
        self.assertEqual(scalefront.sweep("other.json", quiet=True).path, Path("results/other"))
        self.assertEqual(scalefront.open_results("results/other").manifest["name"], "other")

    @needs_polars
    def test_tables_are_frames(self):
        results = scalefront.sweep(GRID, quiet=True)
        self.assertEqual(results.runs.height, 6)
        self.assertIn("hv_exact", results.hypervolume.columns)
        one = scalefront.simulate(GRID | {"name": "one", "seeds": [1], "autoscalers": ["inferline"]})
        self.assertEqual(one.requests.height, one.summary["num_requests"])

    def test_a_verdict_is_what_keeps_the_constraints(self):
        self.assertEqual(scalefront.sweep(GRID, quiet=True).verdict, [])
        limited = scalefront.sweep(GRID | {"name": "limited", "objectives": {"constraints": {"p99_e2e_s": 1000}}}, quiet=True)
        self.assertTrue(limited.verdict[0]["kept"], limited.verdict)

    def test_a_recommendation_is_the_commands(self):
        found = scalefront.recommend(GRID, {"p90_e2e_s": 1000.0}, quiet=True)
        self.assertEqual(found.path, Path("results/small_recommended"))
        self.assertTrue(found.kept and found.setting["family"] == "static", found.answer)
        self.assertIn("a month", found.verdict)
        self.assertGreater(found.cost_usd_per_month, 0)
        self.assertEqual([limit["metric"] for limit in found.answer["constraints"]], ["p90_e2e_s"])
        nothing = scalefront.recommend(GRID, {"p90_e2e_s": 0.001}, out="none", quiet=True)
        self.assertEqual((nothing.kept, nothing.setting), (False, None), nothing.answer)
        with self.assertRaisesRegex(scalefront.GridError, "limit"):
            scalefront.recommend(GRID, quiet=True)
        with self.assertRaisesRegex(scalefront.GridError, "nowhere"):
            scalefront.recommend(GRID, {"p90_e2e_s": 1}, workloads=["nowhere"], out="other", quiet=True)

    def test_a_wrong_grid_is_told_with_its_field(self):
        with self.assertRaisesRegex(scalefront.GridError, r"seeds: .*expected"):
            scalefront.sweep(GRID | {"seeds": "x"}, quiet=True)
        with self.assertRaisesRegex(scalefront.GridError, "needs one"):
            scalefront.sweep({key: value for key, value in GRID.items() if key != "name"})
        with self.assertRaisesRegex(scalefront.GridError, "no such file"):
            scalefront.sweep("absent.json", quiet=True)

    def test_failed_runs_are_a_warning(self):
        wrong = {"label": "wrong", "external": {"command": [sys.executable, "-c", "raise SystemExit('out of ideas')"]}}
        with self.assertWarnsRegex(UserWarning, "some runs failed"):
            scalefront.sweep(GRID | {"autoscalers": [wrong, {"static": {"replicas": 2}}]}, quiet=True)

    def test_an_interrupt_reaches_the_program_and_the_caller(self):
        endless = {**GRID, "seeds": list(range(500))}
        endless["workloads"][0]["generate"]["arrivals"]["poisson"]["phases"][0]["duration_s"] = 20_000
        script = textwrap.dedent(
            f"""
            import sys; sys.path.insert(0, {str(ROOT / "python")!r})
            import scalefront
            try:
                scalefront.sweep({endless!r}, quiet=True)
            except KeyboardInterrupt:
                print("interrupted"); raise SystemExit(7)
            """
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, said.strip()), (7, "interrupted"))

    @needs_polars
    def test_the_notebook_runs_from_top_to_bottom(self):
        for directory in ("sweeps", "python"):
            os.symlink(ROOT / directory, directory)
        cells = json.loads((ROOT / "python" / "lab.ipynb").read_text())["cells"]
        names = {}
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        families = names["both"].hypervolume["family"].to_list()
        self.assertTrue(any(family.startswith("mine / ") for family in families), families)


if __name__ == "__main__":
    unittest.main()
