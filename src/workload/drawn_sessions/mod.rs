//! Sessions drawn from distributions.
//!
//! Everything is drawn before a run begins, session after session and turn after turn, from streams of its
//! own: numbers of turns, lengths, think times. First turns have the lengths that open requests have under
//! the same seed.

mod settings;

use std::path::PathBuf;

use rand_xoshiro::Xoshiro256PlusPlus;

pub use self::settings::SessionSpec;
use self::settings::{Concurrency, History, Loop, SharedPrefix, Starts, Subagents};
use super::error::WorkloadError;
use super::lengths::Lengths;
use super::prefix_runs::Run;
use super::sessions::{Builder, Lanes, NewRequest};
use super::{MAX_REQUESTS, MAX_TOKENS, TraceNotes, Workload};
use crate::random;
use crate::settings::Faults;

/// Draws a workload from checked settings, or says what is wrong with what was drawn.
pub(in crate::workload) fn generate(
    spec: &SessionSpec,
    seed: u64,
    base_dirs: &[PathBuf],
    notes: &mut Vec<TraceNotes>,
    faults: &mut Faults,
) -> Result<Workload, WorkloadError> {
    let (starts_s, duration_s, lanes) = match (&spec.starts, spec.starts.arrivals()) {
        (_, Some(arrivals)) => {
            let (starts_s, duration_s) = arrivals.generate(seed, base_dirs, notes)?;
            (starts_s, duration_s, None)
        }
        (&Starts::Concurrency(Concurrency { lanes, sessions, ramp_s }), _) => {
            (vec![0.0; sessions as usize], None, Some(Lanes { number: lanes, ramp_s }))
        }
        (_, None) => unreachable!("only `concurrency` is no arrivals"),
    };
    let mut random = random::stream(seed, "workload.sessions.turns");
    let turns: Vec<u32> = starts_s.iter().map(|_| spec.turns.draw(&mut random)).collect();
    let of_agents =
        spec.subagents.as_ref().map(|agents| AgentTurns::draw(agents, &turns, seed)).unwrap_or_default();
    let requests = turns.iter().map(|&turns| u64::from(turns)).sum::<u64>() + of_agents.sum;
    if requests > MAX_REQUESTS as u64 {
        faults.add(
            "turns",
            format!("{requests} requests in {} sessions drawn, expected at most {MAX_REQUESTS}", turns.len()),
        );
        return Ok(Workload::default());
    }
    let later = requests as usize - of_agents.sum as usize - turns.len();
    let mut builder = Builder::new(1, lanes);
    (builder.patience_s, builder.duration_s) = (spec.patience_s, duration_s);
    let mut drawer = Drawer {
        spec,
        first: lengths(
            spec.first_lengths.as_ref().unwrap_or(&spec.lengths),
            turns.len(),
            seed,
            base_dirs,
            notes,
        )?,
        later: lengths(
            &spec.lengths,
            later,
            random::derived(seed, "workload.sessions.later_turns"),
            base_dirs,
            notes,
        )?,
        of_agents: match &spec.subagents {
            Some(agents) => {
                let seed = random::derived(seed, "workload.sessions.subagents.lengths");
                lengths(&agents.lengths, of_agents.sum as usize, seed, base_dirs, notes)?
            }
            None => Pairs::default(),
        },
        think_time: random::stream(seed, "workload.sessions.think_time"),
        tool_time: random::stream(seed, "workload.sessions.subagents.tool_time"),
        agents: of_agents.turns.into_iter(),
        builder,
        groups: spec.shared_prefix.map_or(0, |shared| shared.groups),
        too_long: None,
    };
    for (session, (&start_s, &turns)) in (0..).zip(starts_s.iter().zip(&turns)) {
        drawer.session(session, start_s, turns);
    }
    if let Some((session, tokens)) = drawer.too_long {
        faults.add(
            "max_context_tokens",
            format!("missing, and a turn of session {session} has {tokens} tokens, expected at most {MAX_TOKENS}; cut sessions by it"),
        );
        return Ok(Workload::default());
    }
    Ok(drawer.builder.finish().expect("turns wait for those before them"))
}

/// Lengths one after the other.
#[derive(Default)]
struct Pairs(std::vec::IntoIter<(u32, u32)>);

impl Pairs {
    fn next(&mut self) -> (u32, u32) {
        self.0.next().expect("as many as there are turns")
    }
}

fn lengths(
    lengths: &Lengths,
    requests: usize,
    seed: u64,
    base_dirs: &[PathBuf],
    notes: &mut Vec<TraceNotes>,
) -> Result<Pairs, WorkloadError> {
    let mut of_lengths = Vec::new();
    let (prefill_tokens, decode_tokens) = lengths.generate(requests, seed, base_dirs, &mut of_lengths)?;
    notes.extend(of_lengths.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    Ok(Pairs(prefill_tokens.into_iter().zip(decode_tokens).collect::<Vec<_>>().into_iter()))
}

/// How many turns each agent has, in the order in which agents start in each session.
#[derive(Default)]
struct AgentTurns {
    turns: Vec<u32>,
    sum: u64,
}

impl AgentTurns {
    fn draw(agents: &Subagents, turns: &[u32], seed: u64) -> Self {
        let mut random = random::stream(seed, "workload.sessions.subagents.turns");
        let mut drawn = Self::default();
        for &turns in turns {
            for _ in 0..u64::from(turns.saturating_sub(1) / agents.every_turns) * u64::from(agents.number) {
                let turns = agents.turns.draw(&mut random);
                drawn.turns.push(turns);
                drawn.sum += u64::from(turns);
                if drawn.sum > MAX_REQUESTS as u64 {
                    return drawn;
                }
            }
        }
        drawn
    }
}

struct Drawer<'s> {
    spec: &'s SessionSpec,
    first: Pairs,
    later: Pairs,
    of_agents: Pairs,
    think_time: Xoshiro256PlusPlus,
    tool_time: Xoshiro256PlusPlus,
    agents: std::vec::IntoIter<u32>,
    builder: Builder,
    groups: u32,
    /// A session with a turn that is too long to be counted, and its tokens.
    too_long: Option<(u32, u64)>,
}

/// Turns one after the other.
struct Chain {
    session: u32,
    /// What every turn's prompt begins with.
    shared: Option<Run>,
    /// The turn that the next one's prompt goes on after.
    latest: Option<u32>,
    /// What was said so far.
    tokens: u64,
    /// Turns so far.
    turns: u32,
    /// Whether the next one would be too long.
    over: bool,
}

impl Drawer<'_> {
    fn begin(&self, session: u32) -> Chain {
        let shared = self
            .spec
            .shared_prefix
            .map(|SharedPrefix { groups, tokens }| Run { id: session % groups, end: tokens });
        Chain {
            session,
            shared,
            latest: None,
            tokens: shared.map_or(0, |run| run.end.into()),
            turns: 0,
            over: false,
        }
    }

    /// Adds the next turn of a chain; returns its number unless it would be too long, or one before was.
    fn turn(
        &mut self,
        chain: &mut Chain,
        (new_tokens, decode_tokens): (u32, u32),
        waits_for: &[u32],
        pause_s: f64,
    ) -> Option<u32> {
        if self.spec.history == History::None {
            chain.latest = None;
            chain.tokens = chain.shared.map_or(0, |run| run.end.into());
        }
        let prefill_tokens = chain.tokens + u64::from(new_tokens);
        let tokens = prefill_tokens + u64::from(decode_tokens);
        chain.over |= self.spec.max_context_tokens.is_some_and(|most| tokens > most.into());
        if chain.over {
            return None;
        }
        if tokens > MAX_TOKENS.into() {
            self.too_long.get_or_insert((chain.session, tokens));
            chain.over = true;
            return None;
        }
        let number = self.builder.len() as u32;
        chain.tokens = tokens;
        chain.turns += 1;
        let open_s = if let Loop::Open(open) = self.spec.closing { Some(open.answer_s) } else { None };
        let (waits_for, pause_s) = match open_s {
            // It comes by the clock: when it would have come had each answer taken so long.
            Some(answer_s) => {
                let before_s = waits_for
                    .iter()
                    .map(|&before| self.builder.pause_s(before) + answer_s)
                    .fold(0.0, f64::max);
                (&[][..], before_s + pause_s)
            }
            None => (waits_for, pause_s),
        };
        let turn = if open_s.is_some() || self.spec.subagents.is_none() { chain.turns } else { 0 };
        let request = NewRequest {
            session: chain.session,
            turn,
            waits_for,
            pause_s,
            prefill_tokens: prefill_tokens as u32,
            decode_tokens,
        };
        let own = Run { id: self.groups + number, end: tokens as u32 };
        let begins = chain.shared.filter(|_| chain.latest.is_none());
        match begins {
            Some(shared) => self.builder.push(request, None, &[shared, own]),
            None => self.builder.push(request, chain.latest, &[own]),
        }
        chain.latest = Some(number);
        Some(number)
    }

    /// Draws whatever the session has, even beyond what makes it too long: so the next session has draws of
    /// its own.
    fn session(&mut self, session: u32, start_s: f64, turns: u32) {
        let mut chain = self.begin(session);
        let first = self.first.next();
        let mut before: Vec<u32> = self.turn(&mut chain, first, &[], start_s).into_iter().collect();
        for turn in 1..turns {
            let lengths = self.later.next();
            let think_s = self.spec.think_time_s.draw(&mut self.think_time);
            if let Some(agents) = &self.spec.subagents
                && turn % agents.every_turns == 0
            {
                before = self.run_agents(agents, &chain, &before);
            }
            before = self.turn(&mut chain, lengths, &before, think_s).into_iter().collect();
        }
    }

    /// Adds the agents that the latest turn starts; returns their last turns, or that turn where an agent has
    /// none.
    fn run_agents(&mut self, agents: &Subagents, chain: &Chain, started_by: &[u32]) -> Vec<u32> {
        let mut last = Vec::new();
        for _ in 0..agents.number {
            let turns = self.agents.next().expect("as many as there are agents");
            let mut agent = self.begin(chain.session);
            agent.over = chain.over;
            let mut before = started_by.to_vec();
            for _ in 0..turns {
                let lengths = self.of_agents.next();
                let tool_s = agents.tool_time_s.draw(&mut self.tool_time);
                if let Some(number) = self.turn(&mut agent, lengths, &before, tool_s) {
                    before = vec![number];
                }
            }
            last.extend(before);
        }
        last.sort_unstable();
        last.dedup();
        last
    }
}
