//! What the runs of a grid are judged by: whether they can have it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Grid;
use crate::settings::closest;
use crate::simulation::metric::Needs;
use crate::sweep::grid::source::{GridError, Problem};
use crate::sweep::tables::row::{DERIVED_COLUMNS, Scalar};
use crate::sweep::tables::settings::{autoscaler_columns, cluster_columns, workload_columns, workload_name};
use crate::workload::WorkloadSpec;

impl Grid {
    /// A problem with a field of `objectives`.
    pub fn objectives_problem(&self, field: &str, message: impl Into<String>) -> Problem {
        self.objectives_section.problem(&self.source, 0, field, message)
    }

    /// Whether runs can have what they are to be judged and grouped by.
    pub(super) fn check_objectives(&self) -> Result<(), GridError> {
        let mut problems = Vec::new();
        for (field, metric) in self.objectives.all_metrics() {
            let lacks_limits = |index: u64| !self.cluster.get(index).latency_limits.any();
            if [Needs::LatencyLimits, Needs::SessionsAndLimits].contains(&metric.needs)
                && (0..self.cluster.count()).any(lacks_limits)
            {
                let message = format!(
                    "`{}` needs {}, which say what a request has to keep: give `ttft_s`, `tpot_s` or `e2e_s` there",
                    metric.name, metric.needs
                );
                problems.push(self.objectives_problem(&field, message));
            }
        }
        for (field, metric) in self.objectives.all_metrics() {
            let caches = |index: u64| self.cluster.get(index).replica_scheduler.caches_prefixes();
            if [Needs::PrefixCaching, Needs::SessionsAndCaching].contains(&metric.needs)
                && !(0..self.cluster.count()).any(caches)
            {
                let message = format!(
                    "`{}` needs {}; no run of this grid caches: see `replica_scheduler`",
                    metric.name, metric.needs
                );
                problems.push(self.objectives_problem(&field, message));
            }
        }
        // What a trace holds is known once it is read.
        let may_have_sessions = |spec: &WorkloadSpec| {
            spec.sessions.is_some()
                || spec.trace.is_some()
                || spec.mix.iter().any(|part| part.generate.is_none())
        };
        let has_sessions = || {
            self.workloads
                .iter()
                .any(|section| (0..section.count()).any(|index| may_have_sessions(&section.get(index))))
        };
        for (field, metric) in self.objectives.all_metrics() {
            if [Needs::Sessions, Needs::SessionsAndLimits, Needs::SessionsAndCaching].contains(&metric.needs)
                && !has_sessions()
            {
                let message = format!(
                    "`{}` needs {}; no workload of this grid has them: see `sessions`",
                    metric.name, metric.needs
                );
                problems.push(self.objectives_problem(&field, message));
            }
        }
        let names = self.workload_names();
        for (metric, name) in
            self.objectives.constraints.workloads().filter(|(_, name)| !names.contains(*name))
        {
            let hint = match closest(name, names.iter().map(String::as_str)) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None => String::new(),
            };
            let known = names.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("no workload is called `{name}`, expected one of {known}{hint}");
            problems.push(self.objectives_problem(&format!("constraints.{metric}.{name}"), message));
        }
        for (place, name) in self.objectives.group_by.iter().enumerate() {
            if let Err(message) = self.check_group(name) {
                problems.push(self.objectives_problem(&format!("group_by[{place}]"), message));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(self.source.errors(problems)) }
    }

    /// Workloads as limits may name them: as the file calls them, and as rows do where they vary.
    fn workload_names(&self) -> BTreeSet<String> {
        let each = self.workloads.iter().flat_map(|section| {
            (0..section.count()).flat_map(|index| {
                let name = section.get(index).name;
                [workload_name(&name, &section.varying(index)), name]
            })
        });
        each.collect()
    }

    /// Whether some run has the setting called `name`.
    fn check_group(&self, name: &str) -> Result<(), String> {
        let mut known: BTreeSet<String> = DERIVED_COLUMNS.iter().map(|name| name.to_string()).collect();
        let mut has = |columns: Vec<(String, Scalar)>| {
            known.extend(columns.into_iter().map(|(name, _)| name));
            known.contains(name)
        };
        let found = (0..self.cluster.count()).any(|index| has(cluster_columns(&self.cluster.get(index))))
            || self.autoscalers.iter().any(|section| {
                (0..section.count()).any(|index| has(autoscaler_columns(&section.get(index).settings)))
            })
            || self.workloads.iter().any(|section| {
                (0..section.count()).any(|index| has(workload_columns(&section.varying(index))))
            });
        if found {
            return Ok(());
        }
        let meant = match closest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None => String::new(),
        };
        Err(format!(
            "no run has a setting `{name}`, expected the name of a column such as `global_scheduler`{meant}"
        ))
    }

    /// What of the grid decides which runs there are and how they end, as far as the file says: all but what
    /// they are judged by.
    pub fn of_runs(as_given: &Value) -> Value {
        let mut runs = as_given.clone();
        if let Some(members) = runs.as_object_mut() {
            members.retain(|key, _| !["objectives", "question", "$schema"].contains(&key.as_str()));
        }
        runs
    }
}
