//! One setting for all workloads: the cheapest that keeps the limits on each of them.

use std::collections::BTreeMap;

use super::{Runs, Standing, Verdict, dollars, key};
use crate::sweep::tables::names::{counted, percent_small};

/// What one setting for every workload with limits comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    pub workloads: Vec<String>,
    /// Settings that ran on all of them.
    pub tried: usize,
    /// Those of them that keep the limits on all.
    pub keeping: usize,
    /// The cheapest of these, by the mean over workloads of the grid's cost objective; of equals the one with
    /// the most room.
    pub best: Option<Shared>,
    /// Where there is none: the setting that keeps the limits on most workloads, of equals the cheapest.
    pub nearest: Option<Shared>,
    /// US$ a month, the mean over workloads, if each had the setting that is cheapest there; None where one
    /// has none.
    pub apart_usd_per_month: Option<f64>,
}

/// A setting on all workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// Its place in [`Verdict::settings`] of each workload.
    pub places: Vec<usize>,
    /// Workloads on which it keeps the limits.
    pub kept_on: usize,
    /// The smallest margin to any limit on any of them; None where a run lacks a metric.
    pub margin: Option<f64>,
    /// Means over workloads; None if one lacks them.
    pub cost: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
}

/// None with limits on one workload alone, and where no setting ran on all.
pub fn joint<R: Runs + ?Sized>(runs: &R, settings: &[String], verdicts: &[Verdict]) -> Option<Joint> {
    let [first, others @ ..] = verdicts else { return None };
    let key_of = |standing: &Standing| key(runs, standing.rows[0], settings);
    let places_of = |verdict: &Verdict| -> BTreeMap<String, usize> {
        verdict.settings.iter().enumerate().map(|(place, standing)| (key_of(standing), place)).collect()
    };
    let elsewhere: Vec<_> = others.iter().map(places_of).collect();
    let shared: Vec<Shared> = (first.settings.iter().enumerate())
        .filter_map(|(place, standing)| {
            let key = key_of(standing);
            let others: Option<Vec<usize>> =
                elsewhere.iter().map(|places| places.get(&key).copied()).collect();
            Some(Shared::new(std::iter::once(place).chain(others?).collect(), verdicts))
        })
        .collect();
    if others.is_empty() || shared.is_empty() {
        return None;
    }
    let cost = |shared: &Shared| shared.cost.unwrap_or(f64::INFINITY);
    let room = |shared: &Shared| shared.margin.unwrap_or(f64::NEG_INFINITY);
    let cheaper = |a: &Shared, b: &Shared| cost(a).total_cmp(&cost(b)).then(room(b).total_cmp(&room(a)));
    let keeps = |shared: &&Shared| shared.kept_on == verdicts.len();
    let best =
        shared.iter().filter(keeps).filter(|shared| shared.cost.is_some()).min_by(|a, b| cheaper(a, b));
    let nearest = shared.iter().min_by(|a, b| b.kept_on.cmp(&a.kept_on).then(cheaper(a, b)));
    Some(Joint {
        workloads: verdicts.iter().map(|verdict| verdict.workload.clone()).collect(),
        tried: shared.len(),
        keeping: shared.iter().filter(keeps).count(),
        best: best.cloned(),
        nearest: nearest.filter(|_| best.is_none()).cloned(),
        apart_usd_per_month: mean(
            verdicts.iter().map(|verdict| verdict.settings[verdict.best?].cost_usd_per_month),
        ),
    })
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

impl Shared {
    fn new(places: Vec<usize>, verdicts: &[Verdict]) -> Self {
        let standings = || verdicts.iter().zip(&places).map(|(verdict, &place)| &verdict.settings[place]);
        Self {
            margin: standings().map(Standing::margin).reduce(|a, b| Some(a?.min(b?))).flatten(),
            kept_on: standings().filter(|standing| standing.keeps()).count(),
            cost: mean(standings().map(|standing| standing.cost)),
            cost_usd_per_month: mean(standings().map(|standing| standing.cost_usd_per_month)),
            places,
        }
    }
}

impl Joint {
    /// The setting that is named, and whether it keeps the limits everywhere.
    pub fn named(&self) -> Option<(&Shared, bool)> {
        self.best.as_ref().map(|best| (best, true)).or(self.nearest.as_ref().map(|nearest| (nearest, false)))
    }

    /// In a sentence; `name` says which setting is meant. `verdicts` are those it was made of.
    pub fn sentence(&self, verdicts: &[Verdict], name: &dyn Fn(&Standing) -> String) -> String {
        let on = format!("On all {} workloads together", self.workloads.len());
        let Some((shared, keeps)) = self.named() else { return format!("{on}: no setting ran on each.") };
        let name = name(&verdicts[0].settings[shared.places[0]]);
        let month = shared
            .cost_usd_per_month
            .map_or(String::new(), |month| format!(", {} a month, the mean over workloads", dollars(month)));
        if !keeps {
            let broken: Vec<String> = (verdicts.iter().zip(&shared.places))
                .filter(|(verdict, place)| !verdict.settings[**place].keeps())
                .map(|(verdict, _)| format!("`{}`", verdict.workload))
                .collect();
            let tried = counted(self.tried, "setting");
            let most = format!(
                "{name} keeps them on {} of {}, not on {}",
                shared.kept_on,
                self.workloads.len(),
                broken.join(", ")
            );
            return format!("{on}: none of {tried} keeps the limits on each; {most}{month}.");
        }
        let others = match self.keeping {
            1 => format!("the only one of {}", counted(self.tried, "setting")),
            keeping => format!("the cheapest of the {keeping} settings, of {} tried,", self.tried),
        };
        let verb = if self.keeping == 1 { "keeps" } else { "keep" };
        let more = match (shared.cost_usd_per_month, self.apart_usd_per_month) {
            (Some(month), Some(apart)) if month > apart * (1.0 + 5e-4) => {
                format!("; {} more than a setting of its own for each", percent_small(month / apart - 1.0))
            }
            _ => String::new(),
        };
        format!("{on}: {name} is {others} that {verb} the limits on each{month}{more}.")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sweep::objectives::Objectives;
    use crate::sweep::tables::row::{RunRow, Scalar};

    /// (workload, target, P99 TTFT, cost)
    fn judged(samples: &[(&str, f64, f64, f64)]) -> (Vec<Verdict>, Option<Joint>) {
        let row = |&(workload, target, ttft, cost): &(&str, f64, f64, f64)| {
            let columns = [
                ("workload", Scalar::Text(workload.into())),
                ("policy", Scalar::Text("keda".into())),
                ("status", Scalar::Text("ok".into())),
                ("autoscaler.target", Scalar::Float(target)),
                ("p99_ttft_s", Scalar::Float(ttft)),
                ("total_cost_usd", Scalar::Float(cost)),
                ("cost_usd_per_month", Scalar::Float(30.0 * cost)),
            ];
            RunRow { columns: columns.map(|(name, value)| (name.to_owned(), value)).into() }
        };
        let rows: Vec<RunRow> = samples.iter().map(row).collect();
        let constraints = serde_json::from_value(json!({"p99_ttft_s": 2})).unwrap();
        let settings = ["autoscaler.target".to_owned()];
        let verdicts = verdicts(&rows[..], &settings, &Objectives { constraints, ..Objectives::default() });
        let joint = joint(&rows[..], &settings, &verdicts);
        (verdicts, joint)
    }

    use super::super::verdicts;

    fn said(samples: &[(&str, f64, f64, f64)]) -> String {
        let (verdicts, joint) = judged(samples);
        joint.unwrap().sentence(&verdicts, &|standing| format!("`{}`", standing.policy))
    }

    #[test]
    fn the_cheapest_that_keeps_the_limits_on_each() {
        // Target 2 is cheapest on a and breaks the limit on b; target 4 ran on a alone.
        let samples = [
            ("a", 1.0, 1.0, 9.0),
            ("a", 2.0, 1.5, 5.0),
            ("b", 1.0, 1.9, 7.0),
            ("b", 2.0, 3.0, 4.0),
            ("a", 4.0, 1.0, 1.0),
        ];
        let (_, joint) = judged(&samples);
        let joint = joint.unwrap();
        assert_eq!((joint.tried, joint.keeping), (2, 1));
        let best = joint.best.unwrap();
        assert_eq!((best.places, best.cost_usd_per_month), (vec![0, 0], Some(240.0)));
        // Apart: 1 and 7.
        assert_eq!(joint.apart_usd_per_month, Some(120.0));
        assert_eq!(
            said(&samples),
            "On all 2 workloads together: `keda` is the only one of 2 settings that keeps the limits on each, US$ 240 a month, the mean over \
             workloads; 100 % more than a setting of its own for each."
        );
    }

    #[test]
    fn where_none_does_the_one_that_keeps_most() {
        let samples =
            [("a", 1.0, 3.0, 9.0), ("a", 2.0, 1.5, 5.0), ("b", 1.0, 3.0, 7.0), ("b", 2.0, 3.0, 4.0)];
        let said = said(&samples);
        assert!(
            said.contains("none of 2 settings keeps the limits on each; `keda` keeps them on 1 of 2, not on `b`, US$ 135 a month"),
            "{said}"
        );
    }

    #[test]
    fn nothing_is_said_of_one_workload() {
        assert_eq!(judged(&[("a", 1.0, 1.0, 9.0), ("a", 2.0, 1.5, 5.0)]).1, None);
        assert_eq!(judged(&[("a", 1.0, 1.0, 9.0), ("b", 2.0, 1.5, 5.0)]).1, None, "no setting ran on both");
    }
}
