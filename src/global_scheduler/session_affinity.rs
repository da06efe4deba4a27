//! Session affinity: a turn goes where the turn before it went, as long as that replica serves; sessions
//! begin where the fewest requests are unfinished.
//!
//! Source: sticky sessions as load balancers have them by cookie (NGINX Plus `sticky`, Envoy's stateful
//! sessions); to leave a replica that is busier than others by so many requests is SGLang's router's rule
//! (`balance_abs_threshold`, 64, of its `cache_aware` policy, which asks `balance_rel_threshold`, 1.5,
//! besides: read in copies of `cache_aware.rs`). Cookies are remembered; neither was run.
//!
//! Where a workload has no sessions, and where the replica is gone or drains, the request goes to the replica
//! with the fewest unfinished requests, ties to the lowest id; the session stays there from then on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::least_loaded::LeastLoaded;
use super::{GlobalScheduler, Load, ReplicaId, RouterSettings, Target};
use crate::settings::Faults;
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionAffinitySettings {
    /// A session leaves its replica for the least loaded one when it has more than so many unfinished
    /// requests more than that. It never does if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_extra_requests: Option<u32>,
}

impl RouterSettings for SessionAffinitySettings {
    fn check(&self, _faults: &mut Faults) {}

    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(SessionAffinity {
            most_extra_requests: self.most_extra_requests,
            ..SessionAffinity::default()
        })
    }
}

/// A session without a replica.
#[derive(Debug, Default)]
struct SessionAffinity {
    most_extra_requests: Option<u32>,
    loads: LeastLoaded,
    /// Of replicas that serve, in order of ids: unfinished requests.
    serving: Vec<(Target, u32)>,
    /// The replica of each session, by id.
    home: Vec<ReplicaId>,
}

impl SessionAffinity {
    fn serving(&self, id: ReplicaId) -> Option<(Target, u32)> {
        self.serving.binary_search_by_key(&id, |(target, _)| target.id).ok().map(|at| self.serving[at])
    }

    fn target_of(&mut self, session: usize) -> Option<Target> {
        let (least, least_requests) = self.loads.least()?;
        let stays = self.serving(self.home.get(session).copied().unwrap_or(ReplicaId::NOWHERE)).filter(
            |&(_, requests)| {
                self.most_extra_requests.is_none_or(|most| requests <= least_requests.saturating_add(most))
            },
        );
        Some(stays.map_or(least, |(target, _)| target))
    }
}

impl GlobalScheduler for SessionAffinity {
    fn add(&mut self, target: Target) {
        self.loads.set(target, 0);
        // Ids grow in order of joining.
        self.serving.push((target, 0));
    }

    fn remove(&mut self, target: Target) {
        self.loads.remove(target);
        self.serving.retain(|(other, _)| *other != target);
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        self.choose_drain()
    }

    fn route_session(&mut self, prefill_tokens: u32, session: Option<u32>) -> Option<Target> {
        let Some(session) = session.map(|session| session as usize) else {
            return self.route(prefill_tokens);
        };
        let target = self.target_of(session)?;
        if session >= self.home.len() {
            self.home.resize((session + 1).next_power_of_two(), ReplicaId::NOWHERE);
        }
        self.home[session] = target.id;
        Some(target)
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        session: Option<u32>,
    ) -> Option<Target> {
        match session {
            Some(session) => self.target_of(session as usize),
            None => self.choose_drain(),
        }
    }

    fn reads_sessions(&self) -> bool {
        true
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.loads.least().map(|(target, _)| target)
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        self.loads.set(target, load.requests);
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
        Target { lane: Lane(10 + id), id: ReplicaId(id) }
    }

    fn router(settings: SessionAffinitySettings) -> Box<dyn GlobalScheduler> {
        let mut router = settings.build(1, 16);
        (0..3).for_each(|id| router.add(target(id)));
        router
    }

    fn load(router: &mut Box<dyn GlobalScheduler>, id: u32, requests: u32) {
        router.set_load(target(id), Load { requests, prefill_tokens: 0 });
    }

    #[test]
    fn sessions_stay_where_they_are_until_their_replica_goes() {
        let mut router = router(SessionAffinitySettings::default());
        assert_eq!(router.route_session(9, Some(7)).unwrap().id.0, 0);
        load(&mut router, 0, 50);
        assert_eq!(router.route_session(9, Some(7)).unwrap().id.0, 0, "however busy it is");
        assert_eq!(
            router.route_session(9, Some(3)).unwrap().id.0,
            1,
            "a new one goes where least is to be done"
        );
        assert_eq!(router.route_session(9, None).unwrap().id.0, 1);
        router.remove(target(0));
        load(&mut router, 1, 1);
        assert_eq!(router.route_session(9, Some(7)).unwrap().id.0, 2);
        load(&mut router, 2, 9);
        assert_eq!(router.route_session(9, Some(7)).unwrap().id.0, 2, "its new place");
    }

    #[test]
    fn sessions_leave_who_is_too_busy() {
        let mut router = router(SessionAffinitySettings { most_extra_requests: Some(4) });
        assert_eq!(router.route_session(9, Some(0)).unwrap().id.0, 0);
        load(&mut router, 0, 4);
        assert_eq!(router.route_session(9, Some(0)).unwrap().id.0, 0);
        load(&mut router, 0, 5);
        assert_eq!(router.route_session(9, Some(0)).unwrap().id.0, 1);
    }
}
