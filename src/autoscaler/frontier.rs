//! Our own policy: one knob from cheapest to fastest, nothing tuned to a trace.
//!
//! At each tick it weighs replicas against requests in the system, which by Little's law is rate times
//! latency. A replica has price 1. A request that takes twice as long as in an empty replica costs `theta`
//! times the share of a replica's time its work takes at best; so requests in the system cost `theta / (c s)`
//! each, with c a replica's best throughput and s the latency in an empty one. The service level sets `theta`
//! as its odds, with margins: 1/32 at level 0, 0.37, 1.05 and 3.0 at the quarters, 132 at level 1.
//!
//! Rule, at each tick:
//!
//! 1. *Capacity* (`throughput.rs`): the hardware model gives completions per second against requests held,
//!    for the mean prompt length of arrivals and the mean output length of what was served: decode tokens
//!    made over requests completed, which unlike the mean of the completed is not misled by long requests
//!    under way. Nobody's true output length is looked up.
//! 2. *Traffic* (`traffic.rs`): the rate over the longest window that agrees with all shorter ones, its
//!    deviation, its burstiness; and (`aftermath.rs`) what was seen to follow such rates within the next cold
//!    start, and within the one after it, as multiples of the rate. Where little has been seen yet, what has been may
//!    come again, the less likely the longer ago.
//! 3. *Congestion* (`congestion.rs`): requests in the system with n replicas, averaged over what the rate may
//!    be; those of surges like the ones that followed such traffic before, until they are worked off; and
//!    those of the backlog there is.
//! 4. *Need*: replicas are added, by whole nodes where these are paid whole (`bill.rs`), as long as one takes
//!    more cost of requests away than it costs. One worth between two thirds of and one and a half times its
//!    price is there for part of the time: so the knob moves cost smoothly though replicas are whole. Where
//!    starts are paid, or a least time, a part of the time costs more than that part: then it is there for
//!    less of it, or for all or none.
//! 5. *Order*: what is ordered now cannot help before a cold start has passed. So the need is that of the
//!    state there will be then, given what is ordered already, and of the surges that came that late: chasing
//!    a burst shorter than a cold start buys nothing.
//! 6. *Drain*: what is let go of now is missed for a cold start. So the need is that of the rate to expect
//!    until then and of the surges that came so soon; and the highest of the last fifth of a cold start,
//!    since a lull so short tells nothing. Not before output lengths are known. Where starts are paid, a lull
//!    has to be longer by a start to be worth one, and starts that are wanted no more are called off; where
//!    there is a least time that is paid, nobody is let go of before it is over.
//!
//! An order is for the rate of now and not for the one to expect: it serves on when the next cold start is
//! over, and orders that anticipated lulls left the bursts of Azure's code trace without help.
//!
//! Source: ours; the steady state is the diffusion approximation of a queue, the windows are Lepski's rule.

mod aftermath;
mod buried;
mod congestion;
mod late;
mod throughput;
pub(crate) mod traffic;
mod worth;

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::aftermath::{Aftermath, Expected, Returns};
use self::buried::Buried;
use self::congestion::{ASKERS, At, SteadyState, backlog_request_s, drain};
use self::late::{LateBudget, P90};
use self::throughput::{MeanLengths, ReplicaLimits, ThroughputCurve};
use self::traffic::{ArrivalCounts, RateEstimate};
use self::worth::{all_or_none, share_of_time};
use super::bill::Bill;
use super::{
    Arrivals, Autoscaler, BatchSums, Checked, Completion, Decision, FirstToken, Observes, PolicyContext,
    PolicySettings, Snapshot, Upstream,
};
use crate::hardware::ExecutionTime;
use crate::settings::Faults;

/// The knob, on one of two scales, and how often the policy decides. At least one replica is kept, whatever
/// `min_replicas` is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FrontierSettings {
    /// 0 (cheapest) to 1 (fastest); 0.5 if neither scale is given.
    pub service_level: Option<f64>,
    /// The same knob as levels 1 (cheapest) to 3 (fastest): the quarters of `service_level`, which is `level
    /// / 4`.
    pub level: Option<f64>,
    /// How often the policy decides; the cluster's `tune_interval_s` does not apply.
    pub tick_interval_s: f64,
    /// Decide as seldom as cold starts ask for where these are paid: every twelfth part of one, up to a
    /// minute.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paced_by_cold_starts: bool,
    /// What a change costs beyond the bill (warming up, wear, attention), in seconds of a replica.
    #[serde(skip_serializing_if = "is_zero")]
    pub change_price_s: f64,
    /// Order others in the place of replicas that are buried under a backlog, and let these finish; only
    /// where the router does not look at load.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replaces_buried: bool,
    /// End-to-end latency that the `quantile` of requests is to keep: insurance against surges is bought
    /// while more are late than that forgives. Without a service level, the knob follows this target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_s: Option<f64>,
    /// The share of requests that `target_s` is for.
    #[serde(skip_serializing_if = "late::is_p90")]
    pub quantile: f64,
    /// What insurance against surges is weighted with at least, with `target_s`: 1 buys more while too many
    /// are late, and never less, so that a tail beyond the quantile is not paid with.
    #[serde(skip_serializing_if = "late::is_least")]
    pub least_surge_weight: f64,
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

impl Default for FrontierSettings {
    fn default() -> Self {
        Self {
            service_level: None,
            level: None,
            tick_interval_s: 0.25,
            paced_by_cold_starts: false,
            change_price_s: 0.0,
            replaces_buried: false,
            target_s: None,
            quantile: P90,
            least_surge_weight: late::LEAST,
        }
    }
}

impl PolicySettings for FrontierSettings {
    fn check(&self, faults: &mut Faults) {
        if let Some(service_level) = self.service_level {
            faults.fraction("service_level", service_level);
        }
        if let Some(level) = self.level {
            faults.require((1.0..=3.0).contains(&level), "level", || {
                format!("{level} found, expected 1 (cheapest) to 3 (fastest)")
            });
        }
        faults.require(self.service_level.is_none() || self.level.is_none(), "level", || {
            "found beside `service_level`, expected one of them: they are two scales of one knob".into()
        });
        faults.interval_s("tick_interval_s", self.tick_interval_s);
        faults.not_negative("change_price_s", self.change_price_s);
        if let Some(target_s) = self.target_s {
            faults.positive("target_s", target_s);
        }
        faults.require(self.quantile > 0.0 && self.quantile < 1.0, "quantile", || {
            format!("{} found, expected a share between 0 and 1, such as 0.9 for a P90", self.quantile)
        });
        faults.require(self.quantile == P90 || self.target_s.is_some(), "quantile", || {
            "found without `target_s`, expected both: the quantile of requests that keeps that latency".into()
        });
        faults.require((late::LEAST..=1.0).contains(&self.least_surge_weight), "least_surge_weight", || {
            format!("{} found, expected {} to 1", self.least_surge_weight, late::LEAST)
        });
        faults.require(
            self.least_surge_weight == late::LEAST || self.target_s.is_some(),
            "least_surge_weight",
            || "found without `target_s`, expected both: it bounds what that target takes away".into(),
        );
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Scalefront's own policy",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "service_level",
            signals: "arrivals, requests in the system, decoded tokens: of this instant",
            blind_to: "true output lengths, prefixes in caches",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Frontier::new(self, context)))
    }
}

impl FrontierSettings {
    /// The knob on the scale from 0 to 1.
    fn service_level(&self) -> f64 {
        self.service_level.or(self.level.map(|level| level / 4.0)).unwrap_or(0.5)
    }

    /// Seconds between decisions on a cluster with such a bill.
    fn tick_s(&self, context: &PolicyContext) -> f64 {
        if !(self.paced_by_cold_starts && context.bill.cold_start) {
            return self.tick_interval_s;
        }
        // To the millisecond, as other loops count time.
        let paced_s = (context.scale_up_delay_s / TICKS_A_COLD_START).min(LONGEST_TICK_S);
        ((paced_s * 1000.0).round() / 1000.0).max(self.tick_interval_s)
    }
}

/// Keep the odds of service levels 0 and 1 finite. Much cheaper than at level 0 nothing keeps up; faster is
/// always possible.
const CHEAP_MARGIN: f64 = 1.0 / 32.0;
const FAST_MARGIN: f64 = 1.0 / 128.0;
/// Lengths of requests are averaged over about this time.
const LENGTHS_MEMORY_S: f64 = 300.0;
/// Periods of time-shared replicas: so many cold starts and so many latencies in an empty replica, since one
/// that is let go of first finishes what it holds.
const SHARE_COLD_STARTS: f64 = 2.0;
const SHARE_LATENCIES: f64 = 8.0;
/// Time over which the cost of a backlog is spread, in cold starts: what is ordered for it stays about so
/// long.
const BACKLOG_HORIZON: f64 = 6.0;
/// How long a need is remembered, in cold starts.
const LULL: f64 = 0.2;
/// Where starts are paid, noise that orders replicas costs money: decisions per cold start, and the longest
/// time between two.
const TICKS_A_COLD_START: f64 = 12.0;
const LONGEST_TICK_S: f64 = 60.0;

/// Gauss-Hermite: weights of three points with the mean and variance of the estimate.
const WEIGHTS: [f64; ASKERS / 2] = [1.0 / 6.0, 2.0 / 3.0, 1.0 / 6.0];

/// Which surges matter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Surges {
    /// Those within a cold start: for what is there now.
    Soon,
    /// Those within the cold start after it: for what is ordered now.
    Late,
}

/// What a backlog costs is off by at most so many times as much as the rate, with much to spare: at least a
/// fiftieth of a replica's throughput is taken to be left for it, so that it is off by fifty times as much.
const OFF_BY: f64 = 1000.0;

/// The system at some time.
#[derive(Debug, Clone, Copy)]
struct State {
    serving: f64,
    requests: f64,
}

struct Frontier {
    theta: f64,
    tick_s: f64,
    cold_start_s: f64,
    cold_start_ticks: usize,
    execution_time: ExecutionTime,
    limits: ReplicaLimits,
    bill: Bill,
    change_price_s: f64,
    replaces_buried: bool,
    budget: Option<LateBudget>,
    start_s: f64,
    calls_off_starts: bool,
    min_replicas: u32,
    max_replicas: u32,
    lengths: Lengths,
    /// The share of their sums that is kept from tick to tick.
    lengths_kept: f64,
    counts: ArrivalCounts,
    /// What followed within a cold start, and within the one after it.
    soon: Aftermath,
    late: Aftermath,
    returns: Returns,
    curve: Option<(MeanLengths, ThroughputCurve)>,
    steady: SteadyState,
    /// Orders under way: when the replicas join, how many.
    ordered: VecDeque<(f64, u32)>,
    /// The highest needs of late: of now, and of what is ordered now.
    needs_now: Highest,
    needs_later: Highest,
    /// From when on replicas are paid, and how many; kept where there is a least time.
    paid_from: VecDeque<(f64, u32)>,
    /// How far the period of time-shared replicas has gone, from 0 to 1.
    phase: f64,
    /// Room for [`Aftermath::surges`].
    surge_rates: Vec<f64>,
    evidence: Vec<(&'static str, f64)>,
}

impl Frontier {
    fn new(settings: &FrontierSettings, context: &PolicyContext) -> Self {
        let (service_level, tick_s) = (settings.service_level(), settings.tick_s(context));
        let follows = settings.service_level.is_none() && settings.level.is_none();
        let cold_start_s = context.scale_up_delay_s + tick_s;
        let cold_start_ticks = (cold_start_s / tick_s).round().max(1.0) as usize;
        Self {
            theta: (CHEAP_MARGIN + service_level) / (FAST_MARGIN + 1.0 - service_level),
            tick_s,
            cold_start_s,
            execution_time: context.execution_time.clone(),
            limits: ReplicaLimits {
                kv: context.kv,
                batch_size_cap: context.batch_size_cap,
                pipeline_parallel: context.pipeline_parallel,
            },
            bill: context.bill,
            change_price_s: settings.change_price_s,
            replaces_buried: settings.replaces_buried && !context.router_sees_load,
            budget: settings.target_s.map(|target_s| {
                LateBudget::new(target_s, settings.quantile, settings.least_surge_weight, tick_s, follows)
            }),
            start_s: context.scale_up_delay_s,
            calls_off_starts: context.calls_off_starts,
            min_replicas: context.min_replicas.max(1),
            max_replicas: context.max_replicas,
            lengths: Lengths::default(),
            lengths_kept: libm::exp(-tick_s / LENGTHS_MEMORY_S),
            counts: ArrivalCounts::new(tick_s),
            soon: Aftermath::new(0, cold_start_ticks, tick_s),
            late: Aftermath::new(cold_start_ticks, cold_start_ticks, tick_s),
            returns: Returns::new(cold_start_s),
            cold_start_ticks,
            curve: None,
            steady: SteadyState::default(),
            ordered: VecDeque::new(),
            needs_now: Highest::default(),
            needs_later: Highest::default(),
            paid_from: VecDeque::new(),
            phase: 0.0,
            surge_rates: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Follows the mean lengths, once they have changed enough to matter.
    fn refresh_curve(&mut self) {
        let lengths = self.lengths.means();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.02;
        let fresh = self
            .curve
            .as_ref()
            .is_some_and(|(at, _)| near(at.prompt, lengths.prompt) && near(at.output, lengths.output));
        if !fresh {
            self.curve = Some((lengths, ThroughputCurve::new(&self.execution_time, &self.limits, lengths)));
            self.steady.clear();
        }
    }

    /// Replicas worth their price; a part of the last step is a part of the time.
    fn need(&mut self, now_s: f64, rate: &RateEstimate, state: State, surges: Surges) -> f64 {
        let expected = match surges {
            Surges::Late => Expected::exactly(rate.per_s),
            // What is ordered now serves long after the next cold start; what is let go of now is missed
            // only until then.
            Surges::Soon => self.soon.nearly_expected(rate.per_s),
        };
        self.need_at(now_s, rate, expected, state, surges)
    }

    /// The same where such a rate is to be expected; exactly the one of [`Self::soon`], if it is only nearly
    /// known.
    fn need_at(
        &mut self,
        now_s: f64,
        rate: &RateEstimate,
        mut expected: Expected,
        state: State,
        surges: Surges,
    ) -> f64 {
        let (_, curve) = self.curve.as_ref().expect("refreshed before");
        let throughput_per_s = curve.saturation_per_s();
        let period_s = self.share_period_s();
        let (factor, surge_weight) =
            self.budget.as_ref().map_or((1.0, 1.0), |budget| (budget.factor(), budget.weight()));
        let request_price = factor * self.theta / (throughput_per_s * curve.unloaded_s());
        // What is ordered stays about as long as a backlog is reckoned with.
        let dearer = match surges {
            Surges::Late => 1.0 + self.change_price_s / (BACKLOG_HORIZON * self.cold_start_s),
            Surges::Soon => 1.0,
        };
        let (aftermath, first_asker) = match surges {
            Surges::Soon => (&self.soon, 0),
            Surges::Late => (&self.late, WEIGHTS.len()),
        };
        let exactly = || Expected::exactly(self.soon.expected_per_s(rate.per_s));
        let spread = 3.0_f64.sqrt() * rate.deviation_per_s;
        // Fewer could not even keep up with the least of the rates.
        let least = |per_s: f64| {
            ((per_s.max(0.0) / throughput_per_s) as u32).clamp(self.min_replicas, self.max_replicas)
        };
        let (traffic, least) = loop {
            let Expected { per_s, off } = expected;
            let (rates, off_per_s) = ([per_s - spread, per_s, per_s + spread], off * per_s);
            let mut asker = first_asker..;
            let traffic =
                rates.map(|per_s| self.steady.at(asker.next().expect("endless"), per_s, rate.dispersion));
            let same = |(at, per_s): (&Option<At>, f64)| {
                at.map_or(per_s < -off_per_s, |at| at.holds(per_s, off_per_s))
            };
            let [few, more] = [-off_per_s, off_per_s].map(|off_per_s| least(rates[0] + off_per_s));
            if off == 0.0 || (few == more && traffic.iter().zip(rates).all(same)) {
                break (traffic, few);
            }
            expected = exactly();
        };
        let mut surges = aftermath.surges(rate.per_s, &mut self.surge_rates);
        let mut steady = |replicas: u32| -> f64 {
            let means = traffic.map(|at| self.steady.requests(curve, replicas, at));
            WEIGHTS.iter().zip(means).map(|(weight, mean)| weight * mean).sum()
        };
        let mut surge = |replicas: u32| {
            let capacity_per_s = f64::from(replicas) * throughput_per_s;
            // A surge gathers for a cold start and is then worked off; its request-seconds count for that
            // cold start.
            let (excess, squared) =
                surges.excess_per_s(capacity_per_s, self.returns.excess_per_s(now_s, capacity_per_s));
            surge_weight * self.cold_start_s * (excess + squared / capacity_per_s) / 2.0
        };
        // The cost of requests, and how much of it is that of a backlog.
        let cost = |(replicas, steady, surge): (u32, f64, f64), expected: Expected| {
            let backlog = backlog_request_s(
                throughput_per_s,
                state.serving,
                f64::from(replicas),
                expected.per_s,
                state.requests - steady,
            ) / (BACKLOG_HORIZON * self.cold_start_s);
            (request_price * (steady + surge + backlog), request_price * backlog)
        };
        let mut replicas = self.bill.filled(least).min(self.max_replicas);
        let mut need = f64::from(replicas);
        // Of those that cannot keep up that mostly says enough, without what surges cost them.
        let mut knows_surge = f64::from(replicas) * throughput_per_s >= expected.per_s;
        let mut now = (replicas, steady(replicas), if knows_surge { surge(replicas) } else { 0.0 });
        while replicas < self.max_replicas {
            let more = self.bill.filled(replicas + 1).min(self.max_replicas);
            let (then, price) = ((more, steady(more), surge(more)), dearer * self.bill.price(replicas, more));
            let worth = |now, expected: Expected| {
                let ((cost, backlog), (cost_then, backlog_then)) =
                    (cost(now, expected), cost(then, expected));
                ((cost - cost_then) / price, expected.off * OFF_BY * (backlog + backlog_then) / price)
            };
            let (mut worth_now, mut off) = worth(now, expected);
            let mut share = all_or_none(worth_now, off);
            if !knows_surge && share != Some(1.0) {
                now.2 = surge(replicas);
                (worth_now, off) = worth(now, expected);
                share = all_or_none(worth_now, off);
            }
            knows_surge = true;
            let share = share.unwrap_or_else(|| {
                if off > 0.0 {
                    expected = exactly();
                    (worth_now, _) = worth(now, expected);
                }
                share_of_time(worth_now, |share| self.bill.paid_s(self.start_s, share * period_s) / period_s)
            });
            if share == 0.0 {
                break;
            }
            need += share * f64::from(more - replicas);
            (replicas, now) = (more, then);
        }
        need
    }

    /// How long a lull has to be to mean something: longer where starting anew is paid.
    fn lull_s(&self) -> f64 {
        LULL * self.cold_start_s + if self.bill.cold_start { self.start_s } else { 0.0 } + self.change_price_s
    }

    fn share_period_s(&self) -> f64 {
        let (_, curve) = self.curve.as_ref().expect("refreshed before");
        SHARE_COLD_STARTS * self.cold_start_s + SHARE_LATENCIES * curve.unloaded_s()
    }

    /// Takes note of replicas that are paid from some time on, where that matters.
    fn note_paid(&mut self, from_s: f64, replicas: u32) {
        if self.bill.minimum_s > 0.0 && replicas > 0 {
            self.paid_from.push_back((from_s, replicas));
        }
    }

    /// How many replicas have been paid for the least time: letting go of others would save nothing. All that
    /// are known of; the fleet has `committed` of them.
    fn paid_long_enough(&mut self, now_s: f64, committed: u32) -> u32 {
        if self.bill.minimum_s == 0.0 {
            return u32::MAX;
        }
        let known: u32 = self.paid_from.iter().map(|&(_, replicas)| replicas).sum();
        // Those a run begins with.
        if committed > known {
            self.paid_from.push_front((0.0, committed - known));
        }
        let due_s = now_s - self.bill.minimum_s;
        self.paid_from.iter().take_while(|&&(from_s, _)| from_s <= due_s).map(|&(_, replicas)| replicas).sum()
    }

    /// Forgets the latest orders, as many as a scale-down calls off, and of the others that go those that
    /// have been paid longest.
    fn let_go(&mut self, surplus: u32) {
        let called_off =
            if self.calls_off_starts { surplus - take_back(&mut self.ordered, surplus) } else { 0 };
        take_back(&mut self.paid_from, called_off);
        let mut gone = surplus - called_off;
        while let Some((_, earliest)) = self.paid_from.front_mut().filter(|_| gone > 0) {
            let taken = gone.min(*earliest);
            (*earliest, gone) = (*earliest - taken, gone - taken);
            if *earliest == 0 {
                self.paid_from.pop_front();
            }
        }
    }

    /// Whole replicas some time from now, for a need that may have a fraction.
    fn present(&self, need: f64, ahead_s: f64) -> u32 {
        let phase = (self.phase + ahead_s / self.share_period_s()).fract();
        self.bill.round(need, phase, self.max_replicas)
    }
}

impl Autoscaler for Frontier {
    fn observes(&self) -> Observes {
        let replica_requests = self.replaces_buried;
        Observes {
            arrivals: true,
            batch_sums: true,
            latencies: true,
            replica_requests,
            ..Observes::default()
        }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.tick_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.counts.observe(arrivals.arrived_at_s.len());
        // Called once a tick, before the others.
        self.lengths.fade(self.lengths_kept);
        self.lengths.arrived += arrivals.arrived_at_s.len() as f64;
        self.lengths.prompt_tokens +=
            arrivals.prefill_tokens.iter().map(|&tokens| f64::from(tokens)).sum::<f64>();
    }

    fn observe_batch_sums(&mut self, sums: BatchSums) {
        self.lengths.decode_tokens += (sums.tokens - sums.prefill_tokens) as f64;
    }

    fn observe_latencies(&mut self, _: &[FirstToken], completions: &[Completion]) {
        self.lengths.completed += completions.len() as f64;
        if let Some(budget) = &mut self.budget {
            budget.observe(completions);
        }
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.counts.tick(now_s);
        while self.ordered.front().is_some_and(|&(joins_s, _)| joins_s <= now_s) {
            self.ordered.pop_front();
        }
        let Some(rate) = self.counts.estimate().filter(|_| self.lengths.arrived > 0.0) else {
            return Decision::Hold;
        };
        self.refresh_curve();
        self.phase = (self.phase + self.tick_s / self.share_period_s()).fract();
        self.soon.tick(rate.per_s, &self.counts);
        self.late.tick(rate.per_s, &self.counts);
        if let Some(seen_per_s) = self.counts.recent_so_far(self.cold_start_ticks) {
            self.returns.note(now_s, seen_per_s);
        }

        if let Some(budget) = &mut self.budget {
            let (_, curve) = self.curve.as_ref().expect("just refreshed");
            let capacity_per_s = f64::from(snapshot.serving) * curve.saturation_per_s();
            budget.tick(rate.per_s, self.returns.highest_per_s(capacity_per_s) * self.cold_start_s);
        }
        // What is told to stop does not count any more.
        let staying = snapshot.serving.saturating_sub(snapshot.stopping);
        let joins_s = now_s + self.cold_start_s - self.tick_s;
        let (_, curve) = self.curve.as_ref().expect("just refreshed");
        let next_s = self.ordered.front().map_or(joins_s, |&(at_s, _)| at_s);
        let buried = self.replaces_buried.then(|| Buried::of(snapshot, curve, rate.per_s, next_s - now_s));
        let gone = buried.map_or(0, |buried| buried.replicas.min(staying));
        let requests = buried
            .map_or(f64::from(snapshot.outstanding_requests), |buried| buried.all_requests - buried.requests);
        let now = State { serving: f64::from(staying - gone), requests };
        let (mut then, mut then_s) = (now, now_s);
        for &(at_s, more) in self.ordered.iter().chain([&(joins_s, 0)]) {
            let requests = drain(curve, then.serving, rate.per_s, then.requests, at_s - then_s);
            (then, then_s) = (State { serving: then.serving + f64::from(more), requests }, at_s);
        }
        let need = self.need(now_s, &rate, then, Surges::Late);
        let need_now = self.need(now_s, &rate, now, Surges::Soon);
        let lasting = self.needs_now.add(now_s, need_now, self.lull_s());
        let lasting_later = self.needs_later.add(now_s, need, LULL * self.cold_start_s);
        let committed = snapshot.committed();
        // Others in the place of those that are buried, which are told to stop once these serve.
        let wanted = (self.present(need, joins_s - now_s) + gone).min(self.max_replicas);
        let (_, curve) = self.curve.as_ref().expect("just refreshed");
        self.evidence.clear();
        self.evidence.extend([
            ("rate_per_s", rate.per_s),
            ("rate_deviation_per_s", rate.deviation_per_s),
            ("rate_window_s", rate.window_s),
            ("rate_dispersion", rate.dispersion),
            ("replica_throughput_per_s", curve.saturation_per_s()),
            ("unloaded_latency_s", curve.unloaded_s()),
            ("need_replicas", need),
            ("need_now_replicas", need_now),
            ("outstanding_requests", now.requests),
            ("outstanding_requests_later", then.requests),
        ]);
        if self.replaces_buried {
            self.evidence.push(("buried_replicas", gone.into()));
        }
        if let Some(budget) = &self.budget {
            self.evidence
                .extend([("late_budget_overdrawn", budget.over()), ("surge_weight", budget.weight())]);
            self.evidence.push(("latency_price_factor", budget.factor()));
        }
        if wanted > committed {
            // No more is granted until those that are told to stop have left.
            let granted = (wanted - committed)
                .min(self.max_replicas.saturating_sub(snapshot.serving + snapshot.starting));
            self.ordered.push_back((joins_s, granted));
            self.note_paid(if self.bill.cold_start { now_s } else { now_s + self.start_s }, granted);
            return Decision::towards(committed, committed + granted);
        }
        if self.lengths.completed == 0.0 {
            return Decision::Hold;
        }
        if gone > 0
            && snapshot.starting == 0
            && buried.is_some_and(|buried| buried.all_busy)
            && staying - gone >= self.present(need_now, 0.0).max(self.min_replicas)
        {
            self.let_go(gone);
            return Decision::Down(gone);
        }
        // What is still to join is no reason to let go of what serves.
        let surplus = staying.saturating_sub(self.present(lasting, 0.0) + gone).min(committed - wanted);
        // A start that is paid and not wanted any more is called off; one that is not paid costs nothing up
        // to its end.
        let unwanted = if self.calls_off_starts && self.bill.cold_start {
            committed
                .saturating_sub(self.bill.round(lasting_later, 0.0, self.max_replicas))
                .min(snapshot.starting)
        } else {
            0
        };
        match surplus.max(unwanted).min(self.paid_long_enough(now_s, committed)) {
            0 => Decision::Hold,
            surplus => {
                self.let_go(surplus);
                Decision::Down(surplus)
            }
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.evidence.clone()
    }
}

/// Takes replicas from the latest entries; returns how many there were none for.
fn take_back(entries: &mut VecDeque<(f64, u32)>, mut replicas: u32) -> u32 {
    while let Some((_, latest)) = entries.back_mut().filter(|_| replicas > 0) {
        let taken = replicas.min(*latest);
        (*latest, replicas) = (*latest - taken, replicas - taken);
        if *latest == 0 {
            entries.pop_back();
        }
    }
    replicas
}

/// The highest of the latest values.
#[derive(Debug, Default)]
struct Highest {
    /// Those that no later one exceeds, falling.
    values: VecDeque<(f64, f64)>,
}

impl Highest {
    /// Adds a value; returns the highest of the last `window_s`.
    fn add(&mut self, now_s: f64, value: f64, window_s: f64) -> f64 {
        while self.values.back().is_some_and(|&(_, earlier)| earlier <= value) {
            self.values.pop_back();
        }
        self.values.push_back((now_s, value));
        while self.values.front().is_some_and(|&(at_s, _)| at_s <= now_s - window_s) {
            self.values.pop_front();
        }
        self.values[0].1
    }
}

/// Sums over requests that fade with time.
#[derive(Debug, Default)]
struct Lengths {
    arrived: f64,
    prompt_tokens: f64,
    decode_tokens: f64,
    completed: f64,
}

impl Lengths {
    fn fade(&mut self, keep: f64) {
        for sum in [&mut self.arrived, &mut self.prompt_tokens, &mut self.decode_tokens, &mut self.completed]
        {
            *sum *= keep;
        }
    }

    fn means(&self) -> MeanLengths {
        // The first output token comes with the prefill.
        let decoded = if self.completed > 0.0 { self.decode_tokens / self.completed } else { 0.0 };
        MeanLengths { prompt: self.prompt_tokens / self.arrived, output: 1.0 + decoded }
    }
}

#[cfg(test)]
mod tests;
