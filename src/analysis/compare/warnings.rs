//! What a reader has to know before believing a comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::contestants::{cluster_settings, values};
use super::{Comparison, Sweep};
use crate::settings::quoted;

/// Workloads with the same arrivals under several seeds, as traces have: their seeds are no independent
/// samples.
pub fn workloads_without_chance(sweeps: &[Sweep]) -> BTreeSet<String> {
    let mut fingerprints: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<&str>)> = BTreeMap::new();
    for workload in sweeps.iter().flat_map(|sweep| &sweep.manifest.workloads) {
        let (seeds, contents) = fingerprints.entry(&workload.name).or_default();
        seeds.insert(workload.seed);
        contents.insert(&workload.fingerprint);
    }
    let same =
        fingerprints.into_iter().filter(|(_, (seeds, contents))| seeds.len() > 1 && contents.len() == 1);
    same.map(|(name, _)| name.to_owned()).collect()
}

pub fn find(sweeps: &[Sweep], comparison: &Comparison, same_arrivals: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let first = &sweeps[0];
    for sweep in &sweeps[1..] {
        let (a, b) = (&first.label, &sweep.label);
        let (of_a, of_b) = (&first.manifest, &sweep.manifest);
        if of_a.results_version != of_b.results_version {
            found.push(format!(
                "Results versions differ: {} in {a}, {} in {b}. The same settings may give other numbers; run the older sweep again.",
                of_a.results_version, of_b.results_version
            ));
        }
        let hardware = |manifest: &crate::sweep::store::manifest::Manifest| {
            manifest.hardware.iter().cloned().collect::<BTreeSet<_>>()
        };
        if hardware(of_a) != hardware(of_b) {
            let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
                let lines = these.difference(those).map(String::as_str).collect::<Vec<_>>();
                if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") }
            };
            let (in_a, in_b) = (hardware(of_a), hardware(of_b));
            found.push(format!(
                "Hardware differs: only in {a}: {}; only in {b}: {}.",
                only(&in_a, &in_b),
                only(&in_b, &in_a)
            ));
        }
        let fingerprints =
            of_a.workloads.iter().map(|workload| ((&workload.name, workload.seed), &workload.fingerprint));
        let known = fingerprints.collect::<BTreeMap<_, _>>();
        let differs = |workload: &&crate::sweep::plan::WorkloadSummary| {
            known
                .get(&(&workload.name, workload.seed))
                .is_some_and(|fingerprint| **fingerprint != workload.fingerprint)
        };
        let different = of_b
            .workloads
            .iter()
            .filter(differs)
            .map(|workload| format!("{} (seed {})", workload.name, workload.seed));
        let different = different.collect::<Vec<_>>();
        if !different.is_empty() {
            let listed = different.iter().take(5).map(String::as_str).collect::<Vec<_>>();
            let more = if different.len() > 5 {
                format!(" and {} more", different.len() - 5)
            } else {
                String::new()
            };
            found.push(format!(
                "Workloads of one name hold other requests in {a} than in {b}: {}{more}.",
                quoted(&listed)
            ));
        }
        if of_a.objectives != of_b.objectives {
            found.push(format!("Objectives differ between {a} and {b}; those of {a} are used for both."));
        }
        for name in cluster_settings(sweeps) {
            let (Ok(in_a), Ok(in_b)) = (values(first, &name), values(sweep, &name)) else { continue };
            if in_a.len() == 1 && in_b.len() == 1 && in_a != in_b {
                let text = |values: BTreeSet<String>| values.into_iter().next().unwrap_or_default();
                found.push(format!(
                    "Setting `{name}` differs: {} in {a}, {} in {b}.",
                    text(in_a),
                    text(in_b)
                ));
            }
        }
    }
    for outcome in &comparison.outcomes {
        let names = [outcome.baseline, outcome.candidate]
            .map(|contestant| comparison.contestants[contestant].label.as_str());
        let workload = &comparison.workloads[outcome.workload].name;
        for (side, contestant) in [outcome.baseline, outcome.candidate].into_iter().enumerate() {
            let (name, unpaired) = (names[side], outcome.unpaired[side]);
            if unpaired > 0 {
                found.push(format!(
                    "{name}: {unpaired} cells of `{workload}` have no partner and are left out."
                ));
            }
            let unusable = comparison.cells[contestant]
                .iter()
                .filter(|(key, _)| key.0 == *workload)
                .map(|(_, cell)| cell.runs - cell.points.len());
            let unusable = unusable.sum::<usize>();
            if unusable > 0 {
                found.push(format!(
                    "{name}: {unusable} runs on `{workload}` failed or have no result; they count as if they did not exist."
                ));
            }
        }
        let [few, many] = [outcome.runs[0].min(outcome.runs[1]), outcome.runs[0].max(outcome.runs[1])];
        if many > 2 * few {
            found.push(format!(
                "`{workload}`: {} runs of {} against {} of {}; a family tried at more settings has the larger front by that alone.",
                outcome.runs[0], names[0], outcome.runs[1], names[1]
            ));
        }
    }
    for name in same_arrivals {
        found.push(format!(
            "`{name}` has the same arrivals under every seed: its seeds are no independent samples, so there is no interval."
        ));
    }
    if comparison.objectives.reference.is_none() {
        found.push(
            "No reference point in the first sweep: the worst values of all compared are taken, so scores hold for this comparison only."
                .into(),
        );
    }
    let mut known = BTreeSet::new();
    found.retain(|warning| known.insert(warning.clone()));
    found
}
