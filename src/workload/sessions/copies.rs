//! Sessions copied, moved or left out as wholes: the same traffic, more or less of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::prefix_runs::Run;
use super::super::{Models, Workload};
use super::{Builder, Lanes, NewRequest, Sessions};

/// Of a run of tokens: not met in any session, or in several.
const UNMET: u32 = u32::MAX;
const SHARED: u32 = u32::MAX - 1;

impl Workload {
    /// When each session begins, or each request where there are none, in order.
    pub(in crate::workload) fn starts_s(&self) -> Cow<'_, [f64]> {
        let Some(sessions) = &self.sessions else { return Cow::Borrowed(&self.arrived_at_s) };
        let mut starts_s = Vec::with_capacity(sessions.len());
        for (&session, &at_s) in sessions.session.iter().zip(&self.arrived_at_s) {
            if session as usize == starts_s.len() {
                starts_s.push(at_s);
            }
        }
        Cow::Owned(starts_s)
    }
}

impl Sessions {
    /// A workload of sessions like those picked by number, each beginning at its time. Copies say things of
    /// their own, but for what several sessions have in common. Where sessions start as others end, there are
    /// `factor` times as many lanes.
    pub(in crate::workload) fn copied(&self, of: &Workload, picks: &[(f64, u32)], factor: f64) -> Workload {
        let starts_s = of.starts_s();
        let mut requests = vec![Vec::new(); self.len()];
        let mut waits = vec![Vec::new(); of.len()];
        for request in 0..of.len() as u32 {
            requests[self.session[request as usize] as usize].push(request);
            self.waiting_for(request).iter().for_each(|&next| waits[next as usize].push(request));
        }
        let owners = self.owners(of.len());
        let mut new_runs = owners.len() as u32;
        let lanes = self.lanes.map(|lanes| Lanes {
            number: ((f64::from(lanes.number) * factor).round() as u32).max(1),
            ..lanes
        });
        let mut builder = Builder {
            block_tokens: self.prompts.as_ref().map_or(0, |prompts| prompts.block_tokens()),
            lanes,
            patience_s: self.patience_s,
            duration_s: of.duration_s,
            ..Builder::default()
        };
        let mut of_request = Vec::new();
        let mut copied = vec![false; self.len()];
        let mut place = vec![0; of.len()];
        for (number, &(at_s, session)) in (0..).zip(picks) {
            let is_copy = std::mem::replace(&mut copied[session as usize], true);
            let (mut own, mut latest_in) = (BTreeMap::new(), BTreeMap::new());
            let moved_s = if lanes.is_some() { 0.0 } else { at_s - starts_s[session as usize] };
            for &request in &requests[session as usize] {
                let at = request as usize;
                place[at] = builder.len() as u32;
                let waits_for: Vec<u32> = waits[at].iter().map(|&before| place[before as usize]).collect();
                let moved_s = if waits_for.is_empty() { moved_s } else { 0.0 };
                let new = NewRequest {
                    session: number,
                    turn: self.turn[at],
                    waits_for: &waits_for,
                    pause_s: self.pause_s[at] + moved_s,
                    prefill_tokens: of.prefill_tokens[at],
                    decode_tokens: of.decode_tokens[at],
                };
                let (after, runs) = match &self.prompts {
                    Some(prompts) => {
                        let before = latest_in.insert(prompts.list(request), request);
                        prompts.by_behind(request, before.or(waits[at].first().copied()))
                    }
                    None => (None, &[][..]),
                };
                let rename = |&run: &Run| {
                    if !is_copy || owners[run.id as usize] == SHARED {
                        return run;
                    }
                    let id = *own.entry(run.id).or_insert_with(|| {
                        new_runs += 1;
                        new_runs - 1
                    });
                    Run { id, ..run }
                };
                builder.push(
                    new,
                    after.map(|before| place[before as usize]),
                    &runs.iter().map(rename).collect::<Vec<_>>(),
                );
                of_request.extend(of.models.as_ref().map(|models| models.of_request[at]));
                let told = &of.told;
                builder.tell(
                    told.max_new_tokens.as_ref().map(|column| column[at]),
                    told.priorities.as_ref().map(|column| column[at]),
                );
            }
        }
        builder.models = of.models.as_ref().map(|models| Models { names: models.names.clone(), of_request });
        let copies = builder.finish().expect("sessions that were in order before are so again");
        Workload { outputs: of.outputs.clone(), priorities: of.priorities.clone(), ..copies }
    }

    /// Of each run of tokens: the session that alone has it, or that several do.
    fn owners(&self, requests: usize) -> Vec<u32> {
        let Some(prompts) = &self.prompts else { return Vec::new() };
        let mut owners = Vec::new();
        for request in 0..requests as u32 {
            let session = self.session[request as usize];
            for run in prompts.of(request).runs {
                let at = run.id as usize;
                if owners.len() <= at {
                    owners.resize(at + 1, UNMET);
                }
                owners[at] = if owners[at] == UNMET || owners[at] == session { session } else { SHARED };
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::workload::{Workload, load};

    fn sessions(starts: serde_json::Value) -> Workload {
        let spec = json!({"name": "s", "sessions": {"starts": starts, "turns": {"geometric": {"mean": 3}}, "think_time_s": 2,
            "shared_prefix": {"groups": 2, "tokens": 100}, "lengths": {"fixed": {"prefill_tokens": 50, "decode_tokens": 10}},
            "subagents": {"every_turns": 2, "number": 2, "turns": {"fixed": {"turns": 2}},
                          "lengths": {"fixed": {"prefill_tokens": 70, "decode_tokens": 20}}}}});
        load(&serde_json::from_value(spec).unwrap(), 1, &[]).unwrap()
    }

    #[test]
    fn all_of_them_once_are_the_same() {
        for starts in [
            json!({"poisson": {"rate_per_s": 1, "duration_s": 100}}),
            json!({"concurrency": {"lanes": 3, "sessions": 40}}),
        ] {
            let before = sessions(starts);
            let picks: Vec<(f64, u32)> = before.starts_s().iter().copied().zip(0..).collect();
            assert_eq!(before.sessions.as_ref().unwrap().copied(&before, &picks, 1.0), before);
        }
    }

    #[test]
    fn more_traffic_is_more_sessions_and_the_same_turns() {
        let before = sessions(json!({"poisson": {"rate_per_s": 2, "duration_s": 300}}));
        for after in [before.thickened(1.5, 1).unwrap(), before.scaled(1.5, 1).unwrap()] {
            let ratio = |of: &dyn Fn(&Workload) -> usize| of(&after) as f64 / of(&before) as f64;
            let number = ratio(&|workload| workload.sessions.as_ref().unwrap().len());
            let requests = ratio(&Workload::len);
            assert!((1.4..1.6).contains(&number) && (requests - number).abs() < 0.1, "{number} {requests}");
            // What is said twice by a session and its copy is told apart; the first turns' shared prefix is
            // not.
            let runs = |workload: &Workload| {
                let prompts = workload.prompts().unwrap();
                let mut ids: Vec<u32> = (0..workload.len() as u32)
                    .flat_map(|request| prompts.of(request).runs.iter().map(|run| run.id))
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                ids.len()
            };
            assert_eq!((runs(&before), runs(&after)), (before.len() + 2, after.len() + 2));
        }
        assert!(before.resampled(1).unwrap().sessions.unwrap().len() > 400);
        assert!(before.scaled(0.5, 1).unwrap().len() < before.len() * 2 / 3);
        let lanes = sessions(json!({"concurrency": {"lanes": 10, "sessions": 400}}))
            .thickened(1.2, 1)
            .unwrap()
            .sessions
            .unwrap();
        assert_eq!(lanes.lanes.unwrap().number, 12);
        assert!((440..520).contains(&lanes.len()), "{}", lanes.len());
    }
}
