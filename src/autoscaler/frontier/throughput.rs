//! What one replica can do, from the hardware model alone: requests per second against requests in memory.

use crate::hardware::{BatchShape, ExecutionTime};
use crate::replica_scheduler::KvBlocks;

/// Mean lengths of the requests being served, tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanLengths {
    pub prompt: f64,
    /// Output tokens, counting the one a prefill yields.
    pub output: f64,
}

/// What bounds a replica's memory and batches.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaLimits {
    pub kv: KvBlocks,
    pub batch_size_cap: u32,
    pub pipeline_parallel: u32,
}

/// Completions per second of a replica that holds a given number of requests: rising, linear between points,
/// from 0 at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ThroughputCurve {
    points: Vec<(f64, f64)>,
}

impl ThroughputCurve {
    /// With b requests of equal length in memory, one mean output length passes in m iterations, in which
    /// each of the b is prefilled once (together with those that come in the same iteration) and decoded m -
    /// 1 times; b requests complete in that time. Pipeline stages share the requests in memory.
    pub fn new(execution_time: &ExecutionTime, limits: &ReplicaLimits, lengths: MeanLengths) -> Self {
        let (prompt, iterations) = (lengths.prompt.round().max(1.0) as u32, lengths.output.max(1.0));
        let stages = limits.pipeline_parallel;
        let time_s = |shape: &BatchShape| {
            (0..stages).map(|stage| execution_time.stage_time_s(shape, stage)).sum::<f64>()
        };
        let per_request = limits.kv.blocks_for(prompt + (iterations / 2.0) as u32).max(1);
        let in_memory = limits
            .batch_size_cap
            .min((limits.kv.total.saturating_sub(limits.kv.watermark) / per_request).max(1));
        let mut points = vec![(0.0, 0.0)];
        let mut best = 0.0_f64;
        let mut held = 1;
        loop {
            let batch = (held / stages).max(1);
            let together = ((f64::from(batch) / iterations).round() as u32).max(1);
            let (mut prefill, mut decode) = (BatchShape::default(), BatchShape::default());
            (0..together).for_each(|_| prefill.add_prefill(prompt, 0));
            (0..batch).for_each(|_| decode.add_decode(prompt + (iterations / 2.0) as u32));
            let prefills_s = f64::from(batch) / f64::from(together) * time_s(&prefill);
            let decodes_s = if iterations > 1.0 { (iterations - 1.0) * time_s(&decode) } else { 0.0 };
            best = best.max(f64::from(held) / (prefills_s + decodes_s));
            points.push((f64::from(held), best));
            if held == in_memory {
                return Self { points };
            }
            held = (held + 1).max(held * 5 / 4).min(in_memory);
        }
    }

    /// Completions per second with `held` requests in the replica, queued ones included.
    pub fn rate_per_s(&self, held: f64) -> f64 {
        self.on_segment(self.points.partition_point(|&(b, _)| b < held).max(1), held)
    }

    /// The same, found from the `segment` of whoever asks for much the same again and again: the point at
    /// which it ends.
    pub fn rate_from_per_s(&self, held: f64, segment: &mut usize) -> f64 {
        while *segment < self.points.len() && self.points[*segment].0 < held {
            *segment += 1;
        }
        while *segment > 1 && self.points[*segment - 1].0 >= held {
            *segment -= 1;
        }
        self.on_segment(*segment, held)
    }

    /// On the segment that ends at a point; beyond the last point there is no more.
    fn on_segment(&self, end: usize, held: f64) -> f64 {
        match self.points.get(end) {
            None => self.saturation_per_s(),
            Some(&(b1, x1)) => {
                let (b0, x0) = self.points[end - 1];
                x0 + (x1 - x0) * (held - b0) / (b1 - b0)
            }
        }
    }

    /// Most completions per second.
    pub fn saturation_per_s(&self) -> f64 {
        self.points[self.points.len() - 1].1
    }

    /// Most requests in memory.
    pub fn most_held(&self) -> f64 {
        self.points[self.points.len() - 1].0
    }

    /// Seconds that a request spends in an otherwise empty replica.
    pub fn unloaded_s(&self) -> f64 {
        1.0 / self.points[1].1
    }
}
