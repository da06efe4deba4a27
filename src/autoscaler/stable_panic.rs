//! The rule of stable and panic windows, shared by Knative's KPA and AIBrix's.
//!
//! stable = ceil(stable value / target), panic = ceil(panic value / target), each within [floor(ready /
//! `max_scale_down_rate`), ceil(ready x `max_scale_up_rate`)]. Panic begins when the unclamped panic count is
//! at least `panic_threshold` times the ready replicas, and ends a stable window after that was last so. In
//! panic the larger of the two, and never less than the most in this panic; otherwise the stable one. A
//! policy that starts with more than one replica starts in panic.
//!
//! Source: knative/serving `pkg/autoscaler/scaling/autoscaler.go`.

/// The rule and its memory.
#[derive(Debug, Clone)]
pub struct StablePanic {
    pub target: f64,
    pub stable_window_s: f64,
    pub panic_threshold: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub activation_scale: u32,
    started: bool,
    panic_since_s: Option<f64>,
    most_in_panic: u32,
}

impl StablePanic {
    pub fn new(
        target: f64,
        stable_window_s: f64,
        panic_threshold: f64,
        max_scale_up_rate: f64,
        max_scale_down_rate: f64,
    ) -> Self {
        Self {
            target,
            stable_window_s,
            panic_threshold,
            max_scale_up_rate,
            max_scale_down_rate,
            activation_scale: 1,
            started: false,
            panic_since_s: None,
            most_in_panic: 0,
        }
    }

    pub fn panicking(&self) -> bool {
        self.panic_since_s.is_some()
    }

    /// From observed values and ready replicas to the desired count.
    pub fn desired(&mut self, now_s: f64, stable_value: f64, panic_value: f64, ready: u32) -> u32 {
        if !self.started {
            self.started = true;
            if ready > 1 {
                self.panic_since_s = Some(now_s);
                self.most_in_panic = ready;
            }
        }
        let at_least_one = f64::from(ready.max(1));
        let most = (self.max_scale_up_rate * at_least_one).ceil();
        let least = (at_least_one / self.max_scale_down_rate).floor();
        let for_value = |value: f64| {
            let unclamped = (value / self.target).ceil();
            let clamped = unclamped.max(least).min(most) as u32;
            (unclamped, if unclamped > 0.0 { clamped.max(self.activation_scale) } else { clamped })
        };
        let (_, stable) = for_value(stable_value);
        let (panic_unclamped, panic) = for_value(panic_value);
        if panic_unclamped / at_least_one >= self.panic_threshold {
            self.panic_since_s = Some(now_s);
        } else if self.panic_since_s.is_some_and(|since| since + self.stable_window_s < now_s) {
            self.panic_since_s = None;
            self.most_in_panic = 0;
        }
        if self.panic_since_s.is_none() {
            return stable;
        }
        self.most_in_panic = self.most_in_panic.max(stable.max(panic));
        self.most_in_panic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Past its start, with one ready replica.
    fn rule(max_scale_up_rate: f64) -> StablePanic {
        StablePanic { started: true, ..StablePanic::new(1.0, 60.0, 2.0, max_scale_up_rate, 2.0) }
    }

    /// After knative/serving `autoscaler_test.go`: twice the ready replicas begin a panic, in which nothing
    /// shrinks.
    #[test]
    fn panics_at_twice_the_ready_replicas() {
        let mut calm = rule(1000.0);
        assert_eq!(calm.desired(0.0, 10.0, 19.0, 10), 10);
        assert!(!calm.panicking());
        let mut panicking = rule(1000.0);
        assert_eq!(panicking.desired(0.0, 10.0, 100.0, 10), 100);
        assert_eq!(panicking.desired(2.0, 10.0, 50.0, 100), 100, "no scaling down in panic");
        assert_eq!(panicking.desired(60.0, 10.0, 10.0, 100), 100, "a stable window has not passed");
        assert_eq!(panicking.desired(60.5, 10.0, 10.0, 100), 50, "out of panic, at most halved");
    }

    /// The source's own comment: up rate 1.1, 3 wanted, 2 ready: ceil(2.2) lets the third in.
    #[test]
    fn slow_growth_adds_at_least_one() {
        assert_eq!(rule(1.1).desired(0.0, 3.0, 3.0, 2), 3);
    }

    #[test]
    fn starts_in_panic_with_several_replicas() {
        let mut started = StablePanic::new(1.0, 60.0, 2.0, 1000.0, 2.0);
        assert_eq!(started.desired(0.0, 0.0, 0.0, 6), 6);
        assert_eq!(started.desired(62.0, 0.0, 0.0, 6), 3);
    }

    /// Cases of AIBrix's `kpa_test.go`, target 10: both rates clamp, activation lifts, no load is zero.
    #[test]
    fn clamps_and_activation() {
        let case = |up, activation_scale, value, ready| {
            let mut rule = StablePanic { target: 10.0, panic_threshold: 1e9, activation_scale, ..rule(up) };
            rule.desired(0.0, value, value, ready)
        };
        assert_eq!(case(1.5, 1, 100.0, 2), 3);
        assert_eq!(case(2.0, 1, 5.0, 4), 2);
        assert_eq!(case(2.0, 1, 0.0, 1), 0);
        assert_eq!(case(2.0, 3, 15.0, 0), 3);
    }
}
