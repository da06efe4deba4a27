//! An entry of `autoscalers`: the policy, and what may stand beside it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Grid, Settings, strict};
use crate::autoscaler::AutoscalerSettings;
use crate::settings::{Fault, Faults, quoted};
use crate::simulation::ClusterSettings;
use crate::simulation::fleet::Pool;
use crate::sweep::grid::source::Problem;

/// What may stand beside an autoscaler's choice.
pub const BESIDE_AUTOSCALER: [&str; 4] = ["label", "min_replicas", "max_replicas", "initial_replicas"];

/// An autoscaler, the label its runs are grouped under if not by its kind, and its own bounds on replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AutoscalerEntry {
    pub label: Option<String>,
    pub bounds: ReplicaBounds,
    pub settings: AutoscalerSettings,
}

/// Bounds that stand in an autoscaler's own file rather than with the cluster; the cluster's where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct ReplicaBounds {
    pub min_replicas: Option<u32>,
    pub max_replicas: Option<u32>,
    pub initial_replicas: Option<u32>,
}

impl ReplicaBounds {
    /// The name of one that is given, if any is.
    fn first_given(self) -> Option<&'static str> {
        let named = [
            ("min_replicas", self.min_replicas),
            ("max_replicas", self.max_replicas),
            ("initial_replicas", self.initial_replicas),
        ];
        named.into_iter().find_map(|(name, bound)| bound.map(|_| name))
    }

    /// The cluster with these bounds. What it begins with is moved within them unless they say what.
    #[must_use]
    pub fn on(self, mut cluster: ClusterSettings) -> ClusterSettings {
        if self != Self::default() {
            cluster.change(|cluster| {
                cluster.min_replicas = self.min_replicas.unwrap_or(cluster.min_replicas);
                cluster.max_replicas = self.max_replicas.unwrap_or(cluster.max_replicas);
                let within = |replicas: u32| replicas.min(cluster.max_replicas).max(cluster.min_replicas);
                cluster.initial_replicas =
                    self.initial_replicas.unwrap_or_else(|| within(cluster.initial_replicas));
            });
        }
        cluster
    }
}

impl AutoscalerEntry {
    /// The policy family in tables and fronts.
    pub fn family(&self) -> &str {
        self.label.as_deref().unwrap_or(self.settings.name())
    }
}

/// `{"label": .., "min_replicas": .., "inferline": {..}}`: what stands beside the choice is split off before
/// it is parsed.
impl Settings for AutoscalerEntry {
    fn parse(mut value: Value) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        #[derive(Deserialize)]
        struct Beside {
            label: Option<String>,
            min_replicas: Option<u32>,
            max_replicas: Option<u32>,
            initial_replicas: Option<u32>,
        }
        let mut split_off = |key: &str| value.as_object_mut().and_then(|object| object.shift_remove(key));
        let beside = BESIDE_AUTOSCALER.map(|key| (key.to_owned(), split_off(key).unwrap_or_default()));
        let Beside { label, min_replicas, max_replicas, initial_replicas } =
            strict(Value::Object(beside.into_iter().collect()))?;
        let bounds = ReplicaBounds { min_replicas, max_replicas, initial_replicas };
        Ok(Self { label, bounds, settings: strict(value)? })
    }

    fn check(&self, faults: &mut Faults) {
        if let Some(label) = &self.label {
            faults.require(!label.trim().is_empty(), "label", || {
                "an empty label found, expected a name".into()
            });
            faults.require(!label.contains(char::is_control), "label", || {
                format!("{label:?} found, expected a name without line breaks and other control characters")
            });
        }
        if let (AutoscalerSettings::Static(_), Some(field)) = (&self.settings, self.bounds.first_given()) {
            faults.add(
                field,
                "found beside `static`, which has its `replicas` whatever the bounds; leave it out",
            );
        }
        self.settings.check(faults);
    }
}

impl Grid {
    /// Policies of pools have to go with every cluster's.
    pub(super) fn check_pools(&self, problems: &mut Vec<Problem>) {
        for section in &self.autoscalers {
            let mut seen = BTreeSet::new();
            for index in 0..section.count() {
                let settings = section.get(index).settings;
                let named: Vec<String> = settings.pools().into_iter().map(str::to_owned).collect();
                let rule = match &settings {
                    AutoscalerSettings::Fleet(rule) => Some(rule),
                    _ => None,
                };
                // What a rule asks of clusters does not depend on its pools' policies.
                let alone = rule.map(|rule| {
                    let mut alone = serde_json::json!(rule);
                    alone[rule.name()]["pools"].take();
                    alone.to_string()
                });
                if named.is_empty() || !seen.insert((named.clone(), alone)) {
                    continue;
                }
                for combination in 0..self.cluster.count() {
                    let cluster = self.cluster.get(combination);
                    if let Some((rule, message)) =
                        rule.and_then(|rule| Some((rule, cluster.cannot_share(rule)?)))
                    {
                        problems.push(section.problem(
                            &self.source,
                            index,
                            &format!("fleet.{}", rule.name()),
                            &message,
                        ));
                        return;
                    }
                    let pools: Vec<&str> = cluster.pools.iter().map(|pool| pool.name.as_str()).collect();
                    let Some(unknown) = named.iter().find(|name| !pools.contains(&name.as_str())) else {
                        continue;
                    };
                    let message = match pools.is_empty() {
                        true => {
                            "found without `cluster.pools`: give the pools, or one policy without `per_pool`"
                                .to_owned()
                        }
                        false => format!(
                            "no pool `{unknown}` in `cluster.pools`, expected one of {}",
                            quoted(&pools)
                        ),
                    };
                    let path = format!("{}.{unknown}", settings.name());
                    problems.push(section.problem(&self.source, index, &path, message));
                    return;
                }
            }
        }
    }

    /// A label is no name of a policy that stands in the file under that name.
    pub(super) fn check_labels(&self, problems: &mut Vec<Problem>) {
        let entries: Vec<AutoscalerEntry> = self.autoscalers.iter().map(|section| section.get(0)).collect();
        let unlabelled: BTreeSet<&str> =
            entries.iter().filter(|entry| entry.label.is_none()).map(|entry| entry.settings.name()).collect();
        for (section, entry) in self.autoscalers.iter().zip(&entries) {
            if let Some(label) = entry
                .label
                .as_deref()
                .filter(|label| *label != entry.settings.name() && unlabelled.contains(label))
            {
                let message = format!(
                    "`{label}` found, which is also another policy of this file: both would be one family; choose another label"
                );
                problems.push(section.problem(&self.source, 0, "label", message));
            }
        }
    }

    /// Fixed pools have to fit into the budget, as what other pools begin with has to.
    pub(super) fn check_budgets(&self, problems: &mut Vec<Problem>) {
        let first = self.cluster.get(0);
        for section in &self.autoscalers {
            for index in 0..section.count() {
                let settings = section.get(index).settings;
                let is_fixed =
                    |pool: &Pool| matches!(settings.of_pool(&pool.name), Some(AutoscalerSettings::Static(_)));
                if !first.pools.iter().any(is_fixed) {
                    continue;
                }
                for mut cluster in (0..self.cluster.count())
                    .map(|index| self.cluster.get(index))
                    .filter(|cluster| cluster.budget.is_some())
                {
                    for pool in &mut cluster.pools {
                        if let Some(AutoscalerSettings::Static(fixed)) = settings.of_pool(&pool.name) {
                            let initial_replicas = fixed.replicas;
                            *pool = pool.clone().map(|own| ClusterSettings { initial_replicas, ..own });
                        }
                    }
                    let mut faults = Faults::default();
                    cluster.check(&mut faults);
                    if let Some(fault) = faults.found.iter().find(|fault| fault.path.starts_with("budget.")) {
                        let message = format!(
                            "fixed pools do not fit into `cluster.{}`: {}",
                            fault.path, fault.message
                        );
                        problems.push(section.problem(&self.source, index, settings.name(), message));
                        return;
                    }
                }
            }
        }
    }

    /// An autoscaler's own bounds have to go with those of every cluster it meets.
    pub(super) fn check_bounds(&self, problems: &mut Vec<Problem>) {
        for section in &self.autoscalers {
            let mut seen = BTreeSet::new();
            for index in 0..section.count() {
                let bounds = section.get(index).bounds;
                if bounds == ReplicaBounds::default() || !seen.insert(bounds) {
                    continue;
                }
                for combination in 0..self.cluster.count() {
                    let mut faults = Faults::default();
                    bounds.on(self.cluster.get(combination)).check(&mut faults);
                    let own = |fault: &&Fault| BESIDE_AUTOSCALER.contains(&fault.path.as_str());
                    if let Some(fault) = faults.found.iter().find(own) {
                        problems.push(section.problem(
                            &self.source,
                            index,
                            &fault.path,
                            fault.message.clone(),
                        ));
                        return;
                    }
                }
            }
        }
    }
}
