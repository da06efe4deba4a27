//! Which replica a request goes to, and which replica is drained first: one file a policy, one line here.

mod bounded_round_robin;
mod least_kv;
mod least_outstanding;
mod least_tokens;
mod least_loaded;
mod power_of_two;
mod prefix_aware;
mod random;
mod round_robin;
mod session_affinity;
mod session_hash;

pub use bounded_round_robin::BoundedRoundRobinSettings;
pub use least_kv::LeastKvSettings;
pub use least_outstanding::LeastOutstandingSettings;
pub use least_tokens::LeastTokensSettings;
pub use power_of_two::PowerOfTwoSettings;
pub use prefix_aware::PrefixAwareSettings;
pub use random::RandomSettings;
pub use round_robin::RoundRobinSettings;
pub use session_affinity::SessionAffinitySettings;
pub use session_hash::SessionHashSettings;

use crate::choice;
pub use crate::replica_scheduler::{Lane, ReplicaId};
use crate::settings::Faults;
use crate::workload::Prompt;

choice! {
    /// How requests are routed to replicas.
    pub enum GlobalSchedulerSettings: RouterSettings {
        "round_robin" => RoundRobin(RoundRobinSettings),
        "bounded_round_robin" => BoundedRoundRobin(BoundedRoundRobinSettings),
        "random" => Random(RandomSettings),
        "least_outstanding" => LeastOutstanding(LeastOutstandingSettings),
        "least_tokens" => LeastTokens(LeastTokensSettings),
        "power_of_two" => PowerOfTwo(PowerOfTwoSettings),
        "least_kv" => LeastKv(LeastKvSettings),
        "prefix_aware" => PrefixAware(PrefixAwareSettings),
        "session_affinity" => SessionAffinity(SessionAffinitySettings),
        "session_hash" => SessionHash(SessionHashSettings),
    }
}

impl Default for GlobalSchedulerSettings {
    fn default() -> Self {
        Self::RoundRobin(RoundRobinSettings {})
    }
}

impl GlobalSchedulerSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| self.settings().check(faults));
    }

    /// Whether requests go where there is less to do.
    pub fn sees_load(&self) -> bool {
        !matches!(self, Self::RoundRobin(_) | Self::Random(_))
    }
}

/// What the settings of every global scheduler can do.
pub trait RouterSettings {
    /// Reports values that make no sense.
    fn check(&self, _faults: &mut Faults) {}

    /// The rule itself, with random draws of its own under `seed`, for replicas with KV blocks of
    /// `block_size_tokens`.
    fn build(&self, seed: u64, block_size_tokens: u32) -> Box<dyn GlobalScheduler>;

    /// Whether the same requests may be routed differently under another seed.
    fn draws(&self) -> bool {
        false
    }
}

/// A replica that may be given requests: where it is stored, and who it is. Ids grow in order of joining and
/// are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub lane: Lane,
    pub id: ReplicaId,
}

/// What was routed to a replica and is not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub requests: u32,
    /// Prompts of these requests. A router cannot know how much they will generate.
    pub prefill_tokens: u64,
}

/// The rule by which requests are spread over the replicas that serve. Draining replicas are removed and
/// never come back.
pub trait GlobalScheduler: Send {
    fn add(&mut self, target: Target);

    fn remove(&mut self, target: Target);

    /// Where the next request goes, whose prompt has `prefill_tokens`; `None` without replicas.
    fn route(&mut self, prefill_tokens: u32) -> Option<Target>;

    /// The same for a prompt of which the hash blocks may be known.
    #[inline]
    fn route_prompt(&mut self, prefill_tokens: u32, _prompt: Option<Prompt>) -> Option<Target> {
        self.route(prefill_tokens)
    }

    /// Whether hash blocks should be known to [`Self::route_prompt`].
    fn reads_prompts(&self) -> bool {
        false
    }

    /// The same for a request of which the session may be known.
    #[inline]
    fn route_session(&mut self, prefill_tokens: u32, _session: Option<u32>) -> Option<Target> {
        self.route(prefill_tokens)
    }

    /// Whether sessions should be known to [`Self::route_session`].
    fn reads_sessions(&self) -> bool {
        false
    }

    /// Where a request would go if it came now, of which nothing is taken down.
    fn would_route(
        &mut self,
        prefill_tokens: u32,
        prompt: Option<Prompt>,
        session: Option<u32>,
    ) -> Option<Target>;

    /// Which replica is drained if none is idle; `None` without replicas.
    fn choose_drain(&mut self) -> Option<Target>;

    /// Whether [`Self::set_load`] is of interest.
    fn observes_load(&self) -> bool {
        false
    }

    /// The load of a replica has changed, because of a route or an end.
    fn set_load(&mut self, _target: Target, _load: Load) {}

    /// What the rule remembers beyond the replicas there are, in order, and their loads, if that is a number:
    /// a run that is resumed has it handed back in [`Self::go_to`]. None if it is more than that.
    fn position(&self) -> Option<u64> {
        None
    }

    /// Goes on from a position.
    fn go_to(&mut self, _position: u64) {}

    /// How often [`Self::report_kv`] is wanted, if at all.
    fn scrape_interval_s(&self) -> Option<f64> {
        None
    }

    /// A replica reports the KV blocks it has in use.
    fn report_kv(&mut self, _target: Target, _used_blocks: u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is foreseen is what happens, and foreseeing changes nothing.
    #[test]
    fn where_a_request_would_go_is_where_it_goes() {
        for name in GlobalSchedulerSettings::NAMES {
            let settings: GlobalSchedulerSettings = serde_json::from_value(serde_json::json!(name)).unwrap();
            let [mut asked, mut other] = [0, 1].map(|_| settings.settings().build(7, 16));
            assert_eq!(asked.would_route(10, None, None), None, "{name}: without replicas");
            for id in 0..4 {
                [&mut asked, &mut other]
                    .iter_mut()
                    .for_each(|router| router.add(Target { lane: Lane(id), id: ReplicaId(id) }));
            }
            for request in 0..200_u32 {
                let (tokens, session) = (10 + request % 7, request % 13);
                let foreseen =
                    (0..3).map(|_| asked.would_route(tokens, None, Some(session))).last().flatten();
                let [gone, gone_there] =
                    [&mut asked, &mut other].map(|router| match router.reads_sessions() {
                        true => router.route_session(tokens, Some(session)),
                        false => router.route_prompt(tokens, None),
                    });
                assert_eq!((foreseen, gone), (gone_there, gone_there), "{name}: request {request}");
                let load = Load { requests: request * 7 % 5, prefill_tokens: u64::from(request * 7 % 50) };
                for router in [&mut asked, &mut other].into_iter().filter(|router| router.observes_load()) {
                    router.set_load(gone.unwrap(), load);
                }
            }
        }
    }
}
