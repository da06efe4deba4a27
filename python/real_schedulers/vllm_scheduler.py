"""vLLM's own scheduler, KV cache manager and block pool, unmodified, driven step by step without a GPU or a model.

Usage: vllm_scheduler.py SOURCE VERSION CASES...: for each file of cases, what that version (its unpacked source archive) does with each of them
is written beside what the file says; exits with 1 if a row differs. `--write` writes it into the files instead.

Each step gets one token for each request that reaches the end of what it knows, and as many more as of its drafts are accepted; outputs
end by their length only. Asynchronous: at most two steps in flight, a new one scheduled before the results of the one before are known, as
the engine core does. Rows: see tests/data/README.md.
"""

import inspect
import json
import os
import sys
from importlib.machinery import PathFinder
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace

import inert
import tier

HASH_TOKENS = 512
# Parts of vLLM that run models; the server's door imports them.
LEFT_OUT = ("vllm.ir", "vllm.v1.executor")
# Longer cases are told by rows alone.
MOST_STEPS = 12
MASK = (1 << 64) - 1


def is_absent(name, known={}):
    """Whether a module has to be stood in for: no package of that name is installed, or it is one of vLLM's that is compiled or left out."""
    top = name.partition(".")[0]
    if top == "vllm":
        if name in LEFT_OUT or any(name.startswith(part + ".") for part in LEFT_OUT):
            return True
        *package, last = name.split(".")
        folder = Path(SOURCE, *package)
        return not (folder / last).is_dir() and not (folder / (last + ".py")).is_file()
    if top not in known:
        known[top] = top not in sys.stdlib_module_names and PathFinder.find_spec(top) is None
    return known[top]


class Lenient(SimpleNamespace):
    """A part of a configuration; what is not said is off."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def draw(of):
    """A number in [0, 1) that goes with another: SplitMix64's output for it, as Scalefront draws."""
    bits = (of + 1) * 0x9E3779B97F4A7C15 & MASK
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
    return ((bits ^ bits >> 31) >> 11) / (1 << 53)


def accepted(rate, drafts, request, known_tokens):
    """How many of the first drafts for a request that knows so many tokens are accepted, each with `rate` if all before it were."""
    drawn, number, chance = draw(request << 32 | known_tokens), 0, rate
    while number < drafts and drawn < chance:
        number, chance = number + 1, chance * rate
    return number


class Driver:
    def __init__(self, case):
        from vllm.config.scheduler import SchedulerConfig
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import init_none_hash
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.core.sched.scheduler import Scheduler

        self.case, settings = case, case["settings"]
        self.block_size = settings.get("block_size", 16)
        self.is_async = settings.get("async", False)
        self.caching = settings.get("prefix_caching", False)
        further = dict(settings.get("sched", {}))
        self.speculative = further.pop("speculative", None)
        self.tier_blocks = further.pop("offloaded_blocks", None)
        self.worker = tier.Worker() if self.tier_blocks else None
        scheduler_config = SchedulerConfig(
            max_num_batched_tokens=settings["budget"],
            max_num_seqs=settings["max_num_seqs"],
            max_model_len=1 << 20,
            is_encoder_decoder=False,
            enable_chunked_prefill=True,
            async_scheduling=self.is_async,
            **further,
        )
        config, kv_cache_config = self.vllm_config(scheduler_config), self.kv_cache_config(settings["num_blocks"] + 1)
        if self.tier_blocks:
            from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

            KVConnectorFactory.create_connector = lambda *_, **__: tier.connector(config, kv_cache_config, self.tier_blocks)
        self.scheduler = (AsyncScheduler if self.is_async else Scheduler)(
            vllm_config=config,
            kv_cache_config=kv_cache_config,
            structured_output_manager=Lenient(
                accept_tokens=lambda *_: True, should_advance=lambda _: False, validate_tokens=lambda _, tokens: tokens
            ),
            block_size=self.block_size,
        )
        # Once: earlier versions draw what the hashes start from.
        init_none_hash(sha256)
        self.pool = self.scheduler.kv_cache_manager.block_pool
        self.num_blocks = settings["num_blocks"]
        self.log_preemptions()
        self.door = Door(scheduler_config)
        self.next_token = 1 << 40
        self.requests = [self.request(number, row) for number, row in enumerate(case["requests"])]
        self.numbers = {request.request_id: number for number, request in enumerate(self.requests)}
        # Requests that were admitted; that have sampled since they last were; that were preempted and not admitted again.
        self.admitted, self.decoding, self.gone = set(), set(), set()
        self.steps, self.refused, self.readmissions = [], [], []
        self.cached = [0] * len(self.requests)

    def vllm_config(self, scheduler_config):
        from vllm.config import VllmConfig

        config = Lenient(
            scheduler_config=scheduler_config,
            cache_config=Lenient(num_gpu_blocks=self.num_blocks_in_all(), enable_prefix_caching=self.caching, block_size=self.block_size),
            model_config=Lenient(
                max_model_len=1 << 20, runner_type="generate", is_multimodal_model=False, is_encoder_decoder=False, supports_multimodal_inputs=False
            ),
            parallel_config=Lenient(
                pipeline_parallel_size=1,
                data_parallel_size=1,
                data_parallel_rank=0,
                data_parallel_index=0,
                decode_context_parallel_size=1,
                prefill_context_parallel_size=1,
                world_size=1,
            ),
            observability_config=Lenient(kv_cache_metrics=False, per_request_spec_decode_metrics="none"),
            aux_output_config=Lenient(enabled=False),
            ec_manager_config=Lenient(get_encoder_cache_manager_obj=lambda: None),
            speculative_config=self.speculative_config(),
            kv_transfer_config=Lenient(kv_load_failure_policy="recompute", is_kv_consumer=True, is_kv_producer=True) if self.tier_blocks else None,
            use_v2_model_runner=True,
            max_concurrent_batches=2 if self.is_async else 1,
        )
        # What vLLM derives from these, it derives itself.
        derived = ("num_speculative_tokens", "num_lookahead_tokens", "num_prefill_lookahead_tokens", "num_hash_lookahead_tokens")
        for name in (*derived, "max_in_flight_tokens"):
            if isinstance(rule := inspect.getattr_static(VllmConfig, name, None), property):
                setattr(config, name, rule.fget(config))
        return config

    def num_blocks_in_all(self):
        # One of them is vLLM's null block.
        return self.case["settings"]["num_blocks"] + 1

    def speculative_config(self):
        if self.speculative is None:
            return None
        from vllm.config.speculative import SpeculativeConfig

        config = object.__new__(SpeculativeConfig)
        said = {"method": self.speculative["method"], "num_speculative_tokens": self.speculative["num_speculative_tokens"]}
        off = ("parallel_drafting", "disable_eagle_block_drop", "disable_lookahead_block_hashes")
        unsaid = ("num_speculative_tokens_per_batch_size", "draft_model_config", "target_model_config")
        for name, value in [*said.items(), *((name, False) for name in off), *((name, None) for name in unsaid)]:
            object.__setattr__(config, name, value)
        return config

    def kv_cache_config(self, num_blocks):
        import torch
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        spec = FullAttentionSpec(block_size=self.block_size, num_kv_heads=1, head_size=1, dtype=torch.float16)
        return KVCacheConfig(num_blocks=num_blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])

    def log_preemptions(self):
        preempt, self.preempted = self.scheduler._preempt_request, []

        def log(request, *args, **kwargs):
            self.preempted.append(self.numbers[request.request_id])
            return preempt(request, *args, **kwargs)

        self.scheduler._preempt_request = log

    def new_tokens(self, number):
        first, self.next_token = self.next_token, self.next_token + number
        return list(range(first, self.next_token))

    def request(self, number, row):
        from vllm.sampling_params import SamplingParams
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher
        from vllm.v1.request import Request

        prompt_tokens, output_tokens, first_step, *ids = row
        tokens = [token for name in (ids[0] if ids else []) for token in range(name * HASH_TOKENS, (name + 1) * HASH_TOKENS)][:prompt_tokens]
        tokens += self.new_tokens(prompt_tokens - len(tokens))
        lookahead = getattr(self.scheduler, "num_hash_lookahead_tokens", 0)
        hasher = get_request_block_hasher(self.block_size, sha256, *([lookahead] if lookahead else [])) if self.caching else None
        priority = self.case.get("priorities", [0] * (number + 1))[number]
        return Request(
            request_id=f"{number:06}",
            prompt_token_ids=tokens,
            sampling_params=SamplingParams(max_tokens=output_tokens, ignore_eos=True),
            pooling_params=None,
            # Those that appear at one step came in order; vLLM's priorities are the other way round than a workload's.
            arrival_time=first_step + number * 1e-6,
            priority=-priority,
            block_hasher=hasher,
        )

    def run(self):
        arrivals = sorted(range(len(self.requests)), key=lambda number: (self.case["requests"][number][2], number))
        in_flight, step = [], 0
        while arrivals or in_flight or self.scheduler.has_requests():
            # As the engine core, it is not idle before it has told that the last ones ended.
            if not in_flight and not self.scheduler.has_requests():
                step = max(step, self.case["requests"][arrivals[0]][2])
            while arrivals and self.case["requests"][arrivals[0]][2] <= step:
                self.arrive(arrivals.pop(0))
            if self.scheduler.has_requests():
                in_flight.append(self.schedule(step))
                step += 1
                if self.is_async and len(in_flight) < 2 and (in_flight[-1][0].num_scheduled_tokens or self.scheduler.has_requests()):
                    continue
            # Whoever comes while a step runs finds its results not there yet.
            while arrivals and in_flight and self.case["requests"][arrivals[0]][2] <= step:
                self.arrive(arrivals.pop(0))
            if in_flight:
                self.finish_step(*in_flight.pop(0))
            assert step < 1_000_000, "it does not end"
        assert self.pool.get_num_free_blocks() == self.num_blocks, "blocks in use at the end"

    def arrive(self, number):
        request = self.requests[number]
        if self.door.lets_in(request):
            self.scheduler.add_request(request)
        else:
            self.refused.append(number)

    def schedule(self, step):
        self.preempted.clear()
        output = self.scheduler.schedule()
        entries, prefill_tokens, decode_tokens, sampling, admitted = [], 0, 0, [], set()
        self.decoding -= set(self.preempted)
        for name, tokens in output.num_scheduled_tokens.items():
            number, request = self.numbers[name], self.requests[self.numbers[name]]
            before = request.num_computed_tokens - tokens
            if number in self.decoding:
                decode_tokens += tokens
            else:
                prefill_tokens += tokens
            if number in self.gone or number not in self.admitted:
                admitted.add(name)
            if number in self.gone:
                self.gone.discard(number)
                self.readmissions.append([step, number, before, tokens])
            elif number not in self.admitted:
                self.cached[number] = before
            self.admitted.add(number)
            if not request.is_prefill_chunk:
                self.decoding.add(number)
                sampling.append(name)
            entries.append([number, before, tokens])
        self.gone |= set(self.preempted)
        used = self.num_blocks - self.pool.get_num_free_blocks()
        if entries or self.preempted:
            self.steps.append([step, entries, list(self.preempted), used, prefill_tokens, decode_tokens])
        return output, sampling, admitted, self.steps[-1] if entries else None

    def finish_step(self, output, sampling, admitted, row):
        """Gives each request that reached the end of what it knows its tokens."""
        from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput

        names = list(output.num_scheduled_tokens)
        if names and not row[2] and all(self.requests[self.numbers[name]].is_finished() for name in names):
            # Scheduled ahead, for nobody but requests that had ended by their drafts.
            self.steps.remove(row)
        sampled = []
        for name in names:
            if name not in sampling:
                sampled.append([])
                continue
            # Beside a request that was just admitted stand no drafts, but places to fill the step up.
            drafts = 0 if name in admitted else len(output.scheduled_spec_decode_tokens.get(name, ()))
            number = self.numbers[name]
            more = accepted(self.speculative["acceptance_rate"], drafts, number, self.requests[number].num_tokens) if drafts else 0
            sampled.append(self.new_tokens(1 + more))
        given = {
            "req_ids": names,
            "req_id_to_index": {name: place for place, name in enumerate(names)},
            "sampled_token_ids": sampled,
            "logprobs": None,
            "prompt_logprobs_dict": {},
            "pooler_output": [],
        }
        if self.worker:
            given["kv_connector_output"] = self.worker.step(output.kv_connector_metadata)
        self.scheduler.update_from_output(output, ModelRunnerOutput(**given))
        for name, tokens in zip(names, sampled):
            request = self.requests[self.numbers[name]]
            self.door.has_output(request, bool(tokens))
        if self.speculative and not self.is_async:
            drafts = [[0] * self.speculative["num_speculative_tokens"] for _ in names]
            self.scheduler.update_draft_token_ids(DraftTokenIds(names, drafts))

    def rows(self):
        """Run-length coded."""
        rows = []
        for _, entries, preempted, used, prefill_tokens, decode_tokens in self.steps:
            row = [len(entries), prefill_tokens, decode_tokens, len(preempted), used]
            if rows and rows[-1][1:] == row:
                rows[-1][0] += 1
            else:
                rows.append([1, *row])
        return rows

    def outcome(self):
        outcome = {
            "rows": self.rows(),
            "restarts": [request.num_preemptions for request in self.requests],
            "cached_at_first_admission": self.cached,
        }
        if self.readmissions:
            outcome["readmissions"] = self.readmissions
        if self.refused:
            outcome["refused"] = self.refused
        if not self.speculative:
            outcome["steps"] = [step[:4] for step in self.steps]
        return outcome


class Door:
    """The server's limits on what may wait: its own function, asked with requests that have not ended, and prompt tokens of those that have no
    output yet."""

    def __init__(self, config):
        self.config, self.unfinished, self.prefilling = config, set(), {}
        self.is_open = getattr(config, "max_num_queued_reqs", None) is None and getattr(config, "max_num_queued_tokens", None) is None

    def lets_in(self, request):
        if self.is_open:
            return True
        from vllm.v1.engine.async_llm import AsyncLLM

        server = Lenient(
            scheduler_config=self.config,
            get_num_unfinished_requests=lambda: len(self.unfinished),
            get_num_queued_tokens=lambda: sum(self.prefilling.values()),
            _record_admission_rejection=lambda reason: None,
        )
        try:
            AsyncLLM.check_admission(server, 1, request.request_id)
        except Exception as error:
            assert type(error).__name__ in ("QueueOverflowError", "MaxQueuedTokensError"), error
            return False
        self.unfinished.add(request.request_id)
        self.prefilling[request.request_id] = request.num_prompt_tokens
        return True

    def has_output(self, request, has_tokens):
        if has_tokens:
            self.prefilling.pop(request.request_id, None)
        if request.is_finished():
            self.unfinished.discard(request.request_id)


def dump(cases):
    """One case a few lines."""
    parts = []
    for name, case in cases["cases"].items():
        fields = ",\n".join(f"   {json.dumps(field)}: {json.dumps(value)}" for field, value in case.items())
        parts.append(f'  {json.dumps(name)}: {{\n{fields}\n  }}')
    rest = "".join(f" {json.dumps(field)}: {json.dumps(value)},\n" for field, value in cases.items() if field != "cases")
    return "{\n" + rest + ' "cases": {\n' + ",\n".join(parts) + "\n }\n}\n"


def main():
    arguments = [argument for argument in sys.argv[3:] if argument != "--write"]
    failed = 0
    for path in arguments:
        with open(path) as file:
            cases = json.load(file)
        for name, case in cases["cases"].items():
            driver = Driver(case)
            driver.run()
            outcome = driver.outcome()
            if "--write" in sys.argv:
                kept = {field: case[field] for field in ("settings", "requests", "priorities") if field in case}
                if len(outcome.get("steps", ())) > MOST_STEPS:
                    del outcome["steps"]
                cases["cases"][name] = kept | outcome
                continue
            for field in ("rows", "restarts", "cached_at_first_admission", "readmissions", "steps", "refused"):
                if field in case and case[field] != outcome.get(field):
                    failed += 1
                    pairs = zip_longest(case[field], outcome.get(field, []))
                    print(f"{path}: {name}: {field} differs:", next(pair for pair in pairs if pair[0] != pair[1]))
                    break
        if "--write" in sys.argv:
            with open(path, "w") as file:
                file.write(dump(cases))
        print(f"{path}: {len(cases['cases'])} cases run on vLLM {sys.argv[2]}")
    if failed:
        sys.exit(f"{failed} cases differ")


if __name__ == "__main__":
    SOURCE = sys.argv[1]
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    inert.install(is_absent)
    sys.path.insert(0, SOURCE)
    main()
