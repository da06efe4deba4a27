//! Session hash: the session alone decides which replica its turns go to, by rendezvous hashing. Nothing is
//! remembered: when a replica joins, about one session in as many as there are replicas now moves to it; when
//! one leaves, its sessions spread over the others.
//!
//! Source: the session router of the vLLM production stack keeps a hash ring of session keys and is as
//! stable; rendezvous hashing (Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998)
//! spreads as evenly as a ring of very many points. Remembered, not run. Requests without a session are
//! hashed one by one, as they come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Load, ReplicaId, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionHashSettings {}

impl RouterSettings for SessionHashSettings {
    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(SessionHash::default())
    }
}

#[derive(Debug, Default)]
struct SessionHash {
    /// Replicas that serve and their unfinished requests, in order of ids.
    serving: Vec<(Target, u32)>,
    /// Requests without a session so far.
    others: u64,
}

/// The finalizer of SplitMix64 over both numbers: every bit of either decides every bit of it.
fn weight(key: u64, replica: ReplicaId) -> u64 {
    let mut mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(replica.0).wrapping_add(1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

impl SessionHash {
    fn heaviest(&self, session: Option<u32>) -> Option<Target> {
        let key = session.map_or((self.others + 1) << 32, u64::from);
        self.serving.iter().map(|&(target, _)| target).max_by_key(|target| weight(key, target.id))
    }
}

impl GlobalScheduler for SessionHash {
    fn add(&mut self, target: Target) {
        self.serving.push((target, 0));
    }

    fn remove(&mut self, target: Target) {
        self.serving.retain(|(other, _)| *other != target);
    }

    fn route(&mut self, prefill_tokens: u32) -> Option<Target> {
        self.route_session(prefill_tokens, None)
    }

    fn route_session(&mut self, _prefill_tokens: u32, session: Option<u32>) -> Option<Target> {
        let target = self.heaviest(session);
        self.others += u64::from(session.is_none());
        target
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        session: Option<u32>,
    ) -> Option<Target> {
        self.heaviest(session)
    }

    fn reads_sessions(&self) -> bool {
        true
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.serving.iter().min_by_key(|(target, requests)| (*requests, target.id)).map(|(target, _)| *target)
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        if let Ok(at) = self.serving.binary_search_by_key(&target.id, |(target, _)| target.id) {
            self.serving[at].1 = load.requests;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lane;
    use super::*;

    fn target(id: u32) -> Target {
        Target { lane: Lane(id), id: ReplicaId(id) }
    }

    #[test]
    fn a_replica_that_joins_takes_its_share_and_no_other_session_moves() {
        let mut router = SessionHash::default();
        (0..4).for_each(|id| router.add(target(id)));
        let route = |router: &mut SessionHash| {
            (0..4000).map(|s| router.route_session(1, Some(s)).unwrap().id.0).collect::<Vec<_>>()
        };
        let before = route(&mut router);
        for id in 0..4 {
            let of_id = before.iter().filter(|&&at| at == id).count();
            assert!((900..1100).contains(&of_id), "{of_id} of 4,000 sessions on replica {id} of four");
        }
        router.add(target(4));
        let after = route(&mut router);
        let moved: Vec<u32> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|(_, &after)| after)
            .collect();
        assert!((700..900).contains(&moved.len()) && moved.iter().all(|&id| id == 4), "{}", moved.len());
        router.remove(target(4));
        assert_eq!(route(&mut router), before);
        let others: Vec<u32> = (0..400).map(|_| router.route(1).unwrap().id.0).collect();
        assert!((0..4).all(|id| others.iter().filter(|&&at| at == id).count() > 60));
    }
}
