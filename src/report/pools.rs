//! What the pools of fleets did, of the runs a reader looks at first: the verdict's setting and the best
//! compromise of each family.

use super::names::{percent, significant};
use super::study::Study;
use crate::analysis::pools::StoredPool;

/// Runs told of, for each workload.
const MAX_RUNS: usize = 6;

/// A run, and what each of its pools did.
pub struct Told<'a> {
    pub row: usize,
    /// Why it is told of.
    pub what: &'static str,
    pub pools: &'a [StoredPool],
}

/// A column: its head, and the value of a pool.
type Column = (&'static str, fn(&StoredPool) -> Option<String>);

/// What is told of a pool, beside its name.
const COLUMNS: [Column; 12] = [
    ("Role", |pool| (pool.role != "both").then(|| pool.role.clone())),
    ("Replicas", |pool| {
        let [mean, least, most] =
            ["mean_replicas", "min_replicas_used", "max_replicas_used"].map(|name| pool.figure(name));
        let (mean, least, most) = (significant(mean?, 3), significant(least?, 4), significant(most?, 4));
        Some(if least == most { most } else { format!("{mean} ({least} to {most})") })
    }),
    ("Cost (US$)", |pool| number(pool, "total_cost_usd", 4, 1.0)),
    ("Busy", |pool| pool.figure("utilization").map(percent)),
    ("P90 TTFT (s)", |pool| number(pool, "p90_ttft_s", 3, 1.0)),
    ("P90 TPOT (ms)", |pool| number(pool, "p90_tpot_s", 3, 1e3)),
    ("KV in use", |pool| pool.figure("mean_kv_use").map(percent)),
    ("KV kept for others", |pool| pool.figure("kept_kv_use").filter(|_| pool.role == "prefill").map(percent)),
    ("KV received (GB)", |pool| number(pool, "received_gb", 4, 1.0).filter(|_| pool.role == "decode")),
    ("P90 transfer (ms)", |pool| number(pool, "p90_transfer_ms", 3, 1.0)),
    ("Starved (s)", |pool| number(pool, "starved_s", 3, 1.0)),
    ("Scale-ups cut", |pool| number(pool, "scale_ups_cut", 4, 1.0)),
];

fn number(pool: &StoredPool, name: &str, digits: i32, scale: f64) -> Option<String> {
    Some(significant(pool.figure(name)? * scale, digits))
}

/// What some of the columns mean, for whoever meets them first.
pub fn legend(heads: &[&str]) -> &'static str {
    match heads.contains(&"Starved (s)") {
        true => {
            "Starved: time in which requests waited there and the budget had no room for one more replica."
        }
        false => "",
    }
}

/// The runs of a workload that are told of.
pub fn of(study: &Study, workload: usize) -> Vec<Told<'_>> {
    let named = study.judged.iter().filter(|judged| judged.workload == workload).filter_map(|judged| {
        let what =
            if judged.verdict.best.is_some() { "the verdict's setting" } else { "nearest to the limits" };
        Some((*judged.named()?.rows.first()?, what))
    });
    let families = study.analysis.scores_of(workload).filter_map(|score| {
        let what = if score.outside.is_none() { "best compromise" } else { "middle of its front" };
        Some((study.first_front(score)?.1.balanced, what))
    });
    let mut told: Vec<Told> = Vec::new();
    for (row, what) in named.chain(families) {
        if let Some(pools) = study.pools.get(&study.run_ids[row])
            && told.iter().all(|told| told.row != row)
        {
            told.push(Told { row, what, pools });
        }
    }
    told.truncate(MAX_RUNS);
    told
}

impl Told<'_> {
    /// Its family and what tells it from others of that.
    pub fn name(&self, study: &Study) -> String {
        let family = study.analysis.label(study.analysis.runs[self.row].family);
        match study.describe(self.row) {
            settings if settings.is_empty() => family.to_owned(),
            settings => format!("{family} with {settings}"),
        }
    }
}

/// Of some runs the heads of what any pool has, and for each run and pool its name and those values; `-`
/// where one has none.
pub fn table(told: &[Told]) -> (Vec<&'static str>, Vec<Vec<Vec<String>>>) {
    let any = |column: &&Column| told.iter().flat_map(|told| told.pools).any(|pool| column.1(pool).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(any).collect();
    let cells = |pool: &StoredPool| {
        let values = columns.iter().map(|column| column.1(pool).unwrap_or_else(|| "-".into()));
        std::iter::once(pool.pool.clone()).chain(values).collect()
    };
    let heads = std::iter::once("Pool").chain(columns.iter().map(|column| column.0)).collect();
    (heads, told.iter().map(|told| told.pools.iter().map(cells).collect()).collect())
}
