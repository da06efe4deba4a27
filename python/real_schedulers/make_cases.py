"""Makes up the cases of tests/data/vllm_scheduler: settings and requests, a few dozen each, drawn from stated seeds. What vLLM does with
them is filled in by `vllm_scheduler.py --write`. Usage: make_cases.py FOLDER"""

import random
import sys
from pathlib import Path

from vllm_scheduler import dump


# Long prompts that are alone at times.
ALONE = [[700, 5, 0], [700, 3, 6], [300, 2, 7], [900, 2, 20], [20, 2, 21]]


def drawn(seed, number, prompts, outputs, last_step, names=0):
    """Requests of random lengths (log-uniform prompts) that come until `last_step`; with `names` they begin with one of so many prefixes."""
    chance = random.Random(seed)
    requests = []
    for place in range(number):
        prompt = round(prompts[0] * (prompts[1] / prompts[0]) ** chance.random())
        row = [prompt, chance.randint(*outputs), chance.randint(0, last_step) if last_step else 0]
        if names:
            shared = chance.randint(1, 3)
            name = chance.randrange(names)
            row.append([*(10 * name + part for part in range(shared)), *(1000 + 10 * place + part for part in range(prompt // 512 + 1 - shared))])
        requests.append(row)
    return sorted(requests, key=lambda row: row[2])


def tight(seed, number=24):
    """A cache of 60 blocks, of which most requests need 5 to 20."""
    return drawn(seed, number, (30, 260), (4, 60), 40)


def case(requests, num_blocks=60, budget=256, max_num_seqs=16, sched=None, priorities=None, **more):
    settings = {"num_blocks": num_blocks, "budget": budget, "max_num_seqs": max_num_seqs, **more}
    if sched:
        settings["sched"] = sched
    return {"settings": settings, "requests": requests} | ({"priorities": priorities} if priorities else {})


def both(cases, name, requests, prefix_caching=False, **more):
    """Synchronous without a prefix cache, asynchronous with one."""
    cases[name] = case(requests, prefix_caching=prefix_caching, **more)
    cases[name + "_async"] = case(requests, **{"async": True}, prefix_caching=True, **more)


def options():
    cases = {}
    for share in (0.05, 0.2):
        both(cases, f"watermark_{share}", tight(1), sched={"watermark": share})
    both(cases, "watermark_first_chunks", tight(2), sched={"watermark": 0.1, "scheduler_reserve_full_isl": False}, budget=64)
    both(cases, "active_3", tight(3), sched={"max_num_active_seqs": 3})
    both(cases, "active_5_watermark", tight(4), sched={"max_num_active_seqs": 5, "watermark": 0.1})
    long = drawn(5, 12, (40, 900), (2, 30), 60)
    both(cases, "threshold_48", long, num_blocks=200, sched={"long_prefill_token_threshold": 48})
    both(cases, "threshold_100_tight", tight(6), budget=128, sched={"long_prefill_token_threshold": 100})
    both(cases, "threshold_alone", ALONE, num_blocks=200, sched={"long_prefill_token_threshold": 64})
    for interval in (2, 5):
        both(cases, f"interval_{interval}", long, num_blocks=200, sched={"prefill_schedule_interval": interval})
    both(cases, "interval_4_tight", tight(7), sched={"prefill_schedule_interval": 4})
    both(cases, "interval_3_few_places", tight(8), max_num_seqs=4, sched={"prefill_schedule_interval": 3})
    few = [[100, 12, 0], [33, 4, 3], [17, 3, 9], [16, 3, 10], [400, 3, 12], [5, 6, 30]]
    both(cases, "interval_6_few", few, num_blocks=200, budget=128, sched={"prefill_schedule_interval": 6})
    named = drawn(9, 20, (600, 4000), (3, 12), 40, names=4)
    for field, value in (("watermark", 0.1), ("long_prefill_token_threshold", 700), ("prefill_schedule_interval", 3)):
        name = {"long_prefill_token_threshold": "threshold", "prefill_schedule_interval": "interval"}.get(field, field)
        both(cases, f"{name}_named", named, num_blocks=40, block_size=256, budget=2048, sched={field: value})
    # A prompt of which all but the last token is cached counts as no prefill.
    whole = [[513, 30, 0, [1, 2]], [513, 4, 4, [1, 2]], [513, 4, 9, [1, 2]], [600, 4, 11, [1, 3]], [1025, 4, 14, [1, 2, 4]], [1025, 4, 22, [1, 2, 4]]]
    both(cases, "interval_whole", whole, num_blocks=30, block_size=256, budget=2048, prefix_caching=True, sched={"prefill_schedule_interval": 5})
    for seed, sched in {10: {}, 11: {"watermark": 0.1}, 12: {"long_prefill_token_threshold": 40}, 13: {"prefill_schedule_interval": 3}}.items():
        chance = random.Random(seed)
        requests = tight(seed)
        priorities = [chance.randint(-1, 2) for _ in requests]
        name = "priority" + "".join("_" + field.split("_")[0] for field in sched)
        both(cases, name, requests, sched={"policy": "priority"} | sched, priorities=priorities)
    chance = random.Random(14)
    priorities = [chance.randint(0, 3) for _ in range(16)]
    requests = drawn(14, 16, (100, 1200), (10, 120), 80)
    both(cases, "priority_long", requests, num_blocks=100, sched={"policy": "priority"}, priorities=priorities)
    both(cases, "queued_reqs_8", tight(15, 40), sched={"max_num_queued_reqs": 8})
    both(cases, "queued_tokens_600", tight(16, 40), sched={"max_num_queued_tokens": 600})
    both(cases, "queued_both", tight(17, 40), sched={"max_num_queued_reqs": 10, "max_num_queued_tokens": 500})
    return cases


def speculative():
    cases = {}
    loose = drawn(20, 10, (20, 300), (5, 40), 20)
    for method in ("ngram", "draft_model", "eagle"):
        for drafts, rate in ((3, 0.0), (3, 1.0), (4, 0.6)):
            sched = {"speculative": {"method": method, "num_speculative_tokens": drafts, "acceptance_rate": rate}}
            name = f"{method}_{drafts}_{rate}"
            both(cases, name, loose, num_blocks=200, budget=200, sched=sched)
        sched = {"speculative": {"method": method, "num_speculative_tokens": 3, "acceptance_rate": 0.7}}
        both(cases, f"{method}_tight", tight(21), num_blocks=60, sched=sched)
        both(cases, f"{method}_small_budget", drawn(22, 12, (5, 90), (5, 40), 10), num_blocks=200, budget=30, max_num_seqs=12, sched=sched)
        named = drawn(24, 20, (600, 4000), (3, 40), 60, names=4)
        both(cases, f"{method}_named", named, num_blocks=60, block_size=256, budget=2048, prefix_caching=True, sched=sched)
        priorities = [place % 3 for place in range(24)]
        cases[f"{method}_priority"] = case(tight(25), prefix_caching=True, sched=sched | {"policy": "priority"}, priorities=priorities)
        cases[f"{method}_cached"] = case(tight(23), prefix_caching=True, sched=sched)
    return cases


def offloading():
    """One request after the other: what is copied back holds up nobody else."""
    cases = {}
    for seed, tier_blocks in ((40, 12), (41, 24), (42, 60), (43, 12), (44, 24), (45, 36), (46, 60), (47, 100)):
        chance = random.Random(seed)
        requests = []
        for place in range(30):
            name, shared, own = chance.randrange(6), chance.randint(1, 4), chance.choice([1, 100, 513, 700])
            ids = [*(10 * name + part for part in range(shared)), 1000 + 10 * place, 1001 + 10 * place]
            requests.append([shared * 512 + own, chance.randint(1, 4), 12 * place, ids])
        settings = {"num_blocks": 12, "block_size": 256, "budget": 8192, "prefix_caching": True}
        both(cases, f"tier_{tier_blocks}_{seed}", requests, **settings, sched={"offloaded_blocks": tier_blocks})
    return cases


def versions():
    """What the versions do otherwise, and what they do alike."""
    cases = {}
    both(cases, "tight", tight(30))
    both(cases, "tight_small_budget", tight(31), budget=64)
    both(cases, "long_prompts", drawn(32, 12, (100, 900), (10, 80), 60), num_blocks=120)
    both(cases, "few_places", tight(33), max_num_seqs=4)
    both(cases, "threshold", drawn(34, 10, (40, 900), (2, 30), 60), num_blocks=200, sched={"long_prefill_token_threshold": 48})
    both(cases, "threshold_alone", ALONE, num_blocks=200, sched={"long_prefill_token_threshold": 64})
    both(cases, "named", drawn(35, 24, (600, 4000), (3, 40), 60, names=4), num_blocks=40, block_size=256, budget=2048, prefix_caching=True)
    chance = random.Random(36)
    both(cases, "priority", tight(36), sched={"policy": "priority"}, priorities=[chance.randint(0, 3) for _ in range(24)])
    return cases


def main():
    folder = Path(sys.argv[1])
    for name, version, cases in [
        ("options_0.33.0.json", "0.33.0", options()),
        ("speculative_0.33.0.json", "0.33.0", speculative()),
        ("offloading_0.33.0.json", "0.33.0", offloading()),
        *((f"versions_{version}.json", version, versions()) for version in ("0.33.0", "0.22.1", "0.18.1")),
    ]:
        (folder / name).write_text(dump({"vllm": version, "cases": cases}))


if __name__ == "__main__":
    main()
