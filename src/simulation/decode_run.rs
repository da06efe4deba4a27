//! Many decode iterations at once.
//!
//! Between two moments at which anything can change on a replica, its iterations differ only in how much cache they read. A run advances
//! them together, adding up the same times in the same order as single steps would, so that nothing but speed tells the two apart. A run
//! may be cut at any boundary between iterations; what could matter (a request that may be admitted, a block that may be missing, a
//! request that finishes) always cuts it in time.

use crate::hardware::{BatchShape, ExecutionTime};
use crate::replica_scheduler::{Batch, ReplicaState, Requests};

/// The state of a run between two of its iterations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Iterations ended.
    pub iterations: u32,
    /// When the latest of them ended, and when it started.
    pub at_s: f64,
    pub previous_at_s: f64,
    /// Shape of the next iteration.
    shape: BatchShape,
    /// Blocks free once the next iteration has got its own.
    free_blocks: u32,
    /// Blocks in use times seconds, over the iterations ended.
    pub kv_block_s: f64,
    /// Blocks might not suffice for the next iteration; whoever forms it finds out exactly.
    starved: bool,
}

/// A batch of decodes that repeats itself, as far as a scheduled event has to know.
#[derive(Debug, Clone, Default)]
pub struct DecodeRun {
    /// What has been accounted for.
    pub settled: Progress,
    /// What the scheduled end of the current stretch will find.
    pub ahead: Progress,
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
        self.settled = Progress {
            iterations: 0,
            at_s: now_s,
            previous_at_s: now_s,
            shape: batch.shape,
            free_blocks: replica.kv.free,
            kv_block_s: 0.0,
            starved: false,
        };
        self.ahead = self.settled;
    }

    /// Whether the run ends where its current stretch does.
    pub fn ends_ahead(&self) -> bool {
        self.ahead.starved || self.ahead.iterations == self.most_iterations
    }

    /// Iterates from `from` as long as iterations end before `until_s`, up to `most` in all, telling `ended` the start and end of each.
    fn iterate(&self, from: Progress, times: &ExecutionTime, until_s: f64, most: u32, mut ended: impl FnMut(f64, f64)) -> Progress {
        let mut progress = from;
        let block_size = self.new_blocks.len() as u32;
        let requests = u64::from(progress.shape.num_decodes);
        let mut phase = progress.iterations % block_size;
        while progress.iterations < most && !progress.starved {
            let duration_s = times.stage_time_s(&progress.shape, 0);
            let alike = times.decode_steps_alike(&progress.shape).min(u64::from(most - progress.iterations - 1));
            for _ in 0..=alike {
                let end_s = progress.at_s + duration_s;
                if end_s >= until_s {
                    return progress;
                }
                ended(progress.at_s, end_s);
                progress.kv_block_s += f64::from(self.total_blocks - progress.free_blocks) * duration_s;
                progress.previous_at_s = progress.at_s;
                progress.at_s = end_s;
                progress.iterations += 1;
                progress.shape.decode_cached_tokens += requests;
                phase = if phase + 1 == block_size { 0 } else { phase + 1 };
                let needed = self.new_blocks[phase as usize];
                if progress.free_blocks <= needed && !self.reserved {
                    progress.starved = true;
                    return progress;
                }
                progress.free_blocks -= needed;
            }
        }
        progress
    }

    /// Looks one stretch further; returns when it ends and when its last iteration starts.
    pub fn look_ahead(&mut self, times: &ExecutionTime) -> (f64, f64) {
        let most = self.most_iterations.min(self.settled.iterations.saturating_add(self.stretch));
        self.ahead = self.iterate(self.settled, times, f64::INFINITY, most, |_, _| {});
        self.stretch = (self.stretch * 2).min(LONGEST_STRETCH);
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Accounts for the iterations of the stretch that end before `until_s`, telling `ended` the start and end of each; all but the last
    /// `keep` of them at most.
    pub fn settle(&mut self, times: &ExecutionTime, until_s: f64, keep: u32, ended: impl FnMut(f64, f64)) {
        self.settled = self.iterate(self.settled, times, until_s, self.ahead.iterations - keep, ended);
    }

    /// Lets a run settled up to now end with the iteration under way; returns when that one ends and starts.
    pub fn cut(&mut self, times: &ExecutionTime) -> (f64, f64) {
        self.ahead = self.iterate(self.settled, times, f64::INFINITY, self.settled.iterations + 1, |_, _| {});
        self.most_iterations = self.ahead.iterations;
        (self.ahead.at_s, self.ahead.previous_at_s)
    }

    /// Requests in the batch: tokens of each iteration.
    pub fn requests(&self) -> u32 {
        self.settled.shape.num_decodes
    }

    /// Blocks free during the iteration under way.
    pub fn free_blocks(&self) -> u32 {
        self.settled.free_blocks
    }
}
