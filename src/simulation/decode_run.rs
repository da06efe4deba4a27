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

mod foreseen;
mod iterations;

use self::foreseen::{Foreseen, MOST_FORESEEN, Point};
use self::iterations::Each;
use crate::autoscaler::ForwardPass;
use crate::hardware::{BatchShape, ExecutionTime};
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

impl Progress {
    /// What is to be written down of it.
    #[inline]
    fn point(&self, total_blocks: u32) -> Point {
        let used_blocks = f64::from(total_blocks - self.free_blocks);
        Point { at_s: self.at_s, kv_block_s: self.kv_block_s, used_blocks }
    }
}

/// A batch of decodes that repeats itself, as far as a scheduled event has to know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecodeRun {
    /// What has been accounted for.
    pub settled: Progress,
    /// What the scheduled end of the current stretch will find.
    pub ahead: Progress,
    /// What the iterations before that come to.
    foreseen: Foreseen,
    /// What all iterations have in common.
    each: Each,
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
}

/// The first stretch is short: under load an arrival soon cuts it.
const FIRST_STRETCH: u32 = 16;
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
        self.each.reserved = reserved;
        self.each.total_blocks = replica.kv.total;
        self.each.new_blocks.clear();
        self.each.new_blocks.resize(block_size as usize, 0.0);
        self.ends.clear();
        self.most_iterations = u32::MAX;
        for &(slot, _) in &batch.entries {
            let request = &requests[slot];
            self.most_iterations =
                self.most_iterations.min(request.total_tokens() - request.processed_tokens);
            if !reserved {
                let place = self.place_of_new_block(0, request);
                self.each.new_blocks[place] += 1.0;
            }
        }
        self.finishes_after = self.most_iterations;
        self.most_iterations = self.most_iterations.min(repeats.saturating_add(1));
        (self.known_blocks, self.free_when_known) = (0, replica.kv.free);
        self.once = false;
        self.stretch = FIRST_STRETCH;
        self.each.shape = batch.shape;
        self.each.beside_attention_ms = times.beside_attention_ms(batch.shape.num_decodes);
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
        self.foreseen.forget();
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

    /// Whether a request finishes where its current stretch ends; whether all do.
    pub fn any_finishes(&self) -> bool {
        self.finishes_after <= self.ahead.iterations
    }

    pub fn all_finish(&self) -> bool {
        self.any_finishes() && self.ends.iter().all(|&end| end == self.ahead.iterations)
    }

    /// Whether the iteration under way is a batch like any other.
    pub fn is_once(&self) -> bool {
        self.once
    }

    /// Tells the replica how many blocks the settled iterations of its stretch have taken, and the one under way.
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
        let now = self.ahead.iterations;
        if self.finishes_after > now {
            return;
        }
        self.foreseen.forget();
        let (mut place, mut finishes_after) = (0, u32::MAX);
        while let Some(&end) = self.ends.get(place) {
            if end > now {
                finishes_after = finishes_after.min(end);
                place += 1;
                continue;
            }
            self.ends.remove(place);
            let (slot, _) = entries.remove(place);
            self.let_go(&mut requests[slot], kv);
            gone(slot);
        }
        self.finishes_after = finishes_after;
    }

    fn let_go(&mut self, request: &mut Request, kv: &KvBlocks) {
        request.processed_tokens = request.processed_tokens.wrapping_add(self.settled.iterations);
        let blocks = kv.blocks_for(request.processed_tokens).max(request.blocks);
        self.known_blocks -= blocks - request.blocks;
        request.blocks = blocks;
        let place = self.place_of_new_block(self.settled.iterations, request);
        self.each.new_blocks[place] -= 1.0;
        self.ahead.cached_tokens -= u64::from(request.processed_tokens) + 1;
    }

    /// Takes a request in, from the next iteration on, where the stretch has ended. What it will have
    /// processed is told by the iterations of the run from now on, as of all others.
    pub fn join(&mut self, request: &mut Request) {
        self.foreseen.forget();
        let iterations = self.ahead.iterations;
        let place = self.place_of_new_block(iterations, request);
        self.each.new_blocks[place] += 1.0;
        let end = iterations + request.total_tokens() - request.processed_tokens;
        self.ends.push(end);
        self.finishes_after = self.finishes_after.min(end);
        self.ahead.cached_tokens += u64::from(request.processed_tokens);
        request.processed_tokens = request.processed_tokens.wrapping_sub(iterations);
    }

    /// Where a request's need of a next block is counted that has processed so many tokens before an
    /// iteration.
    fn place_of_new_block(&self, iteration: u32, request: &Request) -> usize {
        let block_size = self.each.new_blocks.len() as u32;
        let first = request.blocks * block_size + 1 - request.processed_tokens;
        ((iteration + first) % block_size) as usize
    }

    /// Goes on at `now_s`, where its stretch has ended, as a run begun then with the requests that have stayed
    /// or joined would, and takes the blocks of the next iteration. Returns the shape of its batch.
    pub fn renew(&mut self, now_s: f64, kv: &mut KvBlocks, times: &ExecutionTime) -> BatchShape {
        let number = self.ends.len() as u32;
        if number != self.each.shape.num_decodes {
            self.each.beside_attention_ms = times.beside_attention_ms(number);
        }
        let needed = self.each.new_blocks[self.ahead.iterations as usize % self.each.new_blocks.len()] as u32;
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
        self.each.shape = BatchShape::default();
        self.each.shape.add_decodes(number, self.settled.cached_tokens);
        self.each.shape
    }

    /// Lets a renewed run go on with what others have left of blocks, for so many `repeats` at least.
    pub fn go_on_with(&mut self, free_blocks: u32, repeats: u32) {
        (self.settled.free_blocks, self.free_when_known) = (free_blocks, free_blocks);
        self.most_iterations =
            self.settled.iterations.saturating_add(repeats).saturating_add(1).min(self.finishes_after);
        self.once = false;
        self.ahead = self.settled;
    }

    /// When the next iteration of a renewed run ends, if that was foreseen of the same requests.
    pub fn foreseen_end_s(&self) -> Option<f64> {
        let points = self.foreseen.between(self.settled.iterations, self.settled.iterations + 1)?;
        points.last().map(|end| end.at_s)
    }

    /// Makes a single iteration of a renewed run, one that ends at `end_s`.
    pub fn go_on_once(&mut self, end_s: f64) {
        let mut ahead = self.settled;
        (ahead.at_s, ahead.iterations) = (end_s, ahead.iterations + 1);
        ahead.cached_tokens += u64::from(self.each.shape.num_decodes);
        self.each.take_blocks(&mut ahead);
        self.ahead = ahead;
        self.foreseen.forget();
        self.once = true;
    }

    /// Looks one stretch further; returns when it ends and when its last iteration starts.
    pub fn look_ahead(&mut self, times: &ExecutionTime) -> (f64, f64) {
        let most = self.most_iterations.min(self.settled.iterations.saturating_add(self.stretch));
        let steps = most - self.settled.iterations;
        if steps <= MOST_FORESEEN {
            let before = self.settled.point(self.each.total_blocks);
            let points = self.foreseen.begin(self.settled.iterations, before, steps);
            self.ahead = self.each.foresee(self.settled, times, points);
            self.foreseen.end_with(self.ahead.iterations);
        } else {
            let [ahead, before_last] = self.each.iterate(self.settled, times, f64::INFINITY, most, |_, _| {});
            self.ahead = ahead;
            self.foreseen.keep(before_last);
        }
        self.stretch = (self.stretch * 2).min(LONGEST_STRETCH);
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Accounts for the iterations of the stretch that end before `until_s`, telling `ended` the start and
    /// end of each; all but the last `keep` of them at most.
    pub fn settle(
        &mut self,
        times: &ExecutionTime,
        until_s: f64,
        keep: u32,
        ended: Option<impl FnMut(f64, f64)>,
    ) {
        let most = self.ahead.iterations - keep;
        if let Some(points) = self.foreseen.between(self.settled.iterations, most) {
            let [_, later @ ..] = points else { return };
            let in_time = if until_s == f64::INFINITY {
                later.len()
            } else {
                later.iter().take_while(|point| point.at_s < until_s).count()
            };
            if let Some(mut ended) = ended {
                points[..=in_time].windows(2).for_each(|two| ended(two[0].at_s, two[1].at_s));
            }
            if in_time > 0 {
                self.settled = self.after(&points[..=in_time]);
            }
            return;
        }
        let foreseen = [Some(self.ahead), self.foreseen.before_last()];
        let foreseen = foreseen.into_iter().flatten().find(|progress| progress.iterations == most);
        self.settled = match (ended, foreseen) {
            (None, Some(foreseen)) if until_s == f64::INFINITY => foreseen,
            (None, _) => self.each.iterate(self.settled, times, until_s, most, |_, _| {})[0],
            (Some(ended), _) => self.each.iterate(self.settled, times, until_s, most, ended)[0],
        };
    }

    /// How far it is at the last of these points, of which the first is what is settled, and at least another
    /// follows.
    #[inline]
    fn after(&self, points: &[Point]) -> Progress {
        let steps = points.len() as u32 - 1;
        let iterations = self.settled.iterations + steps;
        if iterations == self.ahead.iterations {
            return self.ahead;
        }
        let &[.., Point { at_s: previous_at_s, .. }, Point { at_s, kv_block_s, used_blocks }] = points else {
            unreachable!("two points")
        };
        Progress {
            iterations,
            at_s,
            previous_at_s,
            cached_tokens: self.settled.cached_tokens
                + u64::from(steps) * u64::from(self.each.shape.num_decodes),
            free_blocks: self.each.total_blocks - used_blocks as u32,
            kv_block_s,
            starved: 0,
        }
    }

    /// Lets a run settled up to now end with the iteration under way, or up to so many `later`, as far as they are
    /// foreseen; returns when the last one ends and starts.
    pub fn cut(&mut self, times: &ExecutionTime, later: u32) -> (f64, f64) {
        let under_way = self.settled.iterations + 1;
        let last = (under_way + later).min(self.ahead.iterations);
        if let Some(points) = self.foreseen.between(self.settled.iterations, last) {
            self.ahead = self.after(points);
        } else {
            self.foreseen.forget();
            [self.ahead, _] = self.each.iterate(self.settled, times, f64::INFINITY, under_way, |_, _| {});
        }
        self.most_iterations = self.ahead.iterations;
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&self.each.new_blocks[..])
            + size_of_val(&self.ends[..])
            + self.foreseen.bytes()
    }

    /// Requests in the batch of the iteration under way: its tokens.
    pub fn requests(&self) -> u32 {
        self.each.shape.num_decodes
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
        let decodes = self.each.shape.num_decodes;
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

#[cfg(test)]
mod tests;
