//! The simulator against queueing theory: simple clusters are queues whose waiting times have formulas.
//!
//! Arrivals are Poisson. A replica with `batch_size_cap` 1 is one server; its service time is that of the
//! request's batches, end to end. Equal requests make it deterministic (D). For an exponential one (M), one
//! long request is run first: the ends of its batches are the service times of requests of 1, 2, 3, .. output
//! tokens. A service time drawn from the exponential distribution is then rounded up to the next of these,
//! some hundred of them to the mean, and that number of tokens is asked for.
//!
//! Each figure is the mean of independent replications, and must be within four standard errors of the
//! formula; these must in turn be small, or the test would say nothing. Draws are seeded: a test that passes
//! once passes always.

use rand::SeedableRng;
use rand_distr::{Distribution, Exp};
use rand_xoshiro::Xoshiro256PlusPlus;
use scalefront::autoscaler::{Autoscaler, Decision, Snapshot};
use scalefront::simulation::{
    Detail, Parts, RunMetrics, Workspace, simulate, simulate_in_detail, simulate_parts,
};
use serde_json::{Value, json};

use super::scenario::Scenario;

const REPLICATIONS: u64 = 24;
const REQUESTS: u32 = 20_000;

/// What replications say of a figure.
struct Estimate {
    mean: f64,
    standard_error: f64,
}

impl Estimate {
    fn of(sample: &[f64]) -> Self {
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, standard_error: (variance / count).sqrt() }
    }

    /// Within four standard errors, none of them above 2 % of the value; `bias` is the part of the value a
    /// construction may be off.
    fn assert_is(&self, what: &str, expected: f64, bias: f64) {
        println!("{what}: {:.5} +- {:.5}, expected {expected:.5}", self.mean, self.standard_error);
        assert!(self.standard_error < 0.02 * expected, "{what}: {} is too uncertain", self.mean);
        let tolerance = 4.0 * self.standard_error + bias * expected;
        assert!(
            (self.mean - expected).abs() < tolerance,
            "{what}: {} +- {}, expected {expected}",
            self.mean,
            self.standard_error
        );
    }
}

fn cluster(scheduler: Value) -> Value {
    json!({"replica_scheduler": scheduler})
}

fn one_at_a_time() -> Value {
    cluster(json!({"vllm": {"batch_size_cap": 1}}))
}

fn replicas(count: u32) -> Value {
    json!({"static": {"replicas": count}})
}

/// Requests of one prompt token with Poisson arrivals at `rate_per_s`, whose output lengths are drawn.
fn poisson(
    seed: u64,
    rate_per_s: f64,
    mut draw: impl FnMut(&mut Xoshiro256PlusPlus) -> (u32, u32),
) -> impl Iterator<Item = (f64, u32, u32)> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let gap = Exp::new(rate_per_s).unwrap();
    let mut now_s = 0.0;
    (0..REQUESTS).map(move |_| {
        now_s += gap.sample(&mut random);
        let (prefill_tokens, decode_tokens) = draw(&mut random);
        (now_s, prefill_tokens, decode_tokens)
    })
}

/// Runs the replications and picks figures from each.
fn replicate<const N: usize>(run: impl Fn(u64) -> [f64; N]) -> [Estimate; N] {
    let samples: Vec<[f64; N]> = (0..REPLICATIONS).map(run).collect();
    std::array::from_fn(|i| Estimate::of(&samples.iter().map(|sample| sample[i]).collect::<Vec<_>>()))
}

fn metrics(scenario: &Scenario) -> RunMetrics {
    simulate(&scenario.inputs(), &mut Workspace::default()).unwrap()
}

fn detail(scenario: &Scenario) -> Detail {
    simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap().1
}

/// Service times of requests of 1, 2, 3, .. output tokens, and an exponential distribution rounded up to
/// them.
struct Exponential {
    service_s: Vec<f64>,
    mean_s: f64,
}

impl Exponential {
    fn with_mean_tokens(cluster: Value, mean_tokens: usize) -> Self {
        let longest = Scenario::new(cluster, replicas(1), [(0.0, 1, 4000)]);
        let service_s: Vec<f64> = detail(&longest).batches.iter().map(|batch| batch.completed_at_s).collect();
        assert_eq!(service_s.len(), 4000);
        Self { mean_s: service_s[mean_tokens - 1], service_s }
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> (u32, u32) {
        let drawn_s = Exp::new(1.0 / self.mean_s).unwrap().sample(random);
        let tokens = self.service_s.partition_point(|&service_s| service_s < drawn_s) + 1;
        (1, tokens.min(self.service_s.len()) as u32)
    }

    /// First and second moment of the rounded distribution.
    fn moments(&self) -> (f64, f64) {
        let (mut first, mut second, mut below_s) = (0.0, 0.0, 0.0_f64);
        for &service_s in &self.service_s {
            let probability = libm::exp(-below_s / self.mean_s) - libm::exp(-service_s / self.mean_s);
            first += probability * service_s;
            second += probability * service_s * service_s;
            below_s = service_s;
        }
        (first, second)
    }
}

#[test]
fn m_d_1() {
    let service_s =
        detail(&Scenario::new(one_at_a_time(), replicas(1), [(0.0, 256, 1)])).batches[0].completed_at_s;
    for load in [0.3, 0.6, 0.8] {
        let rate_per_s = load / service_s;
        let [wait_s, utilization] = replicate(|seed| {
            let metrics = metrics(&Scenario::new(
                one_at_a_time(),
                replicas(1),
                poisson(seed, rate_per_s, |_| (256, 1)),
            ));
            [metrics.scheduling_delay_s.unwrap().mean, metrics.utilization]
        });
        wait_s.assert_is(&format!("M/D/1 wait at load {load}"), load * service_s / (2.0 * (1.0 - load)), 0.0);
        utilization.assert_is(&format!("M/D/1 utilization at load {load}"), load, 0.0);
    }
}

#[test]
fn m_m_1() {
    let service = Exponential::with_mean_tokens(one_at_a_time(), 200);
    let (mean_s, second_moment_s2) = service.moments();
    for load in [0.3, 0.6] {
        let rate_per_s = load / mean_s;
        // Rounded service times are exponential but for half a percent, says Pollaczek-Khinchine.
        let exact_wait_s = rate_per_s * second_moment_s2 / (2.0 * (1.0 - load));
        let wait_s = load / (1.0 - load) * mean_s;
        assert!((exact_wait_s / wait_s - 1.0).abs() < 5e-3, "{exact_wait_s} and {wait_s}");
        let [found_wait_s, found_p90_s, found_utilization] = replicate(|seed| {
            let requests = poisson(seed, rate_per_s, |random| service.draw(random));
            let metrics = metrics(&Scenario::new(one_at_a_time(), replicas(1), requests));
            [metrics.scheduling_delay_s.unwrap().mean, metrics.e2e_s.unwrap().p90, metrics.utilization]
        });
        found_wait_s.assert_is(&format!("M/M/1 wait at load {load}"), wait_s, 5e-3);
        // Time in the system is exponential with rate 1/service - arrival rate.
        let p90_s = libm::log(10_f64) / (1.0 / mean_s - rate_per_s);
        found_p90_s.assert_is(&format!("M/M/1 P90 of e2e at load {load}"), p90_s, 5e-3);
        found_utilization.assert_is(&format!("M/M/1 utilization at load {load}"), load, 0.0);
    }
}

/// Round robin over k servers sends each every k-th arrival: Erlang-k gaps, a queue E_k/M/1.
#[test]
fn round_robin_is_e_k_m_1() {
    let service = Exponential::with_mean_tokens(one_at_a_time(), 200);
    let (mean_s, _) = service.moments();
    let (servers, load) = (3, 0.7);
    let rate_per_s = f64::from(servers) * load / mean_s;
    let [wait_s] = replicate(|seed| {
        let requests = poisson(seed, rate_per_s, |random| service.draw(random));
        [metrics(&Scenario::new(one_at_a_time(), replicas(servers), requests))
            .scheduling_delay_s
            .unwrap()
            .mean]
    });
    // The probability to wait is the root of x = E[exp(-(1 - x) gap / service)].
    let mut waits = 0.5;
    for _ in 0..200 {
        waits = (rate_per_s / (rate_per_s + (1.0 - waits) / mean_s)).powi(servers as i32);
    }
    wait_s.assert_is("E_3/M/1 wait", mean_s * waits / (1.0 - waits), 5e-3);
}

/// One replica that decodes up to k requests at a time is k servers with one queue, as far as an iteration
/// takes as long for k requests as for one: with these tables, up to 8 requests, but for a few percent of
/// attention time and the wait for an iteration to end.
#[test]
fn m_m_k() {
    let (servers, load) = (4, 0.7);
    let slots = || cluster(json!({"orca": {"batch_size_cap": servers}}));
    let service = Exponential::with_mean_tokens(slots(), 200);
    let rate_per_s = f64::from(servers) * load / service.mean_s;
    let [wait_s, service_s] = replicate(|seed| {
        let metrics = metrics(&Scenario::new(
            slots(),
            replicas(1),
            poisson(seed, rate_per_s, |random| service.draw(random)),
        ));
        let wait_s = metrics.scheduling_delay_s.unwrap().mean;
        [wait_s, metrics.e2e_s.unwrap().mean - wait_s]
    });
    // Erlang C at the load that service times in company amount to.
    let offered = rate_per_s * service_s.mean;
    let k = f64::from(servers);
    let mut blocking = 1.0;
    for n in 1..=servers {
        blocking = offered * blocking / (f64::from(n) + offered * blocking);
    }
    let waits = k * blocking / (k - offered * (1.0 - blocking));
    service_s.assert_is("M/M/4 service", service.moments().0, 0.05);
    wait_s.assert_is("M/M/4 wait", waits * service_s.mean / (k - offered), 0.03);
}

/// Little's law, L = arrival rate x W, with L not from the same sum but as Poisson arrivals see it (they see
/// time averages).
#[test]
fn littles_law() {
    for (name, scheduler) in [
        ("vllm", json!({"vllm": {"batch_size_cap": 8}})),
        ("vllm_v1", json!({"vllm_v1": {"batch_size_cap": 8}})),
        ("sarathi", json!({"sarathi": {"batch_size_cap": 8, "chunk_size_tokens": 64}})),
        ("faster_transformer", json!({"faster_transformer": {"batch_size_cap": 8}})),
    ] {
        let [ratio] = replicate(|seed| {
            let requests = poisson(seed, 5.0, |random| {
                let tokens = |mean: f64, random: &mut Xoshiro256PlusPlus| {
                    Exp::new(1.0 / mean).unwrap().sample(random) as u32 + 1
                };
                (tokens(60.0, random), tokens(5.0, random))
            });
            let scenario = Scenario::new(cluster(scheduler.clone()), replicas(2), requests);
            let detail = detail(&scenario);
            let metrics = metrics(&scenario);
            let mut completed_at_s: Vec<f64> =
                detail.requests.iter().map(|request| request.completed_at_s.unwrap()).collect();
            completed_at_s.sort_by(f64::total_cmp);
            let found: usize = (0..)
                .zip(&detail.requests)
                .map(|(arrived, request)| {
                    arrived - completed_at_s.partition_point(|&at_s| at_s <= request.arrived_at_s)
                })
                .sum();
            let found = found as f64 / f64::from(REQUESTS);
            assert!(found > 1.0, "{name}: {found} requests on average");
            let rate_per_s = f64::from(REQUESTS) / scenario.workload.arrived_at_s.last().unwrap();
            [found / (rate_per_s * metrics.e2e_s.unwrap().mean)]
        });
        ratio.assert_is(&format!("{name}: requests seen per rate and latency"), 1.0, 0.0);
    }
}

/// Lets go of its only replica when nothing is left to do, and orders it when something is.
struct OffWhenEmpty {
    tick_s: f64,
}

impl Autoscaler for OffWhenEmpty {
    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.tick_s)
    }

    fn decide(&mut self, _: f64, snapshot: &Snapshot) -> Decision {
        Decision::towards(snapshot.committed(), u32::from(snapshot.outstanding_requests > 0))
    }
}

/// A server that is off when empty and takes a constant time to start for the first that comes (Welch 1964;
/// Doshi 1986: a vacation model): 1 / (mu - lambda) + (2 d + lambda d^2) / (2 (1 + lambda d)), and off for (1 -
/// rho) / (1 + lambda d) of the time.
///
/// It is asked once a tick, so a start takes up to a tick longer, and who comes within a tick of the end
/// finds it on: an exceptional set-up for which the same formula holds with its two moments.
#[test]
fn m_m_1_that_is_off_when_empty() {
    let service = Exponential::with_mean_tokens(one_at_a_time(), 200);
    let (mean_s, second_moment_s2) = service.moments();
    for (load, start_over_mean) in [(0.5, 10.0), (0.8, 10.0), (0.2, 3.0)] {
        let (rate_per_s, start_s, tick_s) = (load / mean_s, start_over_mean * mean_s, mean_s / 20.0);
        let textbook_s = 1.0 / (1.0 / mean_s - rate_per_s)
            + (2.0 * start_s + rate_per_s * start_s * start_s) / (2.0 * (1.0 + rate_per_s * start_s));
        let off = -(libm::expm1(-rate_per_s * tick_s)) / (rate_per_s * tick_s);
        let (first, second) = (
            off * (start_s + tick_s / 2.0),
            off * (start_s * start_s + start_s * tick_s + tick_s * tick_s / 3.0),
        );
        let expected_s = mean_s
            + rate_per_s * second_moment_s2 / (2.0 * (1.0 - load))
            + (2.0 * first + rate_per_s * second) / (2.0 * (1.0 + rate_per_s * first));
        assert!((expected_s / textbook_s - 1.0).abs() < 0.02, "{expected_s} and {textbook_s}");
        let [latency_s, there] = replicate(|seed| {
            let mut cluster = one_at_a_time();
            cluster["min_replicas"] = json!(0);
            cluster["initial_replicas"] = json!(0);
            cluster["max_replicas"] = json!(1);
            cluster["scale_up_delay_s"] = json!(start_s);
            let scenario = Scenario::new(
                cluster,
                json!("frontier"),
                poisson(seed, rate_per_s, |random| service.draw(random)),
            );
            let inputs = scenario.inputs();
            let parts = Parts {
                autoscaler: Some(Box::new(OffWhenEmpty { tick_s })),
                initial_replicas: 0,
                ..Parts::of(&inputs)
            };
            let metrics = simulate_parts(&inputs, parts, &mut Workspace::default()).unwrap();
            [metrics.e2e_s.unwrap().mean, metrics.mean_replicas]
        });
        let case = format!("load {load}, start {start_over_mean} services");
        latency_s.assert_is(&format!("latency of a server off when empty, {case}"), expected_s, 5e-3);
        // A cycle is the time until somebody comes, the start, and the work of all who came.
        let cycle_s = 1.0 / rate_per_s + first + (1.0 + rate_per_s * first) * mean_s / (1.0 - load);
        let lingers_s = (1.0 - off) / rate_per_s;
        let working_s = (1.0 + rate_per_s * first) * mean_s / (1.0 - load);
        there.assert_is(
            &format!("share of time it is there, {case}"),
            (working_s + lingers_s) / cycle_s,
            5e-3,
        );
    }
}
