//! The traffic envelope: its cost by requests in the look-back, on average and at worst, beside its
//! definition.

use std::hint::black_box;
use std::time::Instant;

use scalefront::autoscaler::TrafficEnvelope;

use super::{Case, digest};

const LOOK_BACK_S: f64 = 80.0;
const WINDOW_S: f64 = 20.0;
/// Updates from one query to the next.
const BLOCK: usize = 100;

/// Updates of the traffic envelope, queried every hundred, with so many requests in the look-back.
pub fn envelope(updates: usize, in_look_back: usize) -> Case {
    let name = format!("{in_look_back} requests in the look-back");
    Case::new(name, updates, move || {
        let (mut envelope, mut gaps, mut now_s, mut sum) =
            (TrafficEnvelope::new(LOOK_BACK_S, WINDOW_S), Gaps::default(), 0.0, 0.0);
        for update in 0..updates {
            now_s += gaps.next() * LOOK_BACK_S / in_look_back as f64;
            envelope.observe(now_s, 257);
            if update % BLOCK == BLOCK - 1 {
                sum += envelope.rate_per_s(now_s);
            }
        }
        digest(sum)
    })
}

/// The same by the definition: all arrivals in the look-back are looked at for each query.
pub fn naive_envelope(updates: usize, in_look_back: usize) -> Case {
    let name = format!("naive, {in_look_back} requests in the look-back");
    Case::new(name, updates, move || {
        let (mut arrivals, mut gaps, mut now_s, mut sum) = (Vec::new(), Gaps::default(), 0.0, 0.0);
        for update in 0..updates {
            now_s += gaps.next() * LOOK_BACK_S / in_look_back as f64;
            arrivals.push((now_s, 257_u64));
            if update % BLOCK == BLOCK - 1 {
                sum += naive_rate_per_s(&arrivals, now_s, LOOK_BACK_S, WINDOW_S);
            }
        }
        digest(sum)
    })
}

/// One pass with two ends of a window over the arrivals inside the look-back.
fn naive_rate_per_s(arrivals: &[(f64, u64)], now_s: f64, look_back_s: f64, window_s: f64) -> f64 {
    let inside = &arrivals[arrivals.partition_point(|&(at_s, _)| at_s <= now_s - look_back_s)..];
    let (mut first, mut sum, mut largest) = (0, 0, 0);
    for &(at_s, tokens) in inside {
        sum += tokens;
        while inside[first].0 <= at_s - window_s {
            sum -= inside[first].1;
            first += 1;
        }
        largest = largest.max(sum);
    }
    largest as f64 / window_s
}

/// Gaps of mean 1, drawn cheaply: a counter scrambled by a multiplication.
#[derive(Default)]
struct Gaps(u64);

impl Gaps {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let scrambled = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (scrambled >> 11) as f64 * 2.0 / (1_u64 << 53) as f64
    }
}

/// What operations take.
#[derive(Debug)]
pub struct Costs {
    pub update_ns: f64,
    pub worst_update_ns: f64,
    pub query_ns: f64,
    pub worst_query_ns: f64,
}

/// Costs with so many requests in the look-back: two look-backs of steady traffic, half of one after a lull
/// longer than the window, and half of one after a lull longer than the look-back, so that all there is is
/// left behind at once.
///
/// All is done several times over. What an operation takes is the least of these, since whatever else the
/// machine does is none of its work; the worst operation is the one that takes longest of all.
pub fn envelope_costs(in_look_back: usize, rounds: usize) -> Costs {
    let blocks = 3 * in_look_back / BLOCK;
    let mut block_ns = vec![f64::INFINITY; blocks];
    let mut query_ns = vec![f64::INFINITY; blocks];
    let mut update_ns = vec![f32::INFINITY; blocks * BLOCK];
    let clock_ns = (0..1000).map(|_| elapsed_ns(|| ())).fold(f64::INFINITY, f64::min);
    for round in 0..2 * rounds {
        let (mut envelope, mut gaps, mut now_s) =
            (TrafficEnvelope::new(LOOK_BACK_S, WINDOW_S), Gaps::default(), 0.0);
        for block in 0..blocks {
            if block == blocks * 2 / 3 {
                now_s += 1.5 * WINDOW_S;
            } else if block == blocks * 5 / 6 {
                now_s += 1.5 * LOOK_BACK_S;
            }
            let arrivals: [f64; BLOCK] = std::array::from_fn(|_| {
                now_s += gaps.next() * LOOK_BACK_S / in_look_back as f64;
                now_s
            });
            if round % 2 == 0 {
                let ns =
                    elapsed_ns(|| arrivals.iter().for_each(|&at_s| envelope.observe(black_box(at_s), 257)));
                block_ns[block] = block_ns[block].min(ns - clock_ns);
            } else {
                for (at_s, least_ns) in arrivals.iter().zip(&mut update_ns[block * BLOCK..]) {
                    *least_ns = least_ns
                        .min((elapsed_ns(|| envelope.observe(black_box(*at_s), 257)) - clock_ns) as f32);
                }
            }
            query_ns[block] =
                query_ns[block].min(elapsed_ns(|| _ = black_box(envelope.rate_per_s(now_s))) - clock_ns);
        }
    }
    let worst_alone_ns = update_ns.iter().copied().fold(0.0, f32::max);
    Costs {
        update_ns: block_ns.iter().sum::<f64>() / (blocks * BLOCK) as f64,
        // The worst of a block takes no less than the mean of it, whatever each of the two rounds was
        // disturbed by.
        worst_update_ns: block_ns
            .iter()
            .fold(0.0, |worst: f64, ns| worst.max(ns / BLOCK as f64))
            .max(worst_alone_ns.into()),
        query_ns: query_ns.iter().sum::<f64>() / blocks as f64,
        worst_query_ns: query_ns.iter().fold(0.0, |worst, &ns| worst.max(ns)),
    }
}

/// What a query by the definition takes.
pub fn naive_query_ns(in_look_back: usize, rounds: usize) -> f64 {
    let (mut gaps, mut now_s) = (Gaps::default(), 0.0);
    let mut arrive = |_| {
        now_s += gaps.next() * LOOK_BACK_S / in_look_back as f64;
        (now_s, 257)
    };
    let arrivals: Vec<(f64, u64)> = (0..in_look_back).map(&mut arrive).collect();
    let query = |_| elapsed_ns(|| _ = black_box(naive_rate_per_s(&arrivals, now_s, LOOK_BACK_S, WINDOW_S)));
    (0..rounds).map(query).fold(f64::INFINITY, f64::min)
}

fn elapsed_ns(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}
