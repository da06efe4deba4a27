//! x
mod congestion;
mod throughput;
mod traffic;

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::congestion::{SteadyState, drain};
use self::throughput::{MeanLengths, ReplicaLimits, ThroughputCurve};
use self::traffic::{Aftermath, ArrivalCounts};
use super::{Arrivals, Autoscaler, BatchEnd, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings, Snapshot};
use crate::hardware::ExecutionTime;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct FrontierSettings {
    pub service_level: Option<f64>,
    pub level: Option<f64>,
    pub theta: Option<f64>,
    pub tick_s: Option<f64>,
    pub horizon: Option<f64>,
    pub z: Option<f64>,
    pub scale: Option<f64>,
    pub jump: Option<f64>,
    pub width: Option<f64>,
    pub period: Option<f64>,
    pub bias: Option<f64>,
    pub hold: Option<f64>,
}

impl PolicySettings for FrontierSettings {
    fn check(&self, _faults: &mut Faults) {}

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Frontier {
            theta: self.theta.unwrap_or_else(|| 16f64.powf(2.0 * self.service_level.unwrap_or(0.5) - 1.0)),
            tick_s: self.tick_s.unwrap_or(1.0),
            horizon_s: self.horizon.unwrap_or(2.0),
            z: self.z.unwrap_or(1.0),
            scale: self.scale.unwrap_or(1.0),
            bias: self.bias.unwrap_or(0.5),
            width: self.width.unwrap_or(0.7),
            period: self.period.unwrap_or(8.0),
            seen: Vec::new(),
            bases: VecDeque::new(),
            hold: self.hold.unwrap_or(1.0),
            delay_s: context.scale_up_delay_s,
            execution_time: context.execution_time.clone(),
            limits: ReplicaLimits { kv: context.kv, batch_size_cap: context.batch_size_cap, pipeline_parallel: context.pipeline_parallel },
            max_replicas: context.max_replicas,
            min_replicas: context.min_replicas.max(1),
            counts: ArrivalCounts::default(),
            aftermath: Aftermath::default(),
            jump: self.jump.unwrap_or(1.0),
            arrivals: 0.0,
            prompts: 0.0,
            decodes: 0.0,
            completions: 0.0,
            curve: None,
            steady: SteadyState::default(),
            ordered: VecDeque::new(),
        }))
    }
}

struct Frontier {
    theta: f64,
    tick_s: f64,
    horizon_s: f64,
    z: f64,
    scale: f64,
    delay_s: f64,
    bias: f64,
    width: f64,
    period: f64,
    bases: VecDeque<(f64, f64)>,
    hold: f64,
    seen: Vec<(&'static str, f64)>,
    execution_time: ExecutionTime,
    limits: ReplicaLimits,
    max_replicas: u32,
    min_replicas: u32,
    counts: ArrivalCounts,
    aftermath: Aftermath,
    jump: f64,
    arrivals: f64,
    prompts: f64,
    decodes: f64,
    completions: f64,
    curve: Option<(MeanLengths, ThroughputCurve)>,
    steady: SteadyState,
    ordered: VecDeque<(f64, u32)>,
}

impl Frontier {
    fn lengths(&self) -> MeanLengths {
        MeanLengths { prompt: self.prompts / self.arrivals.max(1.0), output: 1.0 + self.decodes / self.completions.max(1.0) }
    }
}

impl Autoscaler for Frontier {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, batches: true, latencies: true, replicas: false }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.tick_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.counts.observe(arrivals.arrived_at_s.len());
        let keep = (-self.tick_s / 300.0).exp();
        self.arrivals = self.arrivals * keep + arrivals.arrived_at_s.len() as f64;
        self.prompts = self.prompts * keep + arrivals.prefill_tokens.iter().map(|&t| f64::from(t)).sum::<f64>();
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        let keep = (-self.tick_s / 300.0).exp();
        self.decodes = self.decodes * keep + batches.iter().map(|b| (b.tokens - b.prefill_tokens) as f64).sum::<f64>();
    }

    fn observe_latencies(&mut self, _: &[FirstToken], completions: &[Completion]) {
        let keep = (-self.tick_s / 300.0).exp();
        self.completions = self.completions * keep + completions.len() as f64;
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.seen.clone()
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.counts.tick(now_s);
        while self.ordered.front().is_some_and(|&(at, _)| at <= now_s) {
            self.ordered.pop_front();
        }
        let Some(rate) = self.counts.estimate() else { return Decision::Hold };
        if self.arrivals == 0.0 {
            return Decision::Hold;
        }
        let lengths = self.lengths();
        let fresh = self.curve.as_ref().is_some_and(|(at, _)| {
            (at.prompt / lengths.prompt - 1.0).abs() < 0.02 && (at.output / lengths.output - 1.0).abs() < 0.02
        });
        if !fresh {
            self.curve = Some((lengths, ThroughputCurve::new(&self.execution_time, &self.limits, lengths)));
            self.steady.clear();
        }
        let curve = &self.curve.as_ref().unwrap().1;
        let steady = &mut self.steady;
        let value = self.theta / (curve.saturation_per_s() * curve.unloaded_s());
        let variability = rate.dispersion.max(1.0) * self.scale;
        let spread = 3f64.sqrt() * rate.deviation_per_s * self.z;
        let rates = [(1.0 / 6.0, (rate.per_s - spread).max(0.0)), (2.0 / 3.0, rate.per_s), (1.0 / 6.0, rate.per_s + spread)];
        let drain_s = self.horizon_s;
        let span_s = self.delay_s + self.tick_s;
        let jump = self.jump;
        self.aftermath.tick(now_s, rate.per_s, &self.counts, span_s);
        let aftermath = &self.aftermath;
        let mut cost = |n: u32| {
            let surge = aftermath.excess_per_s(rate.per_s, f64::from(n) * curve.saturation_per_s()) * span_s * jump;
            f64::from(n) + value * surge + value * rates.iter().map(|&(weight, r)| weight * steady.requests(curve, n, r, variability)).sum::<f64>()
        };
        let mut n = ((rates[0].1 / curve.saturation_per_s()).floor() as u32).clamp(self.min_replicas, self.max_replicas);
        let mut need = f64::from(n);
        let mut here = cost(n) - f64::from(n);
        while n < self.max_replicas {
            let next = cost(n + 1) - f64::from(n + 1);
            let worth = here - next;
            let share = if self.width > 0.0 { (0.5 + worth.max(1e-9).ln() / (2.0 * self.width)).clamp(0.0, 1.0) } else if worth > 1.0 { 1.0 } else { 0.0 };
            if share == 0.0 {
                break;
            }
            need += share;
            here = next;
            n += 1;
        }
        while self.bases.back().is_some_and(|&(_, b)| b <= need) {
            self.bases.pop_back();
        }
        self.bases.push_back((now_s, need));
        while self.bases.front().is_some_and(|&(t, _)| t <= now_s - self.delay_s * self.hold) {
            self.bases.pop_front();
        }
        let held = self.bases.front().map_or(need, |b| b.1);
        let period_s = self.period * self.delay_s;
        let share = |need: f64, at_s: f64| need as u32 + u32::from(need.fract() > (at_s / period_s).fract() + 1e-9);
        let usual = steady.requests(curve, (need.round() as u32).max(1), rate.per_s, variability);
        let extra = |requests: f64| ((requests - usual).max(0.0) / (curve.saturation_per_s() * drain_s) + self.bias) as u32;
        let base = need;
        self.seen = vec![("rate", rate.per_s), ("dev", rate.deviation_per_s), ("window", rate.window_s), ("disp", rate.dispersion), ("need", base), ("n", f64::from(snapshot.outstanding_requests)), ("prompt", lengths.prompt), ("output", lengths.output), ("sat", curve.saturation_per_s()), ("unl", curve.unloaded_s())];
        let now_requests = f64::from(snapshot.outstanding_requests);
        let committed = snapshot.committed();
        let serving = snapshot.serving;
        let ordered = &self.ordered;
        let later = |r: f64| {
            let (mut at, mut n, mut q) = (now_s, f64::from(serving), now_requests);
            for &(t, k) in ordered {
                q = drain(curve, n, r, q, t - at);
                at = t;
                n += f64::from(k);
            }
            drain(curve, n, r, q, now_s + self.delay_s - at)
        };
        let wanted = (share(need, now_s + self.delay_s) + extra(later(rate.per_s))).min(self.max_replicas);
        if wanted > committed {
            self.ordered.push_back((now_s + self.delay_s, wanted - committed));
            return Decision::Up(wanted - committed);
        }
        let keep = share(held, now_s).max(share(need, now_s) + extra(now_requests));
        let down = serving.saturating_sub(keep).min((committed - wanted.min(committed)).max(0));
        if down > 0 { Decision::Down(down) } else { Decision::Hold }
    }
}
