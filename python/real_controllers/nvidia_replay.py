"""A trace under NVIDIA's planner in its own simulator, and under the zoo's here, at the same step times. See check_nvidia_replay.sh.

    python nvidia_replay.py SCALEFRONT TRACE.jsonl

The trace is in Mooncake's format. Llama-3.1-70B on H200, four each, eight replicas to begin with, 32 at most, 60 s to start one; targets of
2 s to the first token and 50 ms between tokens; round robin. Prints replica-hours and mean latencies, and fails if hours differ by more than
15 %: the replay is not repeatable (see `findings/`), and moves by half of that from run to run. The planner there is not told which replicas start, and a step of prompts and decodes counts as one of each: `startup_aware` and
`mixed_steps_apart` say so here.
"""

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

logging.disable(logging.CRITICAL)

from dynamo.replay import run_trace_replay  # noqa: E402

SYSTEMS = Path(importlib.util.find_spec("aisimulate_core").origin).parent / "systems"
TABLES_VERSION = "0.24.0"
TOKENS_A_PASS, BLOCKS, BLOCK_TOKENS = 8_192, 65_536, 16


def planner_alone(*_, **__):
    """Nothing is told of the engine before the run: it is learned, as by default here."""
    return []


def replayed(trace, mode):
    import dynamo.replay.planner as bootstrap

    bootstrap._generate_ais_prefill_fpms = bootstrap._generate_ais_decode_fpms = planner_alone
    step_times = {"model": "meta-llama/Meta-Llama-3.1-70B", "system": "h200_sxm", "backend": "vllm", "backend_version": TABLES_VERSION,
                  "worker_type": "aggregated", "tp": 4}
    engine = {"startup_time": 60.0, "engine": {
        "backend": "vllm", "worker_type": "aggregated", "num_gpu_blocks": BLOCKS, "block_size": BLOCK_TOKENS,
        "max_num_batched_tokens": TOKENS_A_PASS, "enable_prefix_caching": True,
        "timing_model": {"type": "external", "provider": "ais", "config": step_times}}}
    planner = {
        "mode": "agg", "optimization_target": "sla", "ttft_ms": 2000.0, "itl_ms": 50.0, "backend": "vllm", "environment": "kubernetes",
        "served_model_name": "model", "max_gpu_budget": 128, "min_endpoint": 1, "load_predictor": "kalman",
        "enable_load_scaling": mode == "load", "enable_throughput_scaling": mode == "throughput",
        "load_adjustment_interval_seconds": 5, "throughput_adjustment_interval_seconds": 180}
    with tempfile.TemporaryDirectory() as reports:
        planner["report_output_dir"] = reports
        summary = run_trace_replay(
            str(trace), extra_engine_args=engine, num_workers=8, router_mode="round_robin", trace_block_size=512, planner_config=planner,
        ).summary
    return summary["gpu_hours"] / 4, summary["mean_e2e_latency_ms"] / 1000


def simulated(program, trace, mode):
    targets = {"ttft_s": 2, "itl_s": 0.05, "max_num_batched_tokens": TOKENS_A_PASS, "startup_aware": False}
    policies = {
        "load": {"dynamo_load": {"optimization_target": "sla"} | targets},
        "throughput": {"dynamo_throughput": {"load_predictor": "kalman"} | targets}}
    grid = {
        "workloads": [{"name": "trace", "trace": {"path": str(trace), "format": "mooncake"}}],
        "cluster": {
            "model": "meta-llama/Meta-Llama-3-70B", "node": "h200_dgx", "node_price_usd_per_hour": 1, "tensor_parallel": 4,
            "max_request_tokens": 131_072, "initial_replicas": 8, "min_replicas": 1, "max_replicas": 32, "scale_up_delay_s": 60,
            "global_scheduler": "round_robin",
            "execution_time": {"aiconfigurator": {
                "systems_dir": str(SYSTEMS), "backend": "vllm", "backend_version": TABLES_VERSION, "mixed_steps_apart": True}},
            "replica_scheduler": {"vllm_v1": {"batch_size_cap": 256, "max_tokens_in_batch": TOKENS_A_PASS, "num_blocks": BLOCKS,
                                              "prefix_caching": True, "async_scheduling": False}},
        },
        "autoscalers": [policies[mode]],
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "grid.json"
        path.write_text(json.dumps(grid))
        subprocess.run([program, "simulate", str(path), "--out", f"{directory}/run", "--quiet"], check=True)
        metrics = json.loads(Path(f"{directory}/run/summary.json").read_text())
        return metrics["replica_hours"], metrics["mean_e2e_s"]


def main():
    program, trace, apart = sys.argv[1], Path(sys.argv[2]).resolve(), []
    print("| planner | there, replica-hours | here | there, mean latency, s | here |\n|---|---|---|---|---|")
    for mode in ("load", "throughput"):
        there, here = replayed(trace, mode), simulated(program, trace, mode)
        print(f"| {mode} | {there[0]:.2f} | {here[0]:.2f} | {there[1]:.2f} | {here[1]:.2f} |", flush=True)
        apart.append(abs(here[0] / there[0] - 1))
    sys.exit("more than 15 % apart" if max(apart) > 0.15 else 0)


main()
