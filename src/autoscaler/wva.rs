//! What both versions of llm-d's workload variant autoscaler (WVA) share: who carries its number out, and
//! scaling to zero.
//!
//! WVA only emits a number of replicas; an HPA (or the one KEDA creates) reads it as an external metric with
//! a target of 1 per replica and scales: within its tolerance of a tenth nothing happens, and its windows,
//! 240 s in the guide, hold both directions back.
//!
//! Source: llm-d/llm-d-workload-variant-autoscaler b08b1c77 (19 February 2026) and deanlorenz's fork 2976e4ee
//! (18 August 2026, after 0.9.0).

pub mod saturation;
pub mod throughput;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Decision;
use super::behavior::{BehaviorSettings, ScalingRules};
use super::horizontal::{Horizontal, HpaLoop};
use super::proportional::milli;
use super::scraped::Seen;
use crate::choice;
use crate::settings::Faults;

/// Window of the HPA in the guide, each way.
const GUIDE_WINDOW_S: f64 = 240.0;

/// Which release's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WvaVersion {
    /// b08b1c77.
    #[serde(rename = "2026-02")]
    February,
    /// 2976e4ee.
    #[default]
    #[serde(rename = "2026-08")]
    August,
}

impl WvaVersion {
    pub fn name(self) -> &'static str {
        match self {
            Self::February => "b08b1c77 (February 2026)",
            Self::August => "2976e4ee (August 2026)",
        }
    }
}

choice! {
    /// Who carries the number out.
    pub enum WvaCarrier {
        "hpa" => Hpa(HpaCarrier),
        "direct" => Direct(DirectCarrier),
    }
}

/// The HPA that reads the number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HpaCarrier {
    pub sync_interval_s: f64,
    pub behavior: Option<BehaviorSettings>,
}

/// Nobody: replicas follow at once, as if the number were theirs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DirectCarrier {}

impl Default for HpaCarrier {
    fn default() -> Self {
        let rules =
            || ScalingRules { stabilization_window_s: Some(GUIDE_WINDOW_S), ..ScalingRules::default() };
        Self {
            sync_interval_s: 15.0,
            behavior: Some(BehaviorSettings { scale_up: rules(), scale_down: rules() }),
        }
    }
}

impl Default for WvaCarrier {
    fn default() -> Self {
        Self::Hpa(HpaCarrier::default())
    }
}

impl WvaCarrier {
    pub fn check(&self, faults: &mut Faults) {
        if let Self::Hpa(HpaCarrier { behavior: Some(behavior), .. }) = self {
            faults.within("carrier.hpa.behavior", |faults| behavior.check(faults));
        }
    }

    /// How often it acts; the reconciliation's interval without one.
    pub fn sync_interval_s(&self, reconcile_interval_s: f64) -> f64 {
        match self {
            Self::Hpa(hpa) => hpa.sync_interval_s,
            Self::Direct(_) => reconcile_interval_s,
        }
    }
}

/// A number and who carries it out.
#[derive(Debug)]
pub struct Emitted {
    hpa: Option<Horizontal>,
    /// Replicas there should be by the latest reconciliation.
    pub target: Option<u32>,
}

impl Emitted {
    pub fn new(carrier: &WvaCarrier, least: u32, most: u32) -> Self {
        let hpa = match carrier {
            WvaCarrier::Direct(_) => None,
            WvaCarrier::Hpa(HpaCarrier { sync_interval_s, behavior }) => {
                let own_loop = HpaLoop {
                    sync_interval_s: *sync_interval_s,
                    behavior: behavior.clone(),
                    ..HpaLoop::default()
                };
                Some(Horizontal::new(&own_loop, least, most))
            }
        };
        Self { hpa, target: None }
    }

    /// What the carrier does about the number now; `reconciled` is whether it is new.
    pub fn carry(&mut self, now_s: f64, current: u32, reconciled: bool, sync: bool) -> Decision {
        let Some(target) = self.target else { return Decision::Hold };
        match &mut self.hpa {
            None if reconciled => Decision::towards(current, target),
            Some(hpa) if sync => {
                let proposal = hpa.proportion.by_average(milli(f64::from(target)), current, milli(1.0));
                Decision::towards(current, hpa.sync(now_s, current, [Some(proposal)]))
            }
            _ => Decision::Hold,
        }
    }
}

/// Whether there has been no request for so long that nothing is kept.
pub fn idle(seen: &Seen, after_s: Option<f64>) -> bool {
    let Some(after_s) = after_s else { return false };
    let (arrived, seconds) = seen.signals.growth(after_s, |counters| counters.arrived_requests);
    seconds >= after_s && arrived == 0.0 && seen.signals.outstanding_requests == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hpa_waits_for_its_window_and_ignores_a_tenth() {
        let mut emitted = Emitted::new(&WvaCarrier::default(), 1, 20);
        emitted.target = Some(10);
        assert_eq!(emitted.carry(0.0, 10, true, true), Decision::Hold);
        emitted.target = Some(11);
        assert_eq!(emitted.carry(300.0, 10, true, true), Decision::Hold, "a ratio of 1.1 is close enough");
        emitted.target = Some(14);
        let up: Vec<f64> = (0..40)
            .map(|step| 315.0 + 15.0 * f64::from(step))
            .filter(|&now_s| emitted.carry(now_s, 10, false, true) != Decision::Hold)
            .collect();
        assert_eq!(up[0], 540.0, "the lowest of 240 s");
        let mut direct = Emitted::new(&WvaCarrier::Direct(DirectCarrier {}), 1, 20);
        direct.target = Some(11);
        assert_eq!(
            (direct.carry(0.0, 10, false, true), direct.carry(0.0, 10, true, true)),
            (Decision::Hold, Decision::Up(1))
        );
    }
}
