//! The iterations of a run, one after the other.

use super::Progress;
use super::foreseen::Point;
use crate::hardware::{BatchShape, DecodeSteps, ExecutionTime};

/// What all iterations of a run have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Each {
    /// Shape of the first, and what it takes beside attention, as all do.
    pub shape: BatchShape,
    pub beside_attention_ms: [f64; 2],
    /// At index i: requests that need a new block in iterations i, i + block size, ...; iteration 0 has its
    /// blocks. Whole numbers, as they are used.
    pub new_blocks: Vec<f64>,
    /// Whether all blocks were there before the run began.
    pub reserved: bool,
    pub total_blocks: u32,
}

impl Each {
    /// Gives the next iteration its blocks; whether they are sure to suffice.
    #[inline(always)]
    pub fn take_blocks(&self, at: &mut Progress) -> bool {
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
    pub fn iterate(
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
                    let steps = times.steps_of(at.cached_tokens, left);
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

    /// For how many of so many steps blocks are sure to suffice.
    #[inline(always)]
    fn sure_steps(&self, at: &Progress, steps: u32) -> u32 {
        if self.reserved {
            return steps;
        }
        // Mostly there are more than all could ask for, were it one a step.
        if u64::from(at.free_blocks) > u64::from(steps) * u64::from(self.shape.num_decodes) {
            return steps;
        }
        // In each period each request needs one.
        let periods = u64::from(at.free_blocks.saturating_sub(1)) / u64::from(self.shape.num_decodes.max(1));
        steps.min((periods * self.new_blocks.len() as u64).min(u32::MAX.into()) as u32)
    }

    /// Makes up to so many steps, as long as blocks are sure to suffice, on a fast path; false if one would end
    /// too late.
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
        let sure = self.sure_steps(progress, steps);
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

    /// Makes a step for each of the points, as long as there are blocks, and writes down what it comes to. Returns how
    /// far it came.
    pub fn foresee(&self, from: Progress, times: &ExecutionTime, mut points: &mut [Point]) -> Progress {
        let mut at = from;
        while at.starved == 0 && !points.is_empty() {
            let left = points.len() as u64;
            let steps = times.decode_steps(&self.shape, at.cached_tokens, self.beside_attention_ms);
            points = match steps {
                DecodeSteps::Along(times) => {
                    let (next, later) = points.split_at_mut(times.steps_of(at.cached_tokens, left) as usize);
                    self.foresee_steps(&mut at, next, |cached_tokens| times.duration_s(cached_tokens));
                    later
                }
                DecodeSteps::Alike { duration_s, steps } => {
                    let (next, later) = points.split_at_mut(steps.min(left) as usize);
                    self.foresee_steps(&mut at, next, |_| duration_s);
                    later
                }
            };
        }
        at
    }

    /// The same for iterations whose times are known by the tokens in the cache.
    #[inline(always)]
    fn foresee_steps(&self, at: &mut Progress, points: &mut [Point], duration_s: impl Fn(u64) -> f64) {
        let (sure, others) = points.split_at_mut(self.sure_steps(at, points.len() as u32) as usize);
        // Blocks of the usual size are a case of its own, in which their number takes a quarter of the time.
        if let Ok(new_blocks) = <&[f64; 16]>::try_from(&self.new_blocks[..]) {
            let mut phase = at.iterations as usize;
            self.hurry_along(at, sure, &duration_s, || {
                phase += 1;
                new_blocks[phase % 16]
            });
        } else {
            let period = self.new_blocks.len();
            let mut phase = at.iterations as usize % period;
            self.hurry_along(at, sure, &duration_s, || {
                phase = if phase + 1 == period { 0 } else { phase + 1 };
                self.new_blocks[phase]
            });
        }
        for point in others {
            let goes_on = self.step(at, &duration_s, f64::INFINITY, &mut |_, _| {});
            *point = at.point(self.total_blocks);
            if !goes_on {
                break;
            }
        }
    }

    /// The same where blocks are sure to suffice, of which each call of `new_blocks` tells how many the next
    /// iteration takes.
    #[inline(always)]
    fn hurry_along(
        &self,
        progress: &mut Progress,
        points: &mut [Point],
        duration_s: impl Fn(u64) -> f64,
        mut new_blocks: impl FnMut() -> f64,
    ) {
        let requests = u64::from(self.shape.num_decodes);
        // In variables of its own, so that no step waits for the memory of the one before.
        let Progress { mut at_s, mut previous_at_s, mut cached_tokens, mut kv_block_s, .. } = *progress;
        let mut used_blocks = f64::from(self.total_blocks - progress.free_blocks);
        for point in points.iter_mut() {
            let duration_s = duration_s(cached_tokens);
            kv_block_s += used_blocks * duration_s;
            previous_at_s = at_s;
            at_s += duration_s;
            used_blocks += new_blocks();
            cached_tokens += requests;
            *point = Point { at_s, kv_block_s, used_blocks };
        }
        *progress = Progress {
            iterations: progress.iterations + points.len() as u32,
            at_s,
            previous_at_s,
            cached_tokens,
            free_blocks: self.total_blocks - used_blocks as u32,
            kv_block_s,
            starved: progress.starved,
        };
    }
}
