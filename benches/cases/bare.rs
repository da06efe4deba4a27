//! A bare loop, to hold the engine against: round robin over replicas, batches of queued prompts, a reactive
//! scaler, one percentile. No KV cache, no billing, no metrics but P90, nothing that could be set.

use std::collections::VecDeque;

use scalefront::hardware::{BatchShape, ExecutionTime};
use scalefront::workload::Workload;

const BATCH_SIZE_CAP: usize = 16;

struct Replica {
    queue: VecDeque<u32>,
    batch: Vec<u32>,
    ends_at_s: f64,
    draining: bool,
}

impl Replica {
    fn new() -> Self {
        Self { queue: VecDeque::new(), batch: Vec::new(), ends_at_s: f64::INFINITY, draining: false }
    }

    fn start(&mut self, now_s: f64, batch_s: &[f64]) {
        while self.batch.len() < BATCH_SIZE_CAP
            && let Some(request) = self.queue.pop_front()
        {
            self.batch.push(request);
        }
        self.ends_at_s = now_s + batch_s[self.batch.len()];
    }
}

/// Seconds of a batch of k prompts of 256 tokens, at index k.
pub fn batch_times_s(times: &ExecutionTime) -> Vec<f64> {
    let mut shape = BatchShape::default();
    let mut batch_s = vec![0.0];
    for _ in 0..BATCH_SIZE_CAP {
        shape.add_prefill(256, 0);
        batch_s.push(times.step_time_s(&shape));
    }
    batch_s
}

/// P90 of the latency, and replica-seconds.
pub fn run(workload: &Workload, batch_s: &[f64]) -> (f64, f64) {
    let arrived_at_s = &workload.arrived_at_s;
    let mut replicas = vec![Replica::new()];
    let mut starting = VecDeque::new();
    let mut latencies_s = Vec::with_capacity(arrived_at_s.len());
    let (mut next, mut seen, mut turn) = (0, 0, 0);
    let (mut tick_s, mut last_up_s, mut booked_s, mut replica_s) = (0.0, 0.0, 0.0, 0.0);
    while latencies_s.len() < arrived_at_s.len() {
        let arrival_s = arrived_at_s.get(next).copied().unwrap_or(f64::INFINITY);
        let start_s = starting.front().copied().unwrap_or(f64::INFINITY);
        let (mut end_s, mut ending) = (f64::INFINITY, 0);
        for (index, replica) in replicas.iter().enumerate() {
            if replica.ends_at_s < end_s {
                (end_s, ending) = (replica.ends_at_s, index);
            }
        }
        let now_s = arrival_s.min(end_s).min(tick_s).min(start_s);
        if now_s == arrival_s {
            loop {
                turn = if turn + 1 >= replicas.len() { 0 } else { turn + 1 };
                if !replicas[turn].draining {
                    break;
                }
            }
            let replica = &mut replicas[turn];
            replica.queue.push_back(next as u32);
            next += 1;
            if replica.ends_at_s == f64::INFINITY {
                replica.start(now_s, batch_s);
            }
        } else if now_s == end_s {
            let replica = &mut replicas[ending];
            for &request in &replica.batch {
                latencies_s.push(now_s - arrived_at_s[request as usize]);
            }
            replica.batch.clear();
            replica.ends_at_s = f64::INFINITY;
            if !replica.queue.is_empty() {
                replica.start(now_s, batch_s);
            } else if replica.draining {
                replica_s += (now_s - booked_s) * replicas.len() as f64;
                booked_s = now_s;
                replicas.swap_remove(ending);
            }
        } else if now_s == start_s {
            starting.pop_front();
            replica_s += (now_s - booked_s) * replicas.len() as f64;
            booked_s = now_s;
            replicas.push(Replica::new());
        } else {
            let wanted = (((next - seen) as f64 / 5.0 * batch_s[1]).ceil() as usize).max(1);
            seen = next;
            tick_s = now_s + 5.0;
            let serving = replicas.iter().filter(|replica| !replica.draining).count() + starting.len();
            if wanted > serving {
                starting.extend((serving..wanted).map(|_| now_s + 30.0));
                last_up_s = now_s;
            } else if wanted < serving
                && now_s - last_up_s > 60.0
                && starting.is_empty()
                && let Some(replica) = replicas.iter_mut().rev().find(|replica| !replica.draining)
            {
                replica.draining = true;
            }
        }
    }
    let rank = (latencies_s.len() * 9).div_ceil(10) - 1;
    let (_, &mut p90_s, _) = latencies_s.select_nth_unstable_by(rank, f64::total_cmp);
    (p90_s, replica_s)
}
