//! Which program, at which version, a policy stands for, and how far that was checked: printed wherever
//! results are shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

use super::{
    AutoscalerSettings, ExternalSettings, FleetRule, LocalPolicies, PerPoolSettings, ScheduleSettings,
    ScheduleStep, StaticSettings,
};

/// How a policy's rule was held against the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The program itself was run on given inputs, and every decision compared.
    Run,
    /// Written after the program's source, its own tests' cases included; the program was not run.
    Ported,
    /// Written after its documentation or paper.
    Read,
    /// From memory in some part that matters.
    Memory,
    /// No program to compare with: the rule is ours.
    Ours,
}

impl Checked {
    pub fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ported => "ported",
            Self::Read => "read",
            Self::Memory => "memory",
            Self::Ours => "ours",
        }
    }
}

/// What a policy stands for. Texts are for people and may contain Markdown's backticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// The program, or the paper.
    pub program: &'static str,
    /// The version or commit whose rule it is.
    pub version: &'static str,
    pub checked: Checked,
    /// What the program does, with these settings, that is left out here; empty if nothing is known.
    pub left_out: &'static str,
    /// The setting that moves it between cheap and fast.
    pub knob: &'static str,
    /// What it goes by, and how old that is when it decides.
    pub signals: &'static str,
    /// What it cannot see.
    pub blind_to: &'static str,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { program, version, checked, left_out, .. } = self;
        write!(f, "{program}")?;
        if !version.is_empty() {
            write!(f, " {version}")?;
        }
        if *checked != Checked::Ours {
            write!(f, " ({})", checked.word())?;
        }
        if !left_out.is_empty() {
            write!(f, "; left out: {left_out}")?;
        }
        Ok(())
    }
}

/// Every policy of the registry with its defaults, or with the least that has to be said.
pub fn every_policy() -> impl Iterator<Item = AutoscalerSettings> {
    AutoscalerSettings::NAMES.iter().map(|&name| match name {
        "static" => AutoscalerSettings::Static(StaticSettings { replicas: 1 }),
        "schedule" => AutoscalerSettings::Schedule(ScheduleSettings {
            steps: vec![ScheduleStep { at_s: 0.0, replicas: 1 }],
            period_s: 86_400.0,
            lead_s: 0.0,
        }),
        "external" => AutoscalerSettings::External(ExternalSettings {
            command: vec!["policy".into()],
            settings: serde_json::Map::new(),
            timeout_s: 10.0,
            program_blake3: None,
        }),
        "per_pool" => AutoscalerSettings::PerPool(PerPoolSettings(one_pool())),
        "fleet" => AutoscalerSettings::Fleet(FleetRule::Independent(LocalPolicies { pools: one_pool() })),
        name => AutoscalerSettings::deserialize(StrDeserializer::<serde::de::value::Error>::new(name))
            .expect("a policy has defaults"),
    })
}

fn one_pool() -> BTreeMap<String, AutoscalerSettings> {
    BTreeMap::from([("pool".into(), AutoscalerSettings::Static(StaticSettings { replicas: 1 }))])
}

/// A policy of a sweep, as records keep it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The family it is shown as.
    pub family: String,
    /// Its name in the registry.
    pub policy: String,
    pub program: String,
    pub version: String,
    pub checked: String,
    pub left_out: String,
}

impl PolicyRecord {
    pub fn new(family: &str, settings: &AutoscalerSettings) -> Self {
        let Upstream { program, version, checked, left_out, .. } = settings.settings().upstream();
        Self {
            family: family.into(),
            policy: settings.name().into(),
            program: program.into(),
            version: version.into(),
            checked: checked.word().into(),
            left_out: left_out.into(),
        }
    }
}

impl fmt::Display for PolicyRecord {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { family, policy, program, version, checked, left_out } = self;
        write!(f, "{family}")?;
        if family != policy {
            write!(f, " ({policy})")?;
        }
        write!(f, ": {program}")?;
        if !version.is_empty() {
            write!(f, " {version}")?;
        }
        if checked != Checked::Ours.word() {
            write!(f, ", {checked}")?;
        }
        if !left_out.is_empty() {
            write!(f, "; left out: {left_out}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_says_what_it_stands_for() {
        for settings in every_policy() {
            let upstream = settings.settings().upstream();
            let Upstream { program, version, checked, knob, signals, blind_to, .. } = upstream;
            assert!(![program, signals, blind_to].contains(&""), "{}", settings.name());
            assert_eq!(version.is_empty(), checked == Checked::Ours, "{}: {version}", settings.name());
            let fields = serde_json::to_value(&settings).unwrap();
            // What is made of other policies has their knobs.
            let is_made_of_others = knob == "those of its policies";
            assert!(
                is_made_of_others || fields[settings.name()].get(knob).is_some(),
                "{} has no setting `{knob}`",
                settings.name()
            );
        }
    }

    #[test]
    fn records_read_as_a_line() {
        let chosen: AutoscalerSettings =
            serde_json::from_str("\"static\"").unwrap_or_else(|_| every_policy().next().unwrap());
        assert_eq!(PolicyRecord::new("two", &chosen).to_string(), "two (static): a fixed number of replicas");
    }
}
