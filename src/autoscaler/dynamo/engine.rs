//! What the planner asks of an engine: how long its queue takes, how long its next iteration, and how many
//! requests it can serve.
//!
//! Source: ai-dynamo 1.6.1, `planner/core/perf_model/{ais_adapter, engine_query}.py`; without speculative
//! decoding, attention data parallelism, and the discount for prefixes that are cached (the planner gets that
//! from a router it is told of).

use std::collections::VecDeque;

use super::passes::PassModel;
use crate::autoscaler::{ForwardPass, Part};

/// Passes over which means run.
const MEANS_OVER: usize = 64;

/// Batch sizes that are tried at most.
const MOST_BATCHES: u32 = 128;

/// What an engine can hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineLimits {
    pub max_num_batched_tokens: u32,
    pub max_num_seqs: u32,
    pub max_kv_tokens: u64,
}

/// An engine at a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine {
    pub pass: ForwardPass,
    pub queued_requests: u32,
    pub queued_prefill_tokens: u64,
}

/// A mean of the latest values that begins with the first that is not zero.
#[derive(Debug, Clone, Default)]
struct RecentMean {
    values: VecDeque<f64>,
    sum: f64,
}

impl RecentMean {
    fn add(&mut self, value: f64) {
        if value == 0.0 && self.values.is_empty() {
            return;
        }
        self.values.push_back(value);
        self.sum += value;
        if self.values.len() > MEANS_OVER {
            self.sum -= self.values.pop_front().expect("more values than one");
        }
    }

    fn value(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { self.sum / self.values.len() as f64 }
    }
}

/// Requests per second that an engine can serve, and what they then feel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    pub requests_per_s: f64,
    pub ttft_s: f64,
    pub itl_s: f64,
    /// Whether both targets are met.
    pub eligible: bool,
}

/// Engines as the planner knows them: what their passes cost, and what passes are like.
#[derive(Debug, Clone)]
pub struct EngineModel {
    limits: EngineLimits,
    passes: PassModel,
    /// Tokens of a prompt in a pass, 0 from passes without any; tokens of a request that decodes.
    prompt_tokens: RecentMean,
    decode_tokens: RecentMean,
    /// Prompts and their tokens in a pass.
    pass_prompts: RecentMean,
    pass_prompt_tokens: RecentMean,
}

impl EngineModel {
    pub fn new(limits: EngineLimits) -> Self {
        Self {
            limits,
            passes: PassModel::default(),
            prompt_tokens: RecentMean::default(),
            decode_tokens: RecentMean::default(),
            pass_prompts: RecentMean::default(),
            pass_prompt_tokens: RecentMean::default(),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.passes.is_ready()
    }

    pub fn observe(&mut self, pass: &ForwardPass) {
        let prompts = f64::from(pass.prefill_requests);
        self.prompt_tokens.add(if prompts > 0.0 { pass.prefill_tokens as f64 / prompts } else { 0.0 });
        if pass.decode_requests > 0 {
            self.decode_tokens.add(pass.decode_kv_tokens as f64 / f64::from(pass.decode_requests));
        }
        self.passes.learn(pass);
        self.pass_prompts.add(prompts);
        self.pass_prompt_tokens.add(pass.prefill_tokens as f64);
    }

    /// Time to the first token of one more request of mean length, with the queue and the decodes scaled.
    /// `None` if nothing like these passes was seen.
    pub fn ttft_s(&self, engine: &Engine, queue_scale: f64, decode_scale: f64) -> Option<f64> {
        let mut tokens = engine.queued_prefill_tokens as f64 * queue_scale;
        let mut requests = f64::from(engine.queued_requests) * queue_scale;
        if self.prompt_tokens.value() > 0.0 {
            tokens += self.prompt_tokens.value();
            requests += 1.0;
        }
        let beside = ForwardPass {
            prefill_requests: (requests.ceil() as u32).max(1),
            decode_requests: (f64::from(engine.pass.decode_requests) * decode_scale).ceil() as u32,
            decode_kv_tokens: (engine.pass.decode_kv_tokens as f64 * decode_scale).ceil() as u64,
            ..ForwardPass::default()
        };
        self.prefill_s(tokens.ceil() as u64, &beside)
    }

    /// Prompts in chunks of whole batches, each with what the pass has beside them.
    fn prefill_s(&self, tokens: u64, beside: &ForwardPass) -> Option<f64> {
        let most = u64::from(self.limits.max_num_batched_tokens);
        let (whole, rest) = (tokens / most, tokens % most);
        let mut total_s = 0.0;
        if whole > 0 {
            total_s +=
                self.passes.duration_s(&ForwardPass { prefill_tokens: most, ..*beside })? * whole as f64;
        }
        if rest > 0 {
            total_s += self.passes.duration_s(&ForwardPass { prefill_tokens: rest, ..*beside })?;
        }
        Some(total_s)
    }

    /// An iteration with one more request of mean length, with the decodes scaled, beside as many prompts as
    /// passes have on average. The queue may count as decoding already.
    pub fn itl_s(&self, engine: &Engine, decode_scale: f64, with_queue: bool) -> Option<f64> {
        let (mut tokens, mut requests) =
            (engine.pass.decode_kv_tokens as f64, f64::from(engine.pass.decode_requests));
        if with_queue {
            tokens += engine.queued_prefill_tokens as f64;
            requests += f64::from(engine.queued_requests);
        }
        tokens *= decode_scale;
        requests *= decode_scale;
        if self.decode_tokens.value() > 0.0 {
            tokens += self.decode_tokens.value();
            requests += 1.0;
        }
        let prefill_tokens = self.pass_prompt_tokens.value().ceil() as u64;
        self.passes.duration_s(&ForwardPass {
            prefill_requests: (self.pass_prompts.value().ceil() as u32).max(u32::from(prefill_tokens > 0)),
            prefill_tokens,
            decode_requests: requests.ceil() as u32,
            decode_kv_tokens: tokens.ceil() as u64,
            ..ForwardPass::default()
        })
    }

    /// The batch size with the most requests per second among those that meet the targets, or among all if
    /// none does. `None` if that cannot be told.
    ///
    /// Engines that compute prompts alone take one after the other; those that answer alone have no prompts
    /// in their passes, and each is held against its own target.
    pub fn capacity(
        &self,
        part: Part,
        prompt_tokens: f64,
        output_tokens: f64,
        ttft_s: f64,
        itl_s: f64,
    ) -> Option<Capacity> {
        if prompt_tokens <= 0.0 || output_tokens <= 0.0 {
            return None;
        }
        let (prompt, output) = (prompt_tokens.ceil() as u64, (output_tokens.ceil() as u64).max(1));
        if part == Part::Prompts {
            let took_s =
                self.prefill_s(prompt, &ForwardPass { prefill_requests: 1, ..ForwardPass::default() })?;
            let requests_per_s = if took_s > 0.0 { 1.0 / took_s } else { 0.0 };
            return Some(Capacity { requests_per_s, ttft_s: took_s, itl_s: 0.0, eligible: took_s <= ttft_s });
        }
        let most_tokens = u64::from(self.limits.max_num_batched_tokens);
        let context = prompt + output / 2;
        let most = (self.limits.max_kv_tokens / context)
            .min(self.limits.max_num_seqs.into())
            .min(most_tokens.saturating_sub(1).max(1));
        let mut best: Option<Capacity> = None;
        for batch in batch_sizes(most as u32) {
            let prefill = if part == Part::Answers {
                0
            } else {
                (f64::from(batch) * prompt as f64 / output as f64).ceil() as u64
            };
            if prefill > most_tokens.saturating_sub(batch.into()) {
                continue;
            }
            let beside = ForwardPass {
                prefill_requests: 1,
                decode_requests: batch,
                decode_kv_tokens: u64::from(batch) * context,
                ..ForwardPass::default()
            };
            let iteration =
                ForwardPass { prefill_requests: u32::from(prefill > 0), prefill_tokens: prefill, ..beside };
            let iteration_s = self.passes.duration_s(&iteration)?;
            if iteration_s == 0.0 {
                continue;
            }
            let first_s =
                if part == Part::Answers { 0.0 } else { self.prefill_s(prefill + prompt, &beside)? };
            let found = Capacity {
                requests_per_s: f64::from(batch) / (output as f64 * iteration_s),
                ttft_s: first_s,
                itl_s: iteration_s,
                eligible: first_s <= ttft_s && iteration_s <= itl_s,
            };
            let better = |best: &Capacity| {
                if best.eligible == found.eligible {
                    found.requests_per_s > best.requests_per_s
                } else {
                    found.eligible
                }
            };
            if best.as_ref().is_none_or(better) {
                best = Some(found);
            }
        }
        best
    }
}

/// All up to 128; of more, 128 evenly spaced.
fn batch_sizes(most: u32) -> impl Iterator<Item = u32> {
    let count = most.min(MOST_BATCHES);
    let spread = u64::from(most.saturating_sub(1));
    (0..count).map(move |i| {
        if most <= MOST_BATCHES {
            i + 1
        } else {
            1 + (u64::from(i) * spread / u64::from(MOST_BATCHES - 1)) as u32
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_are_all_or_evenly_spaced() {
        assert_eq!(batch_sizes(0).count(), 0);
        assert_eq!(batch_sizes(3).collect::<Vec<_>>(), [1, 2, 3]);
        let spaced: Vec<u32> = batch_sizes(256).collect();
        assert_eq!((spaced.len(), spaced[0], spaced[1], spaced[127]), (128, 1, 3, 256));
    }

    #[test]
    fn means_begin_with_the_first_value_and_forget() {
        let mut mean = RecentMean::default();
        assert_eq!(mean.value(), 0.0);
        mean.add(0.0);
        mean.add(1000.0);
        (0..9).for_each(|_| mean.add(0.0));
        assert_eq!(mean.value(), 100.0);
        (0..64).for_each(|_| mean.add(0.0));
        assert_eq!((mean.value(), mean.values.len()), (0.0, 64));
    }

    /// 10 ms and 0.02 ms a token of prompt and 0.2 us a token in the cache: one prompt of 1,000 tokens,
    /// answers of 200.
    #[test]
    fn capacity_is_the_best_batch_or_the_best_of_the_late() {
        let mut model = EngineModel::new(EngineLimits {
            max_num_batched_tokens: 4096,
            max_num_seqs: 128,
            max_kv_tokens: 200_000,
        });
        for prefill_tokens in [0, 64, 256, 512, 1024, 2048, 4096] {
            for decode_requests in [1_u32, 8, 32, 64, 128] {
                let decode_kv_tokens = 1100 * u64::from(decode_requests);
                let duration_s = 0.01 + 2e-5 * prefill_tokens as f64 + 2e-7 * decode_kv_tokens as f64;
                let prefill_requests = u32::from(prefill_tokens > 0);
                let pass = ForwardPass {
                    prefill_requests,
                    prefill_tokens,
                    decode_requests,
                    decode_kv_tokens,
                    duration_s,
                    ..Default::default()
                };
                model.observe(&pass);
            }
        }
        // What the program's own model answers.
        let late = model.capacity(Part::Whole, 1000.0, 200.0, 0.5, 0.01).unwrap();
        assert!(!late.eligible && (late.requests_per_s - 18.526278).abs() < 1e-6, "{late:?}");
        let kept = model.capacity(Part::Whole, 1000.0, 200.0, 0.5, 0.03).unwrap();
        assert!(
            kept.eligible
                && (kept.requests_per_s - 15.032359).abs() < 1e-6
                && (kept.itl_s - 0.0299354).abs() < 1e-7,
            "{kept:?}"
        );
        // 10 ms and 20 of a prompt of 1,000 tokens; of decodes alone 10 ms and 0.22 for each.
        let mut of_prompts = EngineModel::new(EngineLimits {
            max_num_batched_tokens: 4096,
            max_num_seqs: 128,
            max_kv_tokens: 200_000,
        });
        for prefill_tokens in [64, 256, 512, 1024, 2048, 4096].repeat(4) {
            let duration_s = 0.01 + 2e-5 * prefill_tokens as f64;
            of_prompts.observe(&ForwardPass {
                prefill_requests: 1,
                prefill_tokens,
                duration_s,
                ..Default::default()
            });
        }
        let prompts = of_prompts.capacity(Part::Prompts, 1000.0, 1.0, 0.5, 0.03).unwrap();
        assert!(prompts.eligible && (prompts.requests_per_s - 1.0 / 0.03).abs() < 0.5, "{prompts:?}");
        let answers = model.capacity(Part::Answers, 1000.0, 200.0, 0.0, 0.03).unwrap();
        assert!(answers.eligible && answers.requests_per_s > kept.requests_per_s, "{answers:?}");
        assert_eq!(model.capacity(Part::Whole, 0.0, 200.0, 0.5, 0.03), None);
        assert_eq!(model.capacity(Part::Whole, 300_000.0, 200.0, 0.5, 0.03), None, "does not fit");
    }
}
