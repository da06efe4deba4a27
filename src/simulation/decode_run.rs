//! Many decode iterations at once.
//!
//! Between two moments at which anything can change on a replica, its iterations differ only in how much
//! cache they read. A run advances them together, adding up the same times in the same order as single steps
//! would, so that nothing but speed tells the two apart. A run may be cut at any boundary between iterations;
//! what could matter (a request that may be admitted, a block that may be missing, a request that finishes)
//! always ends a stretch of it in time.
//!
//! Under load somebody comes or goes every few iterations, and to write each time into all the others what
//! they have done meanwhile would be most of the work. So a run outlives changes of its batch: it knows when
//! each of its requests finishes and needs a block, and only who goes is told how far it has come.

use crate::autoscaler::ForwardPass;
use crate::hardware::{BatchShape, DecodeSteps, ExecutionTime};
use crate::replica_scheduler::{Batch, KvBlocks, ReplicaState, Request, Requests, Slot};

/// The state of a run between two of its iterations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Iterations ended.
    pub iterations: u32,
    /// When the latest of them ended, and when it started.
    pub at_s: f64,
    pub previous_at_s: f64,
    /// Tokens in the cache that the next iteration reads.
    cached_tokens: u64,
    /// Blocks free once the next iteration has got its own.
    free_blocks: u32,
    /// Blocks in use times seconds, over the iterations ended.
    pub kv_block_s: f64,
    /// Not 0 if blocks might not suffice for the next iteration; whoever forms it finds out exactly. A word
    /// like the others: this is copied all the time, and what has gaps is copied slowly.
    starved: u64,
}

/// A batch of decodes that repeats itself, as far as a scheduled event has to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecodeRun {
    /// What has been accounted for.
    pub settled: Progress,
    /// What the scheduled end of the current stretch will find.
    pub ahead: Progress,
    /// That without the last iteration.
    before_last: Progress,
    /// Shape of the first iteration, and what it takes beside attention, as all do.
    shape: BatchShape,
    beside_attention_ms: [f64; 2],
    /// Iterations after which it ends, and those after which a request finishes.
    most_iterations: u32,
    finishes_after: u32,
    /// The latter of each request, in the order of the batch, where requests come and go.
    ends: Vec<u32>,
    /// Blocks that iterations have taken and that its replica knows of, while its requests do not yet; and
    /// those that were free after that.
    known_blocks: u32,
    free_when_known: u32,
    /// Whether the iteration under way is a batch like any other: nothing of it is settled before it ends.
    once: bool,
    /// Iterations the next stretch may have: doubled when one ends undisturbed.
    stretch: u32,
    /// At index i: requests that need a new block in iterations i, i + block size, ...; iteration 0 has its
    /// blocks. Whole numbers, as they are used.
    new_blocks: Vec<f64>,
    /// Whether all blocks were there before the run began.
    reserved: bool,
    total_blocks: u32,
}

/// The first stretch is short: under load an arrival soon cuts it.
const FIRST_STRETCH: u32 = 8;
const LONGEST_STRETCH: u32 = 4096;
/// A run of more iterations begins anew when somebody comes or goes, so that they can be counted.
const LONGEST_RUN: u32 = u32::MAX / 4;

impl DecodeRun {
    /// Starts a run with a batch just formed at `now_s`, which `repeats` at least that often unless something
    /// intervenes. It needs no blocks if all of them are `reserved` already.
    pub fn start(
        &mut self,
        now_s: f64,
        batch: &Batch,
        (replica, requests): (&ReplicaState, &Requests),
        repeats: u32,
        reserved: bool,
        times: &ExecutionTime,
    ) {
        let block_size = if reserved { 1 } else { replica.kv.block_size_tokens };
        self.reserved = reserved;
        self.total_blocks = replica.kv.total;
        self.new_blocks.clear();
        self.new_blocks.resize(block_size as usize, 0.0);
        self.ends.clear();
        self.most_iterations = u32::MAX;
        for &(slot, _) in &batch.entries {
            let request = &requests[slot];
            self.most_iterations =
                self.most_iterations.min(request.total_tokens() - request.processed_tokens);
            if !reserved {
                let place = self.place_of_new_block(0, request);
                self.new_blocks[place] += 1.0;
            }
        }
        self.finishes_after = self.most_iterations;
        self.most_iterations = self.most_iterations.min(repeats.saturating_add(1));
        (self.known_blocks, self.free_when_known) = (0, replica.kv.free);
        self.once = false;
        self.stretch = FIRST_STRETCH;
        self.shape = batch.shape;
        self.beside_attention_ms = times.beside_attention_ms(batch.shape.num_decodes);
        self.settled = Progress {
            iterations: 0,
            at_s: now_s,
            previous_at_s: now_s,
            cached_tokens: batch.shape.decode_cached_tokens,
            free_blocks: replica.kv.free,
            kv_block_s: 0.0,
            starved: 0,
        };
        self.ahead = self.settled;
    }

    /// Takes down when each request of the batch it has been started with finishes, so that they may come and
    /// go.
    pub fn know_ends(&mut self, batch: &Batch, requests: &Requests) {
        let left = |&(slot, _): &(Slot, u32)| requests[slot].total_tokens() - requests[slot].processed_tokens;
        self.ends.extend(batch.entries.iter().map(left));
    }

    /// Whether the run ends where its current stretch does.
    pub fn ends_ahead(&self) -> bool {
        self.ahead.starved != 0 || self.ahead.iterations == self.most_iterations
    }

    /// Whether, where its current stretch ends, requests may come and go, and whoever goes on has the blocks it
    /// needs, so many others included.
    pub fn may_change(&self, others: usize) -> bool {
        self.ahead.starved == 0
            && self.ahead.free_blocks as usize >= others
            && !self.ends.is_empty()
            && self.ahead.iterations < LONGEST_RUN
    }

    /// How many of its requests finish where its current stretch ends.
    pub fn num_finishing(&self) -> usize {
        if self.finishes_after > self.ahead.iterations {
            return 0;
        }
        self.ends.iter().filter(|&&end| end == self.ahead.iterations).count()
    }

    /// Whether the iteration under way is a batch like any other.
    pub fn is_once(&self) -> bool {
        self.once
    }

    /// Tells the replica how many blocks the iterations of its stretch have taken, the last of which is under
    /// way; all others are settled.
    pub fn tell_blocks(&mut self, kv: &mut KvBlocks) {
        self.tell_free(kv, self.settled.free_blocks);
    }

    fn tell_free(&mut self, kv: &mut KvBlocks, free_blocks: u32) {
        let taken = self.free_when_known - free_blocks;
        kv.free -= taken;
        self.known_blocks += taken;
        self.free_when_known = free_blocks;
    }

    /// Forgets what its replica has been told of blocks, which its requests are about to take.
    pub fn forget_blocks(&mut self, kv: &mut KvBlocks) {
        kv.free += std::mem::take(&mut self.known_blocks);
    }

    /// Lets those go that finish with the iteration under way, the last of its stretch, all others of which
    /// are settled: `gone` is told of each, in the order of the batch, once it knows of what it has done
    /// before that iteration.
    pub fn let_finish(
        &mut self,
        entries: &mut Vec<(Slot, u32)>,
        requests: &mut Requests,
        kv: &KvBlocks,
        mut gone: impl FnMut(Slot),
    ) {
        let (now, mut from) = (self.ahead.iterations, 0);
        if self.finishes_after > now {
            return;
        }
        while let Some(further) = self.ends[from..].iter().position(|&end| end == now) {
            from += further;
            self.ends.remove(from);
            let (slot, _) = entries.remove(from);
            self.let_go(&mut requests[slot], kv);
            gone(slot);
        }
        self.finishes_after = self.ends.iter().copied().min().unwrap_or(u32::MAX);
    }

    fn let_go(&mut self, request: &mut Request, kv: &KvBlocks) {
        request.processed_tokens = request.processed_tokens.wrapping_add(self.settled.iterations);
        let blocks = kv.blocks_for(request.processed_tokens).max(request.blocks);
        self.known_blocks -= blocks - request.blocks;
        request.blocks = blocks;
        let place = self.place_of_new_block(self.settled.iterations, request);
        self.new_blocks[place] -= 1.0;
        self.ahead.cached_tokens -= u64::from(request.processed_tokens) + 1;
    }

    /// Takes a request in, from the next iteration on, where the stretch has ended. What it will have
    /// processed is told by the iterations of the run from now on, as of all others.
    pub fn join(&mut self, request: &mut Request) {
        let iterations = self.ahead.iterations;
        let place = self.place_of_new_block(iterations, request);
        self.new_blocks[place] += 1.0;
        let end = iterations + request.total_tokens() - request.processed_tokens;
        self.ends.push(end);
        self.finishes_after = self.finishes_after.min(end);
        self.ahead.cached_tokens += u64::from(request.processed_tokens);
        request.processed_tokens = request.processed_tokens.wrapping_sub(iterations);
    }

    /// Where a request's need of a next block is counted that has processed so many tokens before an
    /// iteration.
    fn place_of_new_block(&self, iteration: u32, request: &Request) -> usize {
        let block_size = self.new_blocks.len() as u32;
        let first = request.blocks * block_size + 1 - request.processed_tokens;
        ((iteration + first) % block_size) as usize
    }

    /// Goes on at `now_s`, where its stretch has ended, as a run begun then with the requests that have stayed
    /// or joined would, and takes the blocks of the next iteration. Returns the shape of its batch.
    pub fn renew(&mut self, now_s: f64, kv: &mut KvBlocks, times: &ExecutionTime) -> BatchShape {
        let number = self.ends.len() as u32;
        if number != self.shape.num_decodes {
            self.beside_attention_ms = times.beside_attention_ms(number);
        }
        let needed = self.new_blocks[self.ahead.iterations as usize % self.new_blocks.len()] as u32;
        kv.free -= needed;
        self.known_blocks += needed;
        self.settled = Progress {
            at_s: now_s,
            previous_at_s: now_s,
            kv_block_s: 0.0,
            free_blocks: kv.free,
            starved: 0,
            ..self.ahead
        };
        self.stretch = FIRST_STRETCH;
        self.shape = BatchShape::default();
        self.shape.add_decodes(number, self.settled.cached_tokens);
        self.shape
    }

    /// Lets a renewed run go on with what others have left of blocks, for so many `repeats` at least.
    pub fn go_on_with(&mut self, free_blocks: u32, repeats: u32) {
        (self.settled.free_blocks, self.free_when_known) = (free_blocks, free_blocks);
        self.most_iterations =
            self.settled.iterations.saturating_add(repeats).saturating_add(1).min(self.finishes_after);
        self.once = false;
        self.ahead = self.settled;
    }

    /// Makes a single iteration of a renewed run, one that ends at `end_s`.
    pub fn go_on_once(&mut self, end_s: f64) {
        let mut ahead = self.settled;
        (ahead.at_s, ahead.iterations) = (end_s, ahead.iterations + 1);
        ahead.cached_tokens += u64::from(self.shape.num_decodes);
        self.take_blocks(&mut ahead);
        [self.ahead, self.before_last] = [ahead, self.settled];
        self.once = true;
    }

    /// Gives the next iteration its blocks; whether they are sure to suffice.
    #[inline(always)]
    fn take_blocks(&self, at: &mut Progress) -> bool {
        let needed = self.new_blocks[at.iterations as usize % self.new_blocks.len()] as u32;
        if at.free_blocks <= needed && !self.reserved {
            at.starved = 1;
            return false;
        }
        at.free_blocks -= needed;
        true
    }

    /// Iterates from `from` as long as iterations end before `until_s`, up to `most` in all, telling `ended`
    /// the start and end of each. Returns how far it came, and how far before the last step.
    fn iterate(
        &self,
        from: Progress,
        times: &ExecutionTime,
        until_s: f64,
        most: u32,
        mut ended: impl FnMut(f64, f64),
    ) -> [Progress; 2] {
        let mut progress = [from; 2];
        let mut goes_on = from.starved == 0;
        while goes_on && progress[0].iterations < most {
            let [at, _] = progress;
            let left = u64::from(most - at.iterations);
            goes_on = match times.decode_steps(&self.shape, at.cached_tokens, self.beside_attention_ms) {
                DecodeSteps::Along(times) => {
                    let steps = times.steps(at.cached_tokens).min(left);
                    self.repeat(
                        &mut progress,
                        steps as u32,
                        until_s,
                        |cached_tokens| times.duration_s(cached_tokens),
                        &mut ended,
                    )
                }
                DecodeSteps::Alike { duration_s, steps } => {
                    self.repeat(&mut progress, steps.min(left) as u32, until_s, |_| duration_s, &mut ended)
                }
            };
        }
        progress
    }

    /// The same for iterations whose times are known by the tokens in the cache; whether all of them were
    /// made.
    #[inline(always)]
    fn repeat(
        &self,
        [progress, before_last]: &mut [Progress; 2],
        steps: u32,
        until_s: f64,
        duration_s: impl Fn(u64) -> f64,
        ended: &mut impl FnMut(f64, f64),
    ) -> bool {
        // In variables of its own, so that no step waits for the memory of the one before.
        let mut at = *progress;
        let mut goes_on = self.hurry(&mut at, steps - 1, until_s, &duration_s, ended);
        while goes_on && at.iterations + 1 < progress.iterations + steps {
            goes_on = self.step(&mut at, &duration_s, until_s, ended);
        }
        *before_last = at;
        goes_on = goes_on && self.step(&mut at, &duration_s, until_s, ended);
        *progress = at;
        goes_on
    }

    /// Makes one step, unless it ends at `until_s` or later; whether another can follow.
    #[inline(always)]
    fn step(
        &self,
        at: &mut Progress,
        duration_s: &impl Fn(u64) -> f64,
        until_s: f64,
        ended: &mut impl FnMut(f64, f64),
    ) -> bool {
        let duration_s = duration_s(at.cached_tokens);
        let end_s = at.at_s + duration_s;
        if end_s >= until_s {
            return false;
        }
        ended(at.at_s, end_s);
        at.kv_block_s += f64::from(self.total_blocks - at.free_blocks) * duration_s;
        at.previous_at_s = at.at_s;
        at.at_s = end_s;
        at.iterations += 1;
        at.cached_tokens += u64::from(self.shape.num_decodes);
        self.take_blocks(at)
    }

    /// The same for up to so many steps, as long as blocks are sure to suffice, on a fast path; false if one
    /// would end too late.
    #[inline(always)]
    fn hurry(
        &self,
        progress: &mut Progress,
        steps: u32,
        until_s: f64,
        duration_s: &impl Fn(u64) -> f64,
        ended: &mut impl FnMut(f64, f64),
    ) -> bool {
        let requests = u64::from(self.shape.num_decodes);
        let period = self.new_blocks.len();
        let sure = if self.reserved {
            steps
        } else {
            // In each period each request needs one.
            let periods = u64::from(progress.free_blocks.saturating_sub(1)) / requests.max(1);
            steps.min((periods * period as u64).min(u32::MAX.into()) as u32)
        };
        let used_before = f64::from(self.total_blocks - progress.free_blocks);
        let Progress { mut at_s, mut previous_at_s, mut cached_tokens, mut kv_block_s, .. } = *progress;
        let (mut used, mut made, mut phase) = (used_before, 0, progress.iterations as usize % period);
        let mut in_time = true;
        while made < sure {
            let duration_s = duration_s(cached_tokens);
            let end_s = at_s + duration_s;
            in_time = end_s < until_s;
            if !in_time {
                break;
            }
            ended(at_s, end_s);
            kv_block_s += used * duration_s;
            previous_at_s = at_s;
            at_s = end_s;
            phase = if phase + 1 == period { 0 } else { phase + 1 };
            used += self.new_blocks[phase];
            cached_tokens += requests;
            made += 1;
        }
        let free_blocks = progress.free_blocks - (used - used_before) as u32;
        let iterations = progress.iterations + made;
        *progress = Progress {
            iterations,
            at_s,
            previous_at_s,
            cached_tokens,
            free_blocks,
            kv_block_s,
            starved: progress.starved,
        };
        in_time
    }

    /// Looks one stretch further; returns when it ends and when its last iteration starts.
    pub fn look_ahead(&mut self, times: &ExecutionTime) -> (f64, f64) {
        let most = self.most_iterations.min(self.settled.iterations.saturating_add(self.stretch));
        [self.ahead, self.before_last] = self.iterate(self.settled, times, f64::INFINITY, most, |_, _| {});
        self.stretch = (self.stretch * 2).min(LONGEST_STRETCH);
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Accounts for the iterations of the stretch that end before `until_s`, telling `ended` the start and
    /// end of each; all but the last `keep` of them at most. Where nobody is told, a stretch that nothing
    /// disturbed is as it was foreseen.
    pub fn settle(
        &mut self,
        times: &ExecutionTime,
        until_s: f64,
        keep: u32,
        ended: Option<impl FnMut(f64, f64)>,
    ) {
        let most = self.ahead.iterations - keep;
        let foreseen =
            [self.ahead, self.before_last].into_iter().find(|progress| progress.iterations == most);
        self.settled = match (ended, foreseen) {
            (None, Some(foreseen)) if until_s == f64::INFINITY => foreseen,
            (None, _) => self.iterate(self.settled, times, until_s, most, |_, _| {})[0],
            (Some(ended), _) => self.iterate(self.settled, times, until_s, most, ended)[0],
        };
    }

    /// Lets a run settled up to now end with the iteration under way; returns when that one ends and starts.
    pub fn cut(&mut self, times: &ExecutionTime) -> (f64, f64) {
        [self.ahead, self.before_last] =
            self.iterate(self.settled, times, f64::INFINITY, self.settled.iterations + 1, |_, _| {});
        self.most_iterations = self.ahead.iterations;
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&self.new_blocks[..])
    }

    /// Requests in the batch of the iteration under way: its tokens.
    pub fn requests(&self) -> u32 {
        self.shape.num_decodes
    }

    /// Where requests come and go: those that are left or have joined, also before the next iteration is formed.
    pub fn num_members(&self) -> usize {
        self.ends.len()
    }

    /// Tokens in the caches as the iteration under way began.
    pub fn cached_tokens(&self) -> u64 {
        self.settled.cached_tokens
    }

    /// The latest iteration accounted for, as its engine reports it.
    pub fn latest_pass(&self) -> ForwardPass {
        let decodes = self.shape.num_decodes;
        ForwardPass {
            decode_requests: decodes,
            decode_kv_tokens: self.settled.cached_tokens - u64::from(decodes),
            duration_s: self.settled.at_s - self.settled.previous_at_s,
            ..ForwardPass::default()
        }
    }

    /// Blocks free during the iteration under way.
    pub fn free_blocks(&self) -> u32 {
        self.settled.free_blocks
    }
}
