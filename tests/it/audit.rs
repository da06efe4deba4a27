//! A replica scheduler that watches another one at work and panics at the first thing that cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use scalefront::hardware::BatchShape;
use scalefront::replica_scheduler::{
    Batch, KvBlocks, ReplicaId, ReplicaScheduler, ReplicaState, Requests, Rule, Slot,
};

pub struct Audit {
    watched: Rule,
    batch_size_cap: u32,
    /// Every batch is formed by asking: progress can be followed token by token.
    stepping: bool,
    /// Finished requests may stay in memory.
    groups: bool,
    /// Blocks are given as tokens need them.
    chunked: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Batches in flight, by replica.
    in_flight: BTreeMap<ReplicaId, Vec<Vec<Slot>>>,
    /// Last known state of each request that was in a batch, by request.
    progress: BTreeMap<u32, Progress>,
    /// What blocks are known by, with their places, that a replica has computed.
    computed: BTreeMap<ReplicaId, BTreeSet<(u64, u32)>>,
}

#[derive(Clone, Copy)]
struct Progress {
    processed_tokens: u32,
    total_tokens: u32,
    restarts: u32,
}

impl Audit {
    pub fn new(watched: Rule, batch_size_cap: u32, stepping: bool, name: &str) -> Self {
        Self {
            watched,
            batch_size_cap,
            stepping,
            groups: name == "faster_transformer",
            chunked: name == "vllm_v1",
            seen: Mutex::default(),
        }
    }
}

/// What each full KV block of a request is known by: the run of hash blocks it is of, or else the request.
/// Nothing of a scheduler that keeps no blocks.
fn blocks_of(replica: &ReplicaState, requests: &Requests, slot: Slot) -> Vec<u64> {
    if replica.vllm_v1.is_none() {
        return Vec::new();
    }
    let (request, block_size) = (&requests[slot], replica.kv.block_size_tokens);
    let prompt = requests.prompt(slot);
    let known_by = |block: u32| {
        let named = prompt.filter(|_| (block + 1) * block_size <= request.original_prefill_tokens).and_then(
            |prompt| {
                let ends_in = ((block + 1) * block_size - 1) / prompt.block_tokens;
                prompt.runs.iter().find(|run| run.end > ends_in).map(|run| u64::from(run.id))
            },
        );
        named.unwrap_or(u64::from(u32::MAX) + 1 + u64::from(request.id))
    };
    (0..request.total_tokens() / block_size).map(known_by).collect()
}

fn slots(batch: &Batch) -> Vec<Slot> {
    batch.entries.iter().map(|&(slot, _)| slot).collect()
}

/// All requests of a replica, each exactly once: queue, waiting list, batches in flight.
fn census(replica: &ReplicaState, more: &[Slot], in_flight: &[Vec<Slot>]) -> BTreeSet<Slot> {
    let all: Vec<Slot> = replica
        .queue
        .iter()
        .chain(&replica.waiting)
        .chain(more)
        .chain(in_flight.iter().flatten())
        .copied()
        .collect();
    let distinct: BTreeSet<Slot> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "a request is in two places at once");
    distinct
}

impl Audit {
    /// Blocks held by the requests in memory and free blocks make up the cache.
    fn check_memory(&self, replica: &ReplicaState, requests: &Requests, in_flight: &[Vec<Slot>]) {
        let in_memory: Vec<Slot> =
            replica.waiting.iter().chain(in_flight.iter().flatten()).copied().collect();
        for &slot in &in_memory {
            assert!(
                !requests[slot].is_completed(),
                "request {} is done and still in memory",
                requests[slot].id
            );
            assert!(requests[slot].blocks > 0, "request {} is in memory without blocks", requests[slot].id);
        }
        let own: u32 =
            in_memory.iter().map(|&slot| requests[slot].blocks - requests[slot].held.named_blocks).sum();
        let held = own + replica.vllm_v1.as_ref().map_or(0, |vllm| vllm.shared_or_leaving_blocks());
        assert!(replica.kv.free <= replica.kv.total, "over-committed: {:?}", replica.kv);
        assert_eq!(
            held + replica.kv.free,
            replica.kv.total,
            "blocks held by {} requests and free blocks",
            in_memory.len()
        );
        if self.groups {
            assert!(replica.allocated as usize >= in_memory.len(), "requests in memory");
        } else {
            assert_eq!(replica.allocated as usize, in_memory.len(), "requests in memory");
        }
        for &slot in replica.queue.iter() {
            assert_eq!(requests[slot].blocks, 0, "request {} is queued and holds blocks", requests[slot].id);
        }
    }

    /// Tokens that a request just admitted finds cached: blocks that its replica has computed before, or
    /// earlier in the same batch.
    fn check_hit(&self, replica: &ReplicaState, requests: &Requests, slot: Slot, seen: &Seen) -> u32 {
        let request = &requests[slot];
        let cached = request.processed_tokens;
        if cached > 0 {
            assert!(cached < request.prefill_tokens, "nothing is left to compute of request {}", request.id);
            assert_eq!(
                cached % replica.kv.block_size_tokens,
                0,
                "request {} progressed outside batches",
                request.id
            );
            let computed = seen.computed.get(&request.replica_id);
            for (block, hash) in
                (0..cached / replica.kv.block_size_tokens).zip(blocks_of(replica, requests, slot))
            {
                let known = computed.is_some_and(|computed| computed.contains(&(hash, block)));
                assert!(
                    known,
                    "request {} finds block {block} that nobody computed: it progressed outside batches",
                    request.id
                );
            }
            assert!(
                blocks_of(replica, requests, slot).len() as u32 >= cached / replica.kv.block_size_tokens,
                "progressed outside batches"
            );
        }
        cached
    }

    fn check_batch(&self, replica: &ReplicaState, requests: &Requests, batch: &Batch, seen: &mut Seen) {
        assert!(batch.len() <= self.batch_size_cap, "{} requests in a batch", batch.len());
        let (mut shape, mut accepted) = (BatchShape::default(), 0);
        for &(slot, tokens) in &batch.entries {
            let request = &requests[slot];
            let id = request.id;
            assert!(
                request.prefill_tokens >= request.original_prefill_tokens,
                "a part of the prompt of request {id} became decode tokens"
            );
            if request.prefill_complete {
                let left = request.total_tokens() - request.processed_tokens;
                let most = if batch.shape.num_drafts > 0 { left } else { 1 };
                assert!(
                    (1..=most).contains(&tokens),
                    "{tokens} of {left} decode tokens of a request in a batch"
                );
                accepted += tokens - 1;
                shape.add_decode(request.processed_tokens);
            } else {
                let left = request.prefill_tokens - request.processed_tokens;
                assert!(
                    (1..=left).contains(&tokens),
                    "{tokens} of {left} prefill tokens of a request in a batch"
                );
                shape.add_prefill(tokens, request.processed_tokens);
            }
            let now = Progress {
                processed_tokens: request.processed_tokens,
                total_tokens: request.total_tokens(),
                restarts: request.restarts,
            };
            if let Some(before) = seen.progress.insert(id, now) {
                assert_eq!(before.total_tokens, now.total_tokens, "length of request {id}");
                let restarted = now.restarts > before.restarts;
                let expected = if restarted {
                    self.check_hit(replica, requests, slot, seen)
                } else {
                    before.processed_tokens
                };
                assert!(
                    now.processed_tokens == expected || !self.stepping,
                    "request {id} progressed outside batches"
                );
                assert!(now.processed_tokens >= expected, "request {id} lost progress");
            } else {
                let cached = self.check_hit(replica, requests, slot, seen);
                assert_eq!(
                    (now.processed_tokens, request.cached_tokens),
                    (cached, cached),
                    "request {id} progressed outside batches"
                );
            }
            let computed = if request.prefill_complete {
                request.processed_tokens
            } else {
                request.processed_tokens + tokens
            };
            let cached =
                if self.chunked { computed } else { request.prefill_tokens.max(request.processed_tokens) };
            let blocks = blocks_of(replica, requests, slot);
            let known = (0..computed / replica.kv.block_size_tokens)
                .filter_map(|block| Some((*blocks.get(block as usize)?, block)));
            seen.computed.entry(request.replica_id).or_default().extend(known);
            assert!(
                request.blocks >= replica.kv.blocks_for(cached),
                "request {id} caches {cached} tokens in {} blocks",
                request.blocks
            );
        }
        // Decodes without an entry: requests that a step scheduled ahead does not know to have ended by their
        // drafts.
        let in_vain = batch.shape.num_decodes.saturating_sub(shape.num_decodes);
        for _ in 0..in_vain {
            shape.add_decode(0);
        }
        if in_vain > 0 {
            shape.decode_cached_tokens = shape.decode_cached_tokens.max(batch.shape.decode_cached_tokens);
        }
        shape.add_drafts(batch.shape.num_drafts);
        assert_eq!(shape, batch.shape, "shape of the batch");
        assert!(accepted <= shape.num_drafts, "{accepted} of {} drafted tokens accepted", shape.num_drafts);
    }
}

impl ReplicaScheduler for Audit {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let Some(&any) = replica.queue.front().or(replica.waiting.first()) else {
            self.watched.form_batch(replica, requests, batch);
            assert!(batch.is_empty(), "a batch of nothing");
            return;
        };
        let replica_id = requests[any].replica_id;
        let seen = &mut *self.seen.lock().unwrap();
        let in_flight = seen.in_flight.entry(replica_id).or_default();
        let before = census(replica, &[], in_flight);

        self.watched.form_batch(replica, requests, batch);

        let mut formed = slots(batch);
        formed.extend(&replica.rejected);
        assert_eq!(before, census(replica, &formed, in_flight), "requests before and after forming a batch");
        if !batch.is_empty() {
            in_flight.push(slots(batch));
        }
        let idle = in_flight.is_empty();
        assert!(
            !idle || replica.queue.is_empty() && replica.waiting.is_empty(),
            "an idle replica lets its requests wait"
        );
        let in_flight = in_flight.clone();
        self.check_batch(replica, requests, batch, seen);
        self.check_memory(replica, requests, &in_flight);
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        let replica_id = requests[batch.entries[0].0].replica_id;
        let seen = &mut *self.seen.lock().unwrap();
        let in_flight = seen.in_flight.get_mut(&replica_id).expect("a batch ends that was formed");
        assert_eq!(in_flight.remove(0), slots(batch), "the batch that ends is the first that was formed");
        let live = requests.len();
        let mut completed = 0;
        let mut unfinished = Vec::new();
        for &(slot, tokens) in &batch.entries {
            let request = &requests[slot];
            let progress = seen.progress.get_mut(&request.id).expect("a request in a batch was seen");
            let ends_prefill = progress.processed_tokens + tokens == request.prefill_tokens;
            let expected = progress.processed_tokens + tokens + u32::from(ends_prefill);
            assert!(
                request.processed_tokens == expected || !self.stepping,
                "progress of request {}",
                request.id
            );
            progress.processed_tokens = request.processed_tokens;
            // Batches that were skipped computed something, too.
            let computed = request.processed_tokens - u32::from(request.prefill_complete);
            let blocks = (0..)
                .zip(blocks_of(replica, requests, slot))
                .take((computed / replica.kv.block_size_tokens) as usize);
            seen.computed
                .entry(replica_id)
                .or_default()
                .extend(blocks.map(|(block, known_by)| (known_by, block)));
            if request.is_completed() {
                completed += 1;
            } else {
                unfinished.push(slot);
            }
        }

        self.watched.end_batch(replica, requests, batch);

        assert_eq!(live - requests.len(), completed, "requests that left with the batch");
        for slot in unfinished {
            assert!(
                replica.waiting.contains(&slot) || replica.queue.iter().any(|&queued| queued == slot),
                "request {} is lost",
                requests[slot].id
            );
        }
        census(replica, &[], in_flight);
        self.check_memory(replica, requests, in_flight);
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.watched.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn limits_queues(&self) -> bool {
        self.watched.limits_queues()
    }

    fn lets_in(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.watched.lets_in(replica, requests)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.watched.would_admit(replica, requests)
    }

    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        self.watched.repeats_decodes(replica, requests)
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        self.watched.skipped_decodes(replica, repeats);
    }

    fn reserves_ahead(&self) -> bool {
        self.watched.reserves_ahead()
    }
}
