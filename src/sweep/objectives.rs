//! What a sweep is judged by: the two columns of the front, the reference point, the grouping of runs into
//! families.

pub mod constraints;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::constraints::Constraints;
use crate::settings::{Faults, closest};
use crate::simulation::metric::{self, Better, Metric};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Metric to minimise on one axis, such as `p90_e2e_s`; docs/metrics.md lists all.
    pub latency: String,
    /// Metric to minimise on the other, such as `total_cost_usd`.
    pub cost: String,
    /// The reference point of hypervolumes. Without one, each workload's lies a tenth beyond the worst values
    /// on the fronts of its families, which makes scores incomparable with other sweeps.
    pub reference: Option<Reference>,
    /// Further columns (such as `global_scheduler`) that tell families apart.
    pub group_by: Vec<String>,
    /// Limits that a setting has to keep, such as `{"p99_ttft_s": 2, "attainment": 0.99}`: the verdict is the
    /// cheapest that keeps all of them under every seed. For workloads apart: `{"p99_ttft_s": {"chat": 2,
    /// "batch": 20}}`.
    #[serde(skip_serializing_if = "Constraints::is_empty")]
    pub constraints: Constraints,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Latency beyond which a run does not count.
    pub latency: f64,
    /// Cost beyond which a run does not count.
    pub cost: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            latency: "p90_e2e_s".into(),
            cost: "total_cost_usd".into(),
            reference: None,
            group_by: Vec::new(),
            constraints: Constraints::default(),
        }
    }
}

impl Objectives {
    /// All metrics that runs are judged by, with the fields that name them.
    pub fn all_metrics(&self) -> impl Iterator<Item = (String, &'static Metric)> {
        self.metrics()
            .into_iter()
            .map(|(field, metric)| (field.to_owned(), metric))
            .chain(self.constraints.known_metrics())
    }

    /// The metrics of the two axes, with the fields that name them. Objectives must have passed their checks.
    pub fn metrics(&self) -> [(&'static str, &'static Metric); 2] {
        [("latency", &self.latency), ("cost", &self.cost)]
            .map(|(field, name)| (field, metric::find(name).expect("a checked objective")))
    }

    pub fn check(&self, faults: &mut Faults) {
        for (field, name) in [("latency", &self.latency), ("cost", &self.cost)] {
            if let Err(reason) = to_minimise(name) {
                faults.add(field, reason);
            }
        }
        faults.require(self.latency != self.cost, "cost", || {
            format!("`{}` found, which is the other objective already; expected another metric", self.cost)
        });
        if let Some(reference) = self.reference {
            faults.within("reference", |faults| {
                faults.positive("latency", reference.latency);
                faults.positive("cost", reference.cost);
            });
        }
        faults.within("constraints", |faults| self.constraints.check(faults));
    }
}

/// Why a metric cannot be minimised, if it cannot.
fn to_minimise(name: &str) -> Result<(), String> {
    let metric = known(name)?;
    let instead =
        if name == "attainment" { ", its complement `violation_rate` can be minimised" } else { "" };
    match metric.better {
        Better::Less => Ok(()),
        Better::More => Err(format!(
            "`{name}` found, of which more is better, and objectives are minimised; expected a metric of which less is better{instead}"
        )),
        Better::Neither => Err(format!(
            "`{name}` found, of which neither less nor more is better; expected a metric such as `p90_e2e_s` or `total_cost_usd`"
        )),
    }
}

/// The metric called `name`; the error says which may have been meant.
pub fn known(name: &str) -> Result<&'static Metric, String> {
    metric::find(name).ok_or_else(|| {
        let meant = closest(name, metric::all().iter().map(|metric| metric.name.as_str()));
        let hint = meant.map_or("docs/metrics.md lists all".into(), |meant| format!("did you mean `{meant}`?"));
        format!("unknown metric `{name}`, expected one such as `p90_e2e_s`, `p99_ttft_s` or `total_cost_usd`; {hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(latency: &str, cost: &str) -> Vec<String> {
        let objectives = Objectives { latency: latency.into(), cost: cost.into(), ..Objectives::default() };
        let mut faults = Faults::default();
        objectives.check(&mut faults);
        faults.found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    /// Whatever the metric: it is minimised if less of it is better, and refused by name otherwise.
    #[test]
    fn only_what_is_better_when_it_is_less_can_be_minimised() {
        for metric in metric::all() {
            let found = faults(
                &metric.name,
                if metric.name == "total_cost_usd" { "node_hours" } else { "total_cost_usd" },
            );
            assert_eq!(found.is_empty(), metric.better == Better::Less, "{found:?}");
            assert!(
                found
                    .iter()
                    .all(|fault| fault.starts_with(&format!("latency: `{}` found, of which", metric.name))),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_likely_name() {
        let found = faults("p99_tfft_s", "total_costs_usd");
        assert!(
            found[0].contains("`p99_tfft_s`") && found[0].ends_with("did you mean `p99_ttft_s`?"),
            "{found:?}"
        );
        assert!(found[1].ends_with("did you mean `total_cost_usd`?"), "{found:?}");
        assert_eq!(faults("node_hours", "node_hours").len(), 1);
    }
}
