//! What the scheduler keeps of a replica between steps.

use super::super::prefix_cache::{BlockedPrompt, Held, Hit, PrefixCache};
use super::super::{KvBlocks, Request, Requests, Slot};
use super::VllmV1;
use super::leaving::{Aside, Leaving, Rank};
use super::offloading::Offloaded;
use crate::workload::PrefixRuns;

#[derive(Debug, Clone, Default)]
pub struct State {
    started: bool,
    /// Blocks that are kept after use, and where free ones are taken from.
    cache: Option<PrefixCache>,
    /// What the host keeps, and how much of it at most: nothing unless asked for.
    offloaded: Offloaded,
    most_offloaded: u32,
    /// Requests that finished with the batch before, in the order they were admitted: a step scheduled ahead
    /// does not know it yet.
    leaving: Vec<Leaving>,
    /// Those in memory that were not in that batch.
    pub(super) left_out: Vec<Slot>,
    pub(super) a_batch_just_ended: bool,
    /// Requests in batches that run, where somebody asks.
    pub(super) in_flight: Vec<Slot>,
    /// How many of the queue, from its front, stand in order of priority.
    pub(super) ranked: usize,
    /// Admissions so far.
    pub(super) admissions: u32,
    /// Steps with something in them, and the latest with a part of a prompt.
    pub(super) steps: u64,
    pub(super) last_prefill_step: Option<u64>,
    /// Whether the latest step that was free to admit left requests waiting.
    pub(super) prefills_wait: bool,
    /// What is handed over between replicas, where anything is.
    pub(super) aside: Option<Box<Aside>>,
    #[cfg(test)]
    pub(super) log: Vec<super::step_log::Scheduled>,
}

/// Whether a request that gives up its blocks will ask for them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returns {
    Yes,
    No,
}

impl State {
    /// Makes a used state as good as new, keeping its memory.
    pub fn reset(&mut self) {
        let Self { cache, leaving, left_out, in_flight, .. } = std::mem::take(self);
        (self.cache, self.leaving, self.left_out, self.in_flight) = (cache, leaving, left_out, in_flight);
        self.in_flight.clear();
        self.leaving.clear();
        self.left_out.clear();
    }

    /// Blocks in use that no request in memory holds to itself.
    pub fn shared_or_leaving_blocks(&self) -> u32 {
        if !self.started {
            return 0;
        }
        let leaving: u32 = self.leaving.iter().map(|one| one.blocks - one.held.named_blocks).sum();
        leaving + self.cache.as_ref().map_or(0, PrefixCache::used_blocks)
    }

    #[inline]
    pub(super) fn start(&mut self, rule: &VllmV1, kv: &mut KvBlocks) {
        if self.started {
            return;
        }
        self.started = true;
        kv.hash_lookahead_tokens = rule.drafting.hash_lookahead;
        self.offloaded.clear();
        self.most_offloaded = rule.tier.map_or(0, |tier| tier.blocks);
        if !rule.prefix_caching {
            self.cache = None;
        } else if let Some(cache) = &mut self.cache {
            cache.renew(kv.free, rule.unhashed_blocks_first);
        } else {
            self.cache = Some(PrefixCache::new(kv.free, rule.unhashed_blocks_first));
        }
    }

    /// Whether it is this replica's, rather than that of one before it.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// Makes the queue of free blocks follow those that were taken since it was last looked at.
    #[inline]
    pub(super) fn settle(&mut self, kv: &KvBlocks) -> Option<&mut PrefixCache> {
        let cache = self.cache.as_mut()?;
        cache.take(cache.free_blocks() - kv.free);
        Some(cache)
    }

    /// Shares the named blocks of a prompt of which `computed` tokens are, or will be with the batch being
    /// formed.
    pub(super) fn share(
        &mut self,
        kv: &KvBlocks,
        prompts: Option<&PrefixRuns>,
        request: &mut Request,
        computed: u32,
    ) {
        let Some(prompts) = prompts else { return };
        let Some(cache) = self.settle(kv) else { return };
        let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv };
        let until = prompt.named().min(kv.full_blocks(computed.min(request.original_prefill_tokens)));
        let held = &mut request.held;
        if held.named_blocks < until {
            cache.share(prompt, held.named_blocks, until, held.admission);
            held.named_blocks = until;
            self.offload(kv, Some(prompts), request, computed);
        }
    }

    /// Copies the named blocks of a prompt to the host, as far as they are computed, or will be with the
    /// batch being formed.
    pub(super) fn offload(
        &mut self,
        kv: &KvBlocks,
        prompts: Option<&PrefixRuns>,
        request: &Request,
        computed: u32,
    ) {
        if self.most_offloaded > 0
            && let Some(prompts) = prompts
        {
            let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv };
            let until = prompt.named().min(kv.full_blocks(computed.min(request.original_prefill_tokens)));
            self.offloaded.offer(request.id, prompt, until, self.most_offloaded);
        }
    }

    /// Frees `blocks` of a request, the last ones first, as far as it computed them with a hash.
    fn free(
        &mut self,
        kv: &mut KvBlocks,
        prompts: Option<&PrefixRuns>,
        (id, blocks): (u32, u32),
        held: &mut Held,
        hashed_tokens: u32,
        returns: Returns,
    ) {
        let Some(cache) = self.settle(kv) else {
            kv.free += blocks;
            return;
        };
        let named = held.named_blocks;
        let hashed = kv.full_blocks(hashed_tokens).clamp(named, blocks);
        cache.free_unhashed(blocks - hashed);
        match returns {
            Returns::Yes => cache.free_own(held, hashed - named),
            Returns::No => cache.free_unfindable(hashed - named),
        }
        let shared = match prompts {
            Some(prompts) if named > 0 => {
                cache.unpin(BlockedPrompt { prompt: prompts.of(id), kv }, named, held.admission)
            }
            _ => 0,
        };
        held.named_blocks = 0;
        kv.free += blocks - named + shared;
    }

    /// Takes a request out of memory that will come back.
    pub(super) fn preempt(
        &mut self,
        kv: &mut KvBlocks,
        requests: &mut Requests,
        slot: Slot,
        hashed_tokens: u32,
    ) {
        let (request, prompts) = requests.with_prompts(slot);
        let mut held = request.held;
        self.free(kv, prompts, (request.id, request.blocks), &mut held, hashed_tokens, Returns::Yes);
        request.blocks = 0;
        request.held = held;
        request.restart();
    }

    /// Remembers what a finished request holds.
    pub(super) fn leave(&mut self, request: &Request) {
        self.leaving.push(Leaving::of(request));
    }

    /// Shares the blocks that an answer has filled, where a later turn's prompt is known to begin with it.
    /// Nobody asks for them earlier.
    fn share_answer(&mut self, kv: &KvBlocks, prompts: Option<&PrefixRuns>, one: &mut Leaving) {
        let Some(prompts) = prompts else { return };
        let prompt = BlockedPrompt { prompt: prompts.of(one.id), kv };
        let goes_on = prompt.prompt.names_more_than(one.prompt_tokens);
        let until = prompt.named().min(kv.full_blocks(one.computed_tokens));
        if goes_on
            && one.held.named_blocks < until
            && let Some(cache) = self.settle(kv)
        {
            cache.share(prompt, one.held.named_blocks, until, one.held.admission);
            one.held.named_blocks = until;
        }
    }

    /// Frees what finished requests hold.
    pub(super) fn let_leave(&mut self, kv: &mut KvBlocks, prompts: Option<&PrefixRuns>) {
        if self.leaving.is_empty() {
            return;
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        for mut one in leaving.drain(..) {
            self.free_leaving(kv, prompts, &mut one);
        }
        self.leaving = leaving;
    }

    pub(super) fn free_leaving(
        &mut self,
        kv: &mut KvBlocks,
        prompts: Option<&PrefixRuns>,
        one: &mut Leaving,
    ) {
        self.share_answer(kv, prompts, one);
        if self.most_offloaded > 0
            && let Some(prompts) = prompts
        {
            let prompt = BlockedPrompt { prompt: prompts.of(one.id), kv };
            self.offloaded.finish(one.id, prompt, prompt.named().min(kv.full_blocks(one.prompt_tokens)));
        }
        self.free(kv, prompts, (one.id, one.blocks), &mut one.held, one.computed_tokens, Returns::No);
    }

    /// Whether nobody leaves, and nobody's KV cache has come from elsewhere.
    pub(super) fn is_idle(&self) -> bool {
        self.leaving.is_empty() && !self.has_arrivals()
    }

    /// Finished requests that a step scheduled ahead takes for running.
    pub(super) fn num_leaving(&self) -> u32 {
        self.leaving.len() as u32
    }

    /// Preempts a finished request if it was admitted after `admission`: a step scheduled ahead knows no
    /// better.
    pub(super) fn preempt_leaving(
        &mut self,
        kv: &mut KvBlocks,
        prompts: Option<&PrefixRuns>,
        admission: u32,
    ) -> Option<u32> {
        let mut one = self.leaving.pop_if(|one| one.held.admission > admission)?;
        self.free(kv, prompts, (one.id, one.blocks), &mut one.held, one.computed_before, Returns::No);
        Some(one.id)
    }

    /// The first finished request admitted before `admission` that a step scheduled ahead goes on with.
    pub(super) fn next_in_vain(&self, admission: u32) -> Option<usize> {
        self.leaving.iter().position(|one| one.goes_on && one.held.admission < admission)
    }

    /// Blocks that such a request needs more, to have so many tokens scheduled.
    pub(super) fn more_blocks_in_vain(&self, place: usize, kv: &KvBlocks, tokens: u32) -> u32 {
        let one = &self.leaving[place];
        kv.blocks_for(one.computed_tokens + one.rejected + tokens).saturating_sub(one.blocks)
    }

    /// Gives it these; returns the tokens it has in the cache.
    pub(super) fn give_in_vain(&mut self, place: usize, blocks: u32) -> u32 {
        let one = &mut self.leaving[place];
        one.blocks += blocks;
        one.goes_on = false;
        one.computed_tokens
    }

    /// Preempts the finished request that stands last, if it comes after `rank`.
    pub(super) fn preempt_leaving_after(
        &mut self,
        kv: &mut KvBlocks,
        prompts: Option<&PrefixRuns>,
        rank: Rank,
    ) -> Option<u32> {
        let by_rank = |one: &usize, other: &usize| {
            self.leaving[*one].rank.partial_cmp(&self.leaving[*other].rank).expect("finite times")
        };
        let last = (0..self.leaving.len()).max_by(by_rank).filter(|&last| self.leaving[last].rank > rank)?;
        let mut one = self.leaving.remove(last);
        self.free(kv, prompts, (one.id, one.blocks), &mut one.held, one.computed_before, Returns::No);
        Some(one.id)
    }

    /// Gives a request what was found of it; returns how many blocks are no longer free.
    pub(super) fn admit(
        &mut self,
        kv: &KvBlocks,
        prompts: Option<&PrefixRuns>,
        request: &mut Request,
        hit: Found,
    ) -> u32 {
        self.admissions += 1;
        request.held.admission = self.admissions;
        if self.most_offloaded > 0
            && let Some(prompts) = prompts
        {
            let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv };
            self.offloaded.admit(request.id, prompt, hit.named.blocks, hit.loaded_blocks);
        }
        let Some(cache) = &mut self.cache else { return 0 };
        let before = cache.free_blocks();
        cache.take_own(&mut request.held, hit.own_blocks);
        if hit.named.blocks > 0
            && let Some(prompts) = prompts
        {
            cache.pin(BlockedPrompt { prompt: prompts.of(request.id), kv }, hit.named.blocks);
        }
        request.held.named_blocks = hit.named.blocks;
        before - cache.free_blocks()
    }
}

/// What is cached of a request that waits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    named: Hit,
    own_blocks: u32,
    /// What comes after that and has to be got from the host.
    pub loaded_blocks: u32,
}

impl Found {
    /// Without what would have to be got from the host.
    pub fn on_device(self) -> Self {
        Self { loaded_blocks: 0, ..self }
    }

    /// Blocks that are on the device.
    pub fn blocks(&self) -> u32 {
        self.named.blocks + self.own_blocks
    }

    /// Blocks that need not be computed.
    pub fn cached_blocks(&self) -> u32 {
        self.blocks() + self.loaded_blocks
    }

    /// Those that are free, and no longer so once the request is admitted.
    pub fn revived(&self) -> u32 {
        self.named.revived + self.own_blocks
    }
}

/// What is cached of a request that waits, up to the block of its last token: that is always computed, to
/// yield the next one.
pub(super) fn hit(state: Option<&State>, kv: &KvBlocks, requests: &Requests, slot: Slot) -> Found {
    let Some(cache) = state.and_then(|state| state.cache.as_ref()) else { return Found::default() };
    let request = &requests[slot];
    let most = kv.full_blocks(request.prefill_tokens - 1);
    let mut found = Found::default();
    if let Some(prompts) = requests.prompts() {
        let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv };
        let named = prompt.named().min(kv.full_blocks(request.original_prefill_tokens));
        found.named = cache.look_up(prompt, named.min(most));
        if found.named.blocks < named {
            if let Some(state) = state.filter(|state| state.most_offloaded > 0) {
                found.loaded_blocks = state.offloaded.look_up(prompt, found.named.blocks, named.min(most));
            }
            return found;
        }
    }
    found.own_blocks = cache.own_blocks(&request.held).min(most - found.named.blocks);
    found
}

/// Tokens of a prompt that are cached under the names of its blocks.
pub(super) fn cached_tokens(
    state: Option<&State>,
    kv: &KvBlocks,
    prompts: Option<&PrefixRuns>,
    id: u32,
    prefill_tokens: u32,
) -> u32 {
    // What a replica before it has left there, it forgets with its first step.
    let cache = state.filter(|state| state.started).and_then(|state| state.cache.as_ref());
    let Some((cache, prompts)) = cache.zip(prompts) else { return 0 };
    let prompt = BlockedPrompt { prompt: prompts.of(id), kv };
    let most = kv.full_blocks(prefill_tokens - 1);
    cache.look_up(prompt, prompt.named().min(most)).blocks * kv.block_size_tokens
}
