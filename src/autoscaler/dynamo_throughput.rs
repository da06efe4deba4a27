//! NVIDIA Dynamo's planner, throughput-based scaling of aggregated engines: forecast the traffic, divide by what an engine does within
//! its latency targets.
//!
//! Rule, every interval: predict the next interval's requests, mean input length I and mean output length O, each on its own. Over batch
//! sizes b, up to what fits (KV cache / (I + O/2), the concurrency limit, and the balance I / (B - b) <= O of admitting and finishing for
//! batches of B tokens): an iteration holds b decodes of I + O/2 tokens and min(b I / O, B) tokens of prompts; its time is the ITL; the
//! TTFT is the time for those prompts and one more, in chunks of B tokens beside the decodes. The largest b with both within their
//! targets does b / (O x ITL) requests per second (b = 1 if none is). Replicas = ceil(predicted requests per second / that), at least 1.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `adjustment_interval_s` | 180 | planner configuration reference |
//! | `ttft_s`, `itl_s` | 0.5, 0.05 | the same |
//! | `load_predictor` | `kalman`; there ARIMA | the same |
//! | Kalman q level, q trend, r | 1.0, 0.1, 10 | the same |
//! | `max_num_batched_tokens` | 4096 | this simulator's schedulers; read from the engine there |
//!
//! Source: ai-dynamo/dynamo `components/src/dynamo/planner/core/{throughput_scaling.py, perf_model/agg.py, load/predictors.py}`. There a
//! regression on forward passes, begun with a benchmark before deployment, gives the times; here the hardware model does, so this planner
//! knows its engines perfectly. ARIMA with a search for its order at run time is not offered; `constant` and `kalman` are theirs. The lead
//! of idle intervals is skipped as there. Lengths: prompts of the interval's arrivals, outputs of its completions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::{Lengths, ReplicaModel};
use super::signals::Signals;
use super::{Arrivals, Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

/// How the next interval is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadPredictor {
    /// As the last.
    Constant,
    /// Local level and trend.
    #[default]
    Kalman,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoThroughputSettings {
    pub adjustment_interval_s: f64,
    /// Target of the time to first token.
    pub ttft_s: f64,
    /// Target of the time between tokens.
    pub itl_s: f64,
    pub load_predictor: LoadPredictor,
    /// Variance by which the level moves in an interval, in squared units of what is predicted.
    pub kalman_q_level: f64,
    pub kalman_q_trend: f64,
    /// Variance of an observation.
    pub kalman_r: f64,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
}

impl Default for DynamoThroughputSettings {
    fn default() -> Self {
        Self {
            adjustment_interval_s: 180.0,
            ttft_s: 0.5,
            itl_s: 0.05,
            load_predictor: LoadPredictor::default(),
            kalman_q_level: 1.0,
            kalman_q_trend: 0.1,
            kalman_r: 10.0,
            max_num_batched_tokens: 4096,
        }
    }
}

impl PolicySettings for DynamoThroughputSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("adjustment_interval_s", self.adjustment_interval_s);
        for (field, value) in [
            ("ttft_s", self.ttft_s),
            ("itl_s", self.itl_s),
            ("kalman_q_level", self.kalman_q_level),
            ("kalman_q_trend", self.kalman_q_trend),
            ("kalman_r", self.kalman_r),
        ] {
            faults.positive(field, value);
        }
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 2);
    }

    fn latency_targets(&self) -> Vec<super::LatencyTarget> {
        super::LatencyTarget::ttft_and_itl(self.ttft_s, self.itl_s)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "NVIDIA Dynamo planner, throughput-based scaling",
            version: "1.6.1",
            checked: Checked::Ported,
            left_out: "the ARIMA predictor",
            knob: "itl_s",
            signals: "requests and mean lengths of the last interval",
            blind_to: "queues, KV use, bursts within an interval",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let predictor = || Predictor::new(self);
        Some(Box::new(DynamoThroughput {
            settings: self.clone(),
            model: ReplicaModel::new(context, self.max_num_batched_tokens),
            signals: Signals::new(self.adjustment_interval_s),
            requests: predictor(),
            prefill_tokens: predictor(),
            decode_tokens: predictor(),
            demand_per_s: 0.0,
            engine_per_s: 0.0,
        }))
    }
}

/// One series predicted one step ahead.
#[derive(Debug)]
struct Predictor {
    kind: LoadPredictor,
    q_level: f64,
    q_trend: f64,
    r: f64,
    last: Option<f64>,
    /// Level and trend, and their covariance: level, both, trend.
    state: [f64; 2],
    covariance: [f64; 3],
}

impl Predictor {
    fn new(settings: &DynamoThroughputSettings) -> Self {
        Self {
            kind: settings.load_predictor,
            q_level: settings.kalman_q_level,
            q_trend: settings.kalman_q_trend,
            r: settings.kalman_r,
            last: None,
            state: [0.0; 2],
            covariance: [1000.0, 0.0, 1000.0],
        }
    }

    /// Takes the value of an interval and predicts the next; `None` while nothing but zeros has been seen.
    fn next(&mut self, value: f64) -> Option<f64> {
        if value == 0.0 && self.last.is_none() {
            return None;
        }
        let first = self.last.replace(value).is_none();
        if self.kind == LoadPredictor::Constant {
            return Some(value);
        }
        if first {
            self.state = [value, 0.0];
        } else {
            // The state was advanced when it was last predicted.
            let [p00, p01, p11] = self.covariance;
            let innovation = value - self.state[0];
            let (gain_level, gain_trend) = (p00 / (p00 + self.r), p01 / (p00 + self.r));
            self.state[0] += gain_level * innovation;
            self.state[1] += gain_trend * innovation;
            self.covariance = [p00 * (1.0 - gain_level), p01 * (1.0 - gain_level), p11 - gain_trend * p01];
        }
        let [p00, p01, p11] = self.covariance;
        self.state[0] += self.state[1];
        self.covariance = [p00 + 2.0 * p01 + p11 + self.q_level, p01 + p11, p11 + self.q_trend];
        Some(self.state[0].max(0.0))
    }
}

/// Requests per second of one engine within both targets, or what one request at a time makes if none is.
fn engine_requests_per_s(model: &ReplicaModel, lengths: Lengths, ttft_s: f64, itl_s: f64) -> f64 {
    let Lengths { prefill_tokens, decode_tokens } = lengths;
    let batched = f64::from(model.max_batched_tokens());
    let context = prefill_tokens + decode_tokens / 2.0;
    let fitting = (model.kv_tokens() / context.max(1.0)).max(1.0) as u32;
    let most = fitting.min(model.batch_size_cap()).min(model.max_batched_tokens() - 1).max(1);
    let balanced = |b: u32| prefill_tokens / (batched - f64::from(b)) <= decode_tokens;
    let most = (1..=most).rev().find(|&b| balanced(b)).unwrap_or(1);
    let mut best = 0.0;
    for b in 1..=most {
        let prompts = (f64::from(b) * prefill_tokens / decode_tokens).min(batched);
        let iteration_s = model.batch_time_s(&model.shape(prompts, b, lengths));
        let (mut left, mut first_token_s) = (prompts.floor() + prefill_tokens, 0.0);
        while left > 0.0 {
            let chunk = left.min(batched);
            first_token_s += model.batch_time_s(&model.shape(chunk, b, lengths));
            left -= chunk;
        }
        let within = iteration_s <= itl_s && first_token_s <= ttft_s;
        if within || b == 1 {
            best = f64::from(b) / (decode_tokens * iteration_s);
        }
        if !within {
            break;
        }
    }
    best
}

#[derive(Debug)]
struct DynamoThroughput {
    settings: DynamoThroughputSettings,
    model: ReplicaModel,
    signals: Signals,
    requests: Predictor,
    prefill_tokens: Predictor,
    decode_tokens: Predictor,
    demand_per_s: f64,
    engine_per_s: f64,
}

impl Autoscaler for DynamoThroughput {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.adjustment_interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        // Ticks add up to times that miss whole intervals by rounding.
        let window_s = self.settings.adjustment_interval_s * 1.001;
        let (requests, seconds) = self.signals.growth(window_s, |counters| counters.arrived_requests);
        if seconds == 0.0 {
            return Decision::Hold;
        }
        let mean = |of: fn(&super::signals::Counters) -> f64, per: fn(&super::signals::Counters) -> f64| {
            self.signals.ratio(window_s, of, per).unwrap_or(0.0)
        };
        let prompt = mean(|counters| counters.arrived_prefill_tokens, |counters| counters.arrived_requests);
        let output = mean(|counters| counters.completed_decode_tokens, |counters| counters.completed_requests);
        let predicted = (self.requests.next(requests), self.prefill_tokens.next(prompt), self.decode_tokens.next(output));
        let (Some(requests), Some(prefill_tokens), Some(decode_tokens)) = predicted else {
            return Decision::Hold;
        };
        if prefill_tokens <= 0.0 || decode_tokens <= 0.0 {
            return Decision::Hold;
        }
        let lengths = Lengths { prefill_tokens, decode_tokens };
        self.demand_per_s = requests / seconds;
        self.engine_per_s = engine_requests_per_s(&self.model, lengths, self.settings.ttft_s, self.settings.itl_s);
        Decision::towards(snapshot.committed(), ((self.demand_per_s / self.engine_per_s).ceil() as u32).max(1))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("predicted_requests_per_s", self.demand_per_s), ("engine_requests_per_s", self.engine_per_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    fn predictions(kind: LoadPredictor, values: &[f64]) -> Vec<Option<f64>> {
        let mut predictor = Predictor::new(&DynamoThroughputSettings { load_predictor: kind, ..DynamoThroughputSettings::default() });
        values.iter().map(|&value| predictor.next(value)).collect()
    }

    #[test]
    fn leading_zeros_are_skipped() {
        assert_eq!(predictions(LoadPredictor::Constant, &[0.0, 0.0, 7.0, 0.0]), [None, None, Some(7.0), Some(0.0)]);
    }

    /// Hand-computed: the first prediction is the value itself; then P = [2001, 1000, 1000.1], so the gains for 20 after 10 are
    /// 2001/2011 and 1000/2011 and the prediction 10 + 10 (3001/2011).
    #[test]
    fn kalman_follows_level_and_trend() {
        let predicted = predictions(LoadPredictor::Kalman, &[10.0, 20.0]);
        assert_eq!(predicted[0], Some(10.0));
        assert!((predicted[1].unwrap() - (10.0 + 10.0 * 3001.0 / 2011.0)).abs() < 1e-9);
        let ramp: Vec<f64> = (0..40).map(|i| 10.0 * f64::from(i + 1)).collect();
        let last = predictions(LoadPredictor::Kalman, &ramp).pop().unwrap().unwrap();
        assert!((last - 410.0).abs() < 1.0, "{last}");
    }

    /// One iteration at a time as the rule says it, for a batch where both targets bind and where none can be met.
    #[test]
    fn engines_go_as_far_as_their_targets() {
        with_context(|context| {
            let model = ReplicaModel::new(context, 4096);
            let lengths = Lengths { prefill_tokens: 512.0, decode_tokens: 128.0 };
            let iteration = |b: u32| model.batch_time_s(&model.shape(4.0 * f64::from(b), b, lengths));
            let itl_s = (iteration(5) + iteration(6)) / 2.0;
            let expected = 5.0 / (128.0 * iteration(5));
            assert!((engine_requests_per_s(&model, lengths, 10.0, itl_s) - expected).abs() < 1e-12);
            assert_eq!(engine_requests_per_s(&model, lengths, 1e-3, 1e-3), 1.0 / (128.0 * iteration(1)));
        });
    }
}
