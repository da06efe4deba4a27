//! Many decode iterations at once.
//!
//! Between two moments at which anything can change on a replica, its iterations differ only in how much cache they read. A run advances
//! them together, adding up the same times in the same order as single steps would, so that nothing but speed tells the two apart. A run
//! may be cut at any boundary between iterations; what could matter (a request that may be admitted, a block that may be missing, a
//! request that finishes) always cuts it in time.

use crate::hardware::{BatchShape, DecodeLine, DecodeSteps, ExecutionTime};
use crate::replica_scheduler::{Batch, ReplicaState, Requests};

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
    /// Not 0 if blocks might not suffice for the next iteration; whoever forms it finds out exactly. A word like the others: this is copied
    /// all the time, and what has gaps is copied slowly.
    starved: u64,
}

/// A batch of decodes that repeats itself, as far as a scheduled event has to know.
#[derive(Debug, Clone, Default)]
pub struct DecodeRun {
    /// What has been accounted for.
    pub settled: Progress,
    /// What the scheduled end of the current stretch will find.
    pub ahead: Progress,
    /// That without the last iteration.
    before_last: Progress,
    /// Shape of the first iteration.
    shape: BatchShape,
    line: Option<DecodeLine>,
    /// Iterations after which a request finishes.
    most_iterations: u32,
    /// Iterations the next stretch may have: doubled when one ends undisturbed.
    stretch: u32,
    /// At index i: requests that need a new block in iterations i, i + block size, ...; iteration 0 has its blocks.
    new_blocks: Vec<u32>,
    /// Whether all blocks were there before the run began.
    reserved: bool,
    total_blocks: u32,
}

/// The first stretch is short: under load an arrival soon cuts it.
const FIRST_STRETCH: u32 = 8;
const LONGEST_STRETCH: u32 = 4096;

impl DecodeRun {
    /// Starts a run with a batch just formed at `now_s`, which `repeats` at least that often unless something intervenes. It needs no
    /// blocks if all of them are `reserved` already.
    pub fn start(&mut self, now_s: f64, batch: &Batch, replica: &ReplicaState, requests: &Requests, repeats: u32, reserved: bool) {
        let block_size = if reserved { 1 } else { replica.kv.block_size_tokens };
        self.reserved = reserved;
        self.total_blocks = replica.kv.total;
        self.new_blocks.clear();
        self.new_blocks.resize(block_size as usize, 0);
        self.most_iterations = repeats.saturating_add(1);
        for &(slot, _) in &batch.entries {
            let request = &requests[slot];
            self.most_iterations = self.most_iterations.min(request.total_tokens() - request.processed_tokens);
            if !reserved {
                let first = request.blocks * block_size + 1 - request.processed_tokens;
                self.new_blocks[(first % block_size) as usize] += 1;
            }
        }
        self.stretch = FIRST_STRETCH;
        self.shape = batch.shape;
        self.line = None;
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

    /// Whether the run ends where its current stretch does.
    pub fn ends_ahead(&self) -> bool {
        self.ahead.starved != 0 || self.ahead.iterations == self.most_iterations
    }

    /// Iterates from `from` as long as iterations end before `until_s`, up to `most` in all, telling `ended` the start and end of each.
    /// Returns how far it came, and how far before the last step of the last of them.
    fn iterate(
        &mut self,
        from: Progress,
        times: &ExecutionTime,
        until_s: f64,
        most: u32,
        mut ended: impl FnMut(f64, f64),
    ) -> [Progress; 2] {
        let (mut progress, mut before_last) = (from, from);
        let mut goes_on = true;
        while goes_on && progress.iterations < most && progress.starved == 0 {
            let left = most - progress.iterations;
            let of_these = |steps: u64| steps.min(left.into()) as u32;
            // The line of attention looked up last, as far as it goes.
            if self.line.as_ref().is_none_or(|line| !line.reaches(progress.cached_tokens)) {
                self.line = match times.decode_steps(&self.shape, progress.cached_tokens) {
                    DecodeSteps::Along(line) => Some(line),
                    DecodeSteps::Alike { duration_s, steps } => {
                        (goes_on, before_last) = self.repeat(&mut progress, of_these(steps), until_s, |_| duration_s, &mut ended);
                        continue;
                    }
                };
            }
            let line = self.line.as_ref().expect("found above");
            let (cached_tokens, steps) = (progress.cached_tokens, of_these(line.steps(progress.cached_tokens)));
            let duration_s = |number| line.duration_s(cached_tokens, number);
            (goes_on, before_last) = self.repeat(&mut progress, steps, until_s, duration_s, &mut ended);
        }
        [progress, before_last]
    }

    /// The same for iterations whose times are known by number: whether all of them were made, and how far it came before the last step.
    #[inline(always)]
    fn repeat(
        &self,
        progress: &mut Progress,
        steps: u32,
        until_s: f64,
        duration_s: impl Fn(u32) -> f64,
        ended: &mut impl FnMut(f64, f64),
    ) -> (bool, Progress) {
        let requests = u64::from(self.shape.num_decodes);
        let mut phase = progress.iterations as usize % self.new_blocks.len();
        let mut step = |at: &mut Progress, number| {
            let duration_s = duration_s(number);
            let end_s = at.at_s + duration_s;
            if end_s >= until_s {
                return false;
            }
            ended(at.at_s, end_s);
            at.kv_block_s += f64::from(self.total_blocks - at.free_blocks) * duration_s;
            at.previous_at_s = at.at_s;
            at.at_s = end_s;
            at.iterations += 1;
            at.cached_tokens += requests;
            phase = if phase + 1 == self.new_blocks.len() { 0 } else { phase + 1 };
            let needed = self.new_blocks[phase];
            if at.free_blocks <= needed && !self.reserved {
                at.starved = 1;
                return false;
            }
            at.free_blocks -= needed;
            true
        };
        // In variables of its own, so that no step waits for the memory of the one before.
        let mut at = *progress;
        let goes_on = (0..steps - 1).all(|number| step(&mut at, number));
        let before_last = at;
        let goes_on = goes_on && step(&mut at, steps - 1);
        *progress = at;
        (goes_on, before_last)
    }

    /// Looks one stretch further; returns when it ends and when its last iteration starts.
    pub fn look_ahead(&mut self, times: &ExecutionTime) -> (f64, f64) {
        let most = self.most_iterations.min(self.settled.iterations.saturating_add(self.stretch));
        [self.ahead, self.before_last] = self.iterate(self.settled, times, f64::INFINITY, most, |_, _| {});
        self.stretch = (self.stretch * 2).min(LONGEST_STRETCH);
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Accounts for the iterations of the stretch that end before `until_s`, telling `ended` the start and end of each; all but the last
    /// `keep` of them at most. Where nobody is told, a stretch that nothing disturbed is as it was foreseen.
    pub fn settle(&mut self, times: &ExecutionTime, until_s: f64, keep: u32, ended: Option<impl FnMut(f64, f64)>) {
        let most = self.ahead.iterations - keep;
        let foreseen = [self.ahead, self.before_last].into_iter().find(|progress| progress.iterations == most);
        self.settled = match (ended, foreseen) {
            (None, Some(foreseen)) if until_s == f64::INFINITY => foreseen,
            (None, _) => self.iterate(self.settled, times, until_s, most, |_, _| {})[0],
            (Some(ended), _) => self.iterate(self.settled, times, until_s, most, ended)[0],
        };
    }

    /// Lets a run settled up to now end with the iteration under way; returns when that one ends and starts.
    pub fn cut(&mut self, times: &ExecutionTime) -> (f64, f64) {
        [self.ahead, self.before_last] = self.iterate(self.settled, times, f64::INFINITY, self.settled.iterations + 1, |_, _| {});
        self.most_iterations = self.ahead.iterations;
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Requests in the batch: tokens of each iteration.
    pub fn requests(&self) -> u32 {
        self.shape.num_decodes
    }

    /// Blocks free during the iteration under way.
    pub fn free_blocks(&self) -> u32 {
        self.settled.free_blocks
    }
}
