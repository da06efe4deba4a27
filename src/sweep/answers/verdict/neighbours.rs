//! The settings next to a chosen one: those of its policy that differ from it in one setting, by one step of
//! the grid.

use std::collections::BTreeMap;

use super::{Runs, Verdict};
use crate::sweep::run::outcome::NODE_PRICE;

/// A neighbour that breaks a limit by more than this share of it lies beyond a cliff.
pub const CLIFF: f64 = 1.0;

/// A setting one step away from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Its place in [`Verdict::settings`].
    pub setting: usize,
    /// The column in which it differs, and its value there.
    pub column: String,
    pub value: String,
}

impl Neighbour {
    /// Whether the limits are not merely missed there.
    pub fn is_beyond_cliff(&self, verdict: &Verdict) -> bool {
        let setting = &verdict.settings[self.setting];
        // Of a limit of 0 there are no shares.
        let missed = |stand: &super::Stand| {
            stand.worst.margin.is_none_or(|margin| margin < -CLIFF) && stand.constraint.limit > 0.0
        };
        !setting.keeps() && setting.limits.iter().any(missed)
    }
}

/// The neighbours of setting `of`, in the order of `columns`; of a numeric column the next smaller and the
/// next larger value, of others all.
pub fn neighbours<R: Runs + ?Sized>(
    runs: &R,
    verdict: &Verdict,
    of: usize,
    columns: &[String],
) -> Vec<Neighbour> {
    let row = |setting: usize| verdict.settings[setting].rows[0];
    // The price goes with the node.
    let columns: Vec<&String> = columns.iter().filter(|name| *name != NODE_PRICE).collect();
    let own: Vec<Option<String>> = columns.iter().map(|name| runs.text(row(of), name)).collect();
    let mut by_column: BTreeMap<usize, Vec<Neighbour>> = BTreeMap::new();
    for (setting, standing) in verdict.settings.iter().enumerate() {
        if setting == of || standing.policy != verdict.settings[of].policy {
            continue;
        }
        let mut differing =
            (0..columns.len()).filter(|&place| runs.text(row(setting), columns[place]) != own[place]);
        let (Some(place), None) = (differing.next(), differing.next()) else { continue };
        let Some(value) = runs.text(row(setting), columns[place]) else { continue };
        by_column.entry(place).or_default().push(Neighbour {
            setting,
            column: columns[place].clone(),
            value,
        });
    }
    let nearest = |(place, found): (usize, Vec<Neighbour>)| {
        let number = |setting: usize| runs.number(row(setting), columns[place]);
        let Some(here) = number(of) else { return found };
        let distance = |neighbour: &&Neighbour| {
            number(neighbour.setting).map_or(f64::INFINITY, |there| (there - here).abs())
        };
        let side = |above: bool| {
            let there = found
                .iter()
                .filter(|neighbour| number(neighbour.setting).is_some_and(|there| (there > here) == above));
            there.min_by(|a, b| distance(a).total_cmp(&distance(b))).cloned()
        };
        [side(false), side(true)].into_iter().flatten().collect()
    };
    by_column.into_iter().flat_map(nearest).collect()
}
