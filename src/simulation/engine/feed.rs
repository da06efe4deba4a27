//! The requests of a run in order of arrival: from the workload's columns, from chunks made as they are
//! needed, or as answers set them off.

use super::arrival::Arrival;
use super::handed::Handed;
use super::turns::Turns;
use crate::autoscaler::Arrivals;
use crate::replica_scheduler::Handover;
use crate::workload::{OutputLimits, RequestStream, Workload};

pub(in crate::simulation) struct Feed<'a> {
    kept: &'a Workload,
    /// Where the columns are not all there is to it.
    made: Option<Made<'a>>,
    /// The next request: its place in the columns at hand.
    next: usize,
    /// When it and the one after it arrive; infinite if there is none.
    upcoming_s: [f64; 2],
    /// The first one the autoscaler has not been told of.
    unobserved: usize,
    /// Whether it wants to be told.
    observes: bool,
    /// Requests before the columns at hand.
    before: u32,
    /// What requests may generate, where that is not just what they do.
    limits: Option<OutputLimits>,
    /// How urgent they are, where they differ.
    priorities: Option<Box<dyn Iterator<Item = i32> + Send + Sync>>,
}

/// Requests that are made, or told when to come, as the run goes.
enum Made<'a> {
    /// Of a workload that keeps only its beginning.
    Chunk(Box<Chunk>),
    /// Of one whose requests wait for answers.
    Turns(Box<Turns<'a>>),
    /// From outside.
    Handed(Box<Handed>),
}

/// What has been made and is still needed.
struct Chunk {
    stream: RequestStream,
    columns: Workload,
}

impl<'a> Feed<'a> {
    pub fn new(kept: &'a Workload, observes: bool) -> Self {
        let made = match (&kept.sessions, &kept.streamed) {
            (Some(sessions), _) => Some(Made::Turns(Box::new(Turns::new(kept, sessions, observes)))),
            (None, Some(all)) => {
                Some(Made::Chunk(Box::new(Chunk { stream: all.requests(), columns: Workload::default() })))
            }
            (None, None) => None,
        };
        Self::with(kept, made, observes)
    }

    /// Requests that are handed in from outside; of the workload only what their prompts have in common.
    pub fn handed_in(kept: &'a Workload, observes: bool) -> Self {
        Self::with(kept, Some(Made::Handed(Box::new(Handed::new(observes)))), observes)
    }

    fn with(kept: &'a Workload, made: Option<Made<'a>>, observes: bool) -> Self {
        let mut feed = Self {
            kept,
            made,
            next: 0,
            upcoming_s: [f64::INFINITY; 2],
            unobserved: 0,
            observes,
            before: 0,
            limits: kept.output_limits(),
            priorities: kept.priorities(),
        };
        feed.refill();
        feed.look_ahead();
        feed
    }

    #[inline]
    fn columns(&self) -> &Workload {
        match &self.made {
            Some(Made::Chunk(chunk)) => &chunk.columns,
            _ => self.kept,
        }
    }

    /// Whether requests are those of the columns and nothing is drawn beside them.
    pub fn is_plain(&self) -> bool {
        self.made.is_none() && self.limits.is_none() && self.priorities.is_none()
    }

    /// The next request's place in the columns at hand.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes on from a place in the columns at hand.
    pub fn go_to(&mut self, position: usize) {
        self.next = position;
        self.unobserved = position;
        self.look_ahead();
    }

    /// The source of requests that wait for answers, if this is one.
    #[inline]
    pub fn turns(&mut self) -> Option<&mut Turns<'a>> {
        match &mut self.made {
            Some(Made::Turns(turns)) => Some(turns),
            _ => None,
        }
    }

    /// What is handed in, if this is such a source.
    #[inline]
    pub(super) fn handed(&mut self) -> Option<&mut Handed> {
        match &mut self.made {
            Some(Made::Handed(handed)) => Some(handed),
            _ => None,
        }
    }

    pub(super) fn handed_in_queue(&self) -> Option<&Handed> {
        match &self.made {
            Some(Made::Handed(handed)) => Some(handed),
            _ => None,
        }
    }

    /// Looks anew at what comes next, after a request has left that others may have waited for.
    pub fn look_again(&mut self) {
        self.look_ahead();
    }

    /// Arrival times from the next request on, as far as they are made: all that are left, or at least two.
    #[inline]
    fn made_s(&self) -> &[f64] {
        &self.columns().arrived_at_s[self.next..]
    }

    fn look_ahead(&mut self) {
        match &self.made {
            Some(Made::Turns(turns)) => return self.upcoming_s = turns.upcoming_s(),
            Some(Made::Handed(handed)) => return self.upcoming_s = handed.upcoming_s(),
            _ => {}
        }
        self.upcoming_s = [0, 1].map(|place| self.made_s().get(place).copied().unwrap_or(f64::INFINITY));
    }

    /// When the next request arrives; infinite if there is none.
    #[inline]
    pub fn next_s(&self) -> f64 {
        self.upcoming_s[0]
    }

    /// Whether no other request arrives at the same time as the next.
    #[inline]
    pub fn next_is_alone(&self) -> bool {
        self.upcoming_s[1] > self.upcoming_s[0]
    }

    /// Takes the next request, which there must be.
    #[inline(always)]
    pub fn take(&mut self) -> Arrival {
        if self.made.is_some() { self.take_made() } else { self.take_from(self.kept) }
    }

    #[inline(never)]
    fn take_made(&mut self) -> Arrival {
        if let Some(Made::Handed(handed)) = &mut self.made {
            let arrival = handed.take();
            self.upcoming_s = handed.upcoming_s();
            return arrival;
        }
        if let Some(Made::Turns(turns)) = &mut self.made {
            let arrival = turns.take();
            self.upcoming_s = turns.upcoming_s();
            return arrival;
        }
        let made = self.made.take();
        let arrival =
            self.take_from(if let Some(Made::Chunk(chunk)) = &made { &chunk.columns } else { self.kept });
        self.made = made;
        if self.made_s().len() < 2 {
            self.refill();
            self.look_ahead();
        }
        arrival
    }

    #[inline(always)]
    fn take_from(&mut self, columns: &Workload) -> Arrival {
        let next = self.next;
        let mut arrival = Arrival {
            id: self.before + next as u32,
            arrived_at_s: columns.arrived_at_s[next],
            prefill_tokens: columns.prefill_tokens[next],
            decode_tokens: columns.decode_tokens[next],
            max_new_tokens: columns.decode_tokens[next],
            priority: 0,
            handover: Handover::default(),
        };
        let after_s = columns.arrived_at_s.get(next + 2).copied().unwrap_or(f64::INFINITY);
        if let Some(limits) = &mut self.limits {
            arrival.max_new_tokens = limits.next(arrival.decode_tokens);
        }
        if let Some(priorities) = &mut self.priorities {
            arrival.priority = priorities.next().unwrap_or_default();
        }
        self.next += 1;
        self.upcoming_s = [self.upcoming_s[1], after_s];
        arrival
    }

    /// How many of the next requests arrive at this time.
    pub fn num_at(&mut self, now_s: f64) -> usize {
        if self.upcoming_s[0] != now_s {
            return 0;
        }
        match &self.made {
            Some(Made::Turns(turns)) => return turns.num_at(now_s),
            Some(Made::Handed(handed)) => return handed.num_at(now_s),
            _ => {}
        }
        loop {
            let made_s = self.made_s();
            let num = made_s.iter().take_while(|&&at_s| at_s == now_s).count();
            // At the end of what has been made there may be more of them to come.
            if num < made_s.len() || !self.refill() {
                return num;
            }
        }
    }

    /// Makes the next chunk and forgets what has been taken and told; whether there was one.
    #[cold]
    fn refill(&mut self) -> bool {
        let Some(Made::Chunk(chunk)) = &mut self.made else { return false };
        let Chunk { stream, columns } = &mut **chunk;
        let done = if self.observes { self.unobserved } else { self.next };
        columns.arrived_at_s.drain(..done);
        columns.prefill_tokens.drain(..done);
        columns.decode_tokens.drain(..done);
        let left = columns.len();
        stream.append_chunk(columns);
        self.before += done as u32;
        self.next -= done;
        self.unobserved = self.unobserved.saturating_sub(done);
        columns.len() > left
    }

    /// Arrivals the autoscaler has not been told of before.
    pub fn observe(&mut self) -> Arrivals<'_> {
        let range = self.unobserved..self.next;
        self.unobserved = self.next;
        let columns = match &mut self.made {
            Some(Made::Turns(turns)) => return turns.observe(),
            Some(Made::Handed(handed)) => return handed.observe(),
            Some(Made::Chunk(chunk)) => &chunk.columns,
            None => self.kept,
        };
        Arrivals {
            arrived_at_s: &columns.arrived_at_s[range.clone()],
            prefill_tokens: &columns.prefill_tokens[range.clone()],
            decode_tokens: &columns.decode_tokens[range],
        }
    }

    /// Of requests that are handed in: how many went back unfinished, and the tokens of all.
    pub fn handed_back(&self) -> (u64, Option<u64>) {
        self.handed_in_queue().map_or((0, None), |handed| (handed.gone_back, Some(handed.tokens)))
    }

    /// Whether every request has been taken, but for those that wait for others.
    pub fn is_over(&self) -> bool {
        match &self.made {
            Some(Made::Turns(turns)) => return turns.is_over(),
            Some(Made::Handed(handed)) => return handed.is_over(),
            _ => {}
        }
        self.made_s().is_empty()
    }
}
