//! What each column of the tables of runs holds and means: its type, unit and description.
//!
//! Metrics are defined in [`metric`]; settings are found in the schemas of the grid file, with the words that
//! stand there. So the type of a column never depends on the runs of a sweep, and tables of several sweeps
//! can be put together.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::schema_for;
use serde_json::{Map, Value};

use crate::autoscaler::AutoscalerSettings;
use crate::simulation::ClusterSettings;
use crate::simulation::metric::{self, Better};
use crate::workload::WorkloadSpec;

/// Type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Float,
    Text,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub kind: Kind,
    /// Empty without one.
    pub unit: &'static str,
    pub description: String,
    /// Of metrics.
    pub better: Option<Better>,
}

/// Endings of names that are units, longer ones first.
const UNITS: [(&str, &str); 16] = [
    ("_usd_per_million_tokens", "US$ per million tokens"),
    ("_usd_per_month", "US$/month"),
    ("_usd_per_hour", "US$/h"),
    ("_usd_per_day", "US$/day"),
    ("_tokens_per_s", "tokens/s"),
    ("_gb_per_s", "GB/s"),
    ("_per_day", "1/day"),
    ("_per_s", "1/s"),
    ("_usd", "US$"),
    ("_tokens", "tokens"),
    ("_fraction", "fraction"),
    ("_hours", "h"),
    ("_us", "us"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("_percent", "%"),
];

/// The part of a name before its unit, and the unit as the name's ending says it; empty without one.
pub fn split_unit(name: &str) -> (&str, &'static str) {
    UNITS.iter().find_map(|(ending, unit)| Some((name.strip_suffix(ending)?, *unit))).unwrap_or((name, ""))
}

/// What the column called `name` holds, if it is known. Columns of axes within lists bear indices, which do
/// not matter.
pub fn definition(name: &str) -> Option<&'static Definition> {
    static DEFINITIONS: LazyLock<BTreeMap<String, Definition>> = LazyLock::new(definitions);
    DEFINITIONS.get(name).or_else(|| DEFINITIONS.get(&without_indices(name)))
}

fn without_indices(name: &str) -> String {
    let mut kept = String::new();
    let mut depth = 0;
    for c in name.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

/// Columns that are neither settings nor metrics.
const OTHERS: [(&str, Kind, &str); 22] = [
    (
        "run_id",
        Kind::Text,
        "Names the run: a hash of its settings, the content of its workload and hardware tables, and the results version.",
    ),
    ("workload", Kind::Text, "Name of the workload, with the values of its axes."),
    ("seed", Kind::Int, "Seed of the workload and of whatever is random in the cluster."),
    (
        "family",
        Kind::Text,
        "Policy family as reports name it: the policy, and the values of the `objectives.group_by` columns.",
    ),
    ("policy", Kind::Text, "The autoscaler's label, or its kind."),
    ("status", Kind::Text, "`ok` or `failed`."),
    ("error", Kind::Text, "Why the run failed."),
    ("device", Kind::Text, "Accelerator of the node."),
    ("devices_per_node", Kind::Int, "Accelerators of a node."),
    ("devices_per_replica", Kind::Int, "Accelerators of a replica: tensor parallel times pipeline parallel."),
    (
        "hv_contribution",
        Kind::Float,
        "What the hypervolume of the family's own front would lose without the run, a share of the reference box.",
    ),
    (
        "hv_contribution_joint",
        Kind::Float,
        "What the hypervolume of the joint front of all families would lose without the run.",
    ),
    ("role", Kind::Text, "Which setting of the verdict is tried: `best` or `runner_up`."),
    (
        "change",
        Kind::Text,
        "What is different: `traffic`, `other_seed`, `resampled_blocks`, `cold_start` or `step_times`.",
    ),
    ("amount", Kind::Float, "So many times as much; of other days the seed or the number of the draw."),
    ("found_by", Kind::Text, "`search`, or the id of the run that was taken over."),
    (
        "fluid_bound_usd",
        Kind::Float,
        "No schedule with this latency can cost less; null where no bound is known.",
    ),
    ("schedule", Kind::Text, "Pairs of seconds and replicas from then on (JSON)."),
    ("series", Kind::Text, "Name of the curve."),
    ("x", Kind::Float, "Time in seconds; of distributions the latency in seconds."),
    ("y", Kind::Float, "Value of the curve at x; of distributions the share of requests at or below it."),
    ("workload.name", Kind::Text, "Name of the workload."),
];

fn definitions() -> BTreeMap<String, Definition> {
    let mut settings = Settings::default();
    settings.read("", &schema_for!(ClusterSettings).to_value());
    settings.read("autoscaler", &schema_for!(AutoscalerSettings).to_value());
    settings.read("workload", &schema_for!(WorkloadSpec).to_value());
    let others = OTHERS.map(|(name, kind, description)| {
        (name.to_owned(), kind, description.to_owned(), split_unit(name).1, None)
    });
    let metrics = metric::all().iter().map(|metric| {
        let kind = if metric.is_count() { Kind::Int } else { Kind::Float };
        (metric.name.clone(), kind, metric.description.clone(), metric.unit, Some(metric.better))
    });
    let fixed = others.into_iter().chain(metrics);
    let fixed = fixed.map(|(name, kind, description, unit, better)| {
        (name, Definition { kind, unit, description, better })
    });
    settings.definitions().chain(fixed).collect()
}

/// Settings as they are found, by the names of their columns.
#[derive(Default)]
struct Settings {
    found: BTreeMap<String, Found>,
}

struct Found {
    kind: Kind,
    /// Whose setting it is, where a choice has several, and what it means there.
    meanings: Vec<(String, String)>,
}

impl Settings {
    fn read(&mut self, name: &str, schema: &Value) {
        let reading = Reading {
            definitions: schema["$defs"].as_object(),
            found: &mut self.found,
            owner: String::new(),
        };
        reading.read(name, schema, "");
    }

    fn definitions(self) -> impl Iterator<Item = (String, Definition)> {
        self.found.into_iter().map(|(name, found)| {
            let description = found.description();
            (
                name.clone(),
                Definition { kind: found.kind, unit: split_unit(&name).1, description, better: None },
            )
        })
    }
}

impl Found {
    /// What is said of it; with whose it is where that differs.
    fn description(&self) -> String {
        let said = self.meanings.iter().filter(|(_, meaning)| !meaning.is_empty()).collect::<Vec<_>>();
        match &said[..] {
            [] => String::new(),
            [(_, first), rest @ ..] if rest.iter().all(|(_, meaning)| meaning == first) => first.clone(),
            all => {
                all.iter().map(|(owner, meaning)| format!("{owner}: {meaning}")).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// Settings may contain settings of their own kind: deeper ones have no definition.
const MOST_LEVELS: usize = 8;

/// A walk through a schema.
struct Reading<'a> {
    definitions: Option<&'a Map<String, Value>>,
    found: &'a mut BTreeMap<String, Found>,
    /// The choice within which it is.
    owner: String,
}

impl Reading<'_> {
    fn within(&mut self, owner: &str) -> Reading<'_> {
        Reading { definitions: self.definitions, found: self.found, owner: owner.to_owned() }
    }

    fn add(&mut self, name: &str, kind: Kind, description: &str) {
        let meaning = (self.owner.clone(), description.replace('\n', " "));
        let found = self.found.entry(name.to_owned()).or_insert_with(|| Found { kind, meanings: Vec::new() });
        found.kind = match (found.kind, kind) {
            (one, other) if one == other => one,
            (Kind::Int, Kind::Float) | (Kind::Float, Kind::Int) => Kind::Float,
            _ => Kind::Text,
        };
        found.meanings.push(meaning);
    }

    fn read(mut self, name: &str, schema: &Value, said: &str) {
        if name.matches('.').count() > MOST_LEVELS {
            return;
        }
        let said = schema["description"].as_str().filter(|_| said.is_empty()).unwrap_or(said);
        if let Some(definition) =
            schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"))
        {
            if let Some(schema) = self.definitions.and_then(|definitions| definitions.get(definition)) {
                self.read(name, schema, said);
            }
            return;
        }
        if let Some(properties) = schema["properties"].as_object() {
            for (field, schema) in properties {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                let owner = self.owner.clone();
                self.within(&owner).read(&name, schema, "");
            }
            return;
        }
        if let Some(alternatives) = ["anyOf", "oneOf"].iter().find_map(|keyword| schema[keyword].as_array()) {
            for alternative in alternatives.iter().filter(|alternative| alternative["type"] != "null") {
                self.read_alternative(name, alternative, said);
            }
            return;
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
            }
            kind => kind.as_str().unwrap_or_default(),
        };
        match kind {
            "number" => self.add(name, Kind::Float, said),
            "integer" => self.add(name, Kind::Int, said),
            "boolean" => self.add(name, Kind::Bool, said),
            "array" => {
                self.add(name, Kind::Text, said);
                let owner = self.owner.clone();
                self.within(&owner).read(name, &schema["items"], "");
            }
            _ => self.add(name, Kind::Text, said),
        }
    }

    /// A choice `{"name": {settings}}` is a column of names; its settings stand beside, also under the
    /// choice's name where axes lead.
    fn read_alternative(&mut self, name: &str, alternative: &Value, said: &str) {
        let choice = alternative["properties"].as_object().filter(|properties| properties.len() == 1);
        let is_choice = alternative["additionalProperties"] == false
            && alternative["required"].as_array().is_some_and(|keys| keys.len() == 1);
        match choice.and_then(|properties| properties.iter().next()).filter(|_| is_choice) {
            Some((variant, settings)) => {
                self.within(variant).read_settings(name, settings);
                if name.starts_with("workload") {
                    self.within(variant).read(&format!("{name}.{variant}"), settings, "");
                }
            }
            None => {
                let owner = self.owner.clone();
                self.within(&owner).read(name, alternative, said);
            }
        }
    }

    /// The settings of a choice; a choice without settings has no columns.
    fn read_settings(self, name: &str, settings: &Value) {
        self.read(name, settings, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_types_of_the_grid_file() {
        let kind = |name: &str| definition(name).unwrap_or_else(|| panic!("{name}")).kind;
        for (name, expected) in [
            ("model", Kind::Text),
            ("node_price_usd_per_hour", Kind::Float),
            ("tensor_parallel", Kind::Int),
            ("global_scheduler", Kind::Text),
            ("replica_scheduler", Kind::Text),
            ("replica_scheduler.num_blocks", Kind::Int),
            ("replica_scheduler.watermark_blocks_fraction", Kind::Float),
            ("latency_limits.ttft_s", Kind::Float),
            ("failures.mean_time_to_crash_s", Kind::Float),
            ("cold_start.load_bandwidth_gb_per_s", Kind::Float),
            ("billing.drain", Kind::Bool),
            ("autoscaler", Kind::Text),
            ("autoscaler.look_back_s", Kind::Float),
            ("autoscaler.look_back_s.up", Kind::Float),
            ("autoscaler.replicas", Kind::Int),
            ("autoscaler.level", Kind::Float),
            ("workload.generate.arrivals.poisson.phases[1].rate_per_s", Kind::Float),
            ("workload.generate.lengths.fixed.prefill_tokens", Kind::Int),
            ("attainment", Kind::Float),
            ("num_rejected", Kind::Int),
            ("error", Kind::Text),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        assert_eq!(definition("autoscaler.no_such_setting"), None);
        assert_eq!(definition("latency_limits.ttft_s").unwrap().unit, "s");
        assert!(
            definition("max_replicas").unwrap().description.starts_with("Most replicas that serve or start")
        );
    }

    #[test]
    fn units_are_read_off_names() {
        let unit = |name| split_unit(name).1;
        assert_eq!(unit("node_price_usd_per_hour"), "US$/h");
        assert_eq!(unit("initial_replica_tokens_per_s"), "tokens/s");
        assert_eq!(unit("cost_usd_per_million_tokens"), "US$ per million tokens");
        assert_eq!(unit("replicas"), "");
    }
}
