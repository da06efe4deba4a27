//! Knative's way to zero: when the last replica may go, and what the activator has to do with it.
//!
//! A revision is activating until a replica is ready, then active. Zero wanted: it stays at one until it has
//! been active for a stable window, is then marked inactive, and goes once the activator has been in the path
//! of requests for the grace period. The activator is in the path whenever there is less capacity than the
//! target burst (with the default of 211 requests always, for small fleets) or the revision is inactive:
//! where it has been for long, zero comes three seconds after it is wanted.
//!
//! Source: knative/serving `pkg/reconciler/autoscaling/kpa/scaler.go` (`handleScaleToZero`), run.

/// What the autoscaler's status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Activating,
    Active,
    Inactive,
}

/// What a revision may do on its way to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToZero {
    pub stable_window_s: f64,
    pub grace_period_s: f64,
    /// Least time that the last replica is kept after the revision has become inactive.
    pub retention_s: f64,
    pub enabled: bool,
}

/// What is to be done about a wish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Replicas; `None` while it cannot be said.
    pub replicas: Option<u32>,
    /// Whether these are carried out; zero that is not marks the revision inactive.
    pub applied: bool,
    /// When to ask again if nothing changes.
    pub again_after_s: Option<f64>,
}

/// How long a revision may be activating: the progress deadline of 600 s and a margin.
const ACTIVATION_TIMEOUT_S: f64 = 630.0;
/// The activator was in the path already: nothing else would wake the reconciler.
pub const ALREADY_PROXIED_S: f64 = 3.0;

impl ToZero {
    /// `in_path` is whether a probe finds the activator, `proxied_s` how long it has been there.
    pub fn judge(&self, phase: Phase, since_s: f64, in_path: bool, proxied_s: f64, desired: u32) -> Verdict {
        let verdict =
            |replicas, applied, again_after_s| Verdict { replicas: Some(replicas), applied, again_after_s };
        if desired > 0 {
            return verdict(desired, true, None);
        }
        if !self.enabled {
            return verdict(1, true, None);
        }
        match phase {
            Phase::Activating if since_s > ACTIVATION_TIMEOUT_S => verdict(0, true, None),
            Phase::Activating => {
                Verdict { replicas: None, applied: false, again_after_s: Some(ACTIVATION_TIMEOUT_S) }
            }
            Phase::Active if since_s >= self.stable_window_s => verdict(0, false, None),
            Phase::Active => verdict(1, true, Some(self.stable_window_s - since_s)),
            Phase::Inactive if !in_path => verdict(0, false, None),
            Phase::Inactive if since_s >= self.grace_period_s.max(self.retention_s) => verdict(0, true, None),
            Phase::Inactive if since_s < self.retention_s => {
                verdict(0, false, Some(self.retention_s - since_s))
            }
            Phase::Inactive if proxied_s >= self.grace_period_s => verdict(0, true, None),
            Phase::Inactive => verdict(0, false, Some(self.grace_period_s - proxied_s)),
        }
    }
}

/// A revision's status over time.
#[derive(Debug, Clone)]
pub struct Revision {
    to_zero: ToZero,
    phase: Phase,
    since_s: f64,
    proxied_since_s: Option<f64>,
    again_at_s: Option<f64>,
    /// What the reconciler last saw: the wish, and whether anything is ready.
    seen: Option<(u32, bool)>,
}

impl Revision {
    pub fn new(to_zero: ToZero) -> Self {
        Self {
            to_zero,
            phase: Phase::Activating,
            since_s: 0.0,
            proxied_since_s: None,
            again_at_s: None,
            seen: None,
        }
    }

    fn enter(&mut self, now_s: f64, phase: Phase) {
        if self.phase != phase {
            (self.phase, self.since_s) = (phase, now_s);
        }
    }

    /// Replicas there should be for a wish, from those there are. `short` is whether there is less capacity
    /// than the target burst.
    pub fn reconcile(&mut self, now_s: f64, current: u32, ready: u32, desired: u32, short: bool) -> u32 {
        if ready > 0 && self.phase == Phase::Activating {
            self.enter(now_s, Phase::Active);
        }
        let proxied = short || ready == 0 || self.phase == Phase::Inactive;
        self.proxied_since_s = if proxied { self.proxied_since_s.or(Some(now_s)) } else { None };
        let seen = (desired, ready > 0);
        let due = self.again_at_s.is_some_and(|at_s| at_s <= now_s) || self.seen != Some(seen);
        if !due {
            return if desired > 0 { desired } else { current };
        }
        (self.seen, self.again_at_s) = (Some(seen), None);
        if desired > 0 && self.phase == Phase::Inactive {
            self.enter(now_s, if ready > 0 { Phase::Active } else { Phase::Activating });
        }
        if desired == 0 && current == 0 {
            self.enter(now_s, Phase::Inactive);
            return 0;
        }
        let proxied_s = self.proxied_since_s.map_or(0.0, |since_s| now_s - since_s);
        let verdict = self.to_zero.judge(self.phase, now_s - self.since_s, proxied, proxied_s, desired);
        self.again_at_s = verdict.again_after_s.map(|after_s| now_s + after_s);
        match verdict.replicas {
            None => current,
            Some(replicas) if verdict.applied => replicas,
            Some(_) => {
                if self.phase != Phase::Inactive {
                    self.again_at_s = Some(now_s + ALREADY_PROXIED_S);
                    self.enter(now_s, Phase::Inactive);
                    self.proxied_since_s = self.proxied_since_s.or(Some(now_s));
                }
                current
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: ToZero =
        ToZero { stable_window_s: 60.0, grace_period_s: 30.0, retention_s: 0.0, enabled: true };

    /// One replica from 0 s on, busy until 100 s: when it goes.
    fn gone_at_s(to_zero: ToZero, short: bool) -> Option<f64> {
        let mut revision = Revision::new(to_zero);
        (0..400).map(f64::from).find(|&now_s| {
            let desired = u32::from(now_s < 100.0);
            revision.reconcile(now_s, 1, 1, desired, short) == 0
        })
    }

    #[test]
    fn the_grace_period_is_short_where_the_activator_has_long_been_in_the_path() {
        assert_eq!(gone_at_s(DEFAULTS, true), Some(103.0));
        assert_eq!(
            gone_at_s(DEFAULTS, false),
            Some(130.0),
            "it comes into the path when the revision becomes inactive"
        );
        assert_eq!(gone_at_s(ToZero { retention_s: 90.0, ..DEFAULTS }, true), Some(190.0));
        assert_eq!(gone_at_s(ToZero { enabled: false, ..DEFAULTS }, true), None);
        assert_eq!(
            gone_at_s(ToZero { stable_window_s: 120.0, ..DEFAULTS }, true),
            Some(123.0),
            "never before a stable window of activity"
        );
    }

    #[test]
    fn a_request_on_the_way_to_zero_starts_the_wait_anew() {
        let mut revision = Revision::new(DEFAULTS);
        revision.reconcile(0.0, 1, 1, 1, true);
        assert_eq!(revision.reconcile(100.0, 1, 1, 0, true), 1);
        assert_eq!(revision.reconcile(102.0, 1, 1, 1, true), 1);
        assert_eq!(revision.reconcile(104.0, 1, 1, 0, true), 1);
        assert_eq!(revision.reconcile(107.0, 1, 1, 0, true), 1, "active since 102 s");
        assert_eq!(revision.reconcile(162.0, 1, 1, 0, true), 1);
        assert_eq!(revision.reconcile(165.0, 1, 1, 0, true), 0);
    }
}
