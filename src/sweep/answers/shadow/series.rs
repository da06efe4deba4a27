//! Series as they were recorded: joined where several files have parts of one, and what is missing from them.

use std::collections::BTreeMap;

/// How long a value is good where other series of its name go on: as long as Prometheus looks back.
const LOOK_BACK_S: f64 = 300.0;
/// Of series that are coarser than that: so many of their own steps.
const LOOK_BACK_STEPS: f64 = 3.0;
/// Gaps and files that notes name one by one.
const MOST_NAMED: usize = 20;
const MOST_FILES: usize = 4;

/// Columns of CSV, and names of queries' results.
pub const COLUMNS: [&str; 17] = [
    "requests_per_s",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "mean_prefill_tokens",
    "mean_decode_tokens",
    "running_requests",
    "waiting_requests",
    "kv_use",
    "replicas",
    "mean_e2e_s",
    "p50_e2e_s",
    "p90_e2e_s",
    "p99_e2e_s",
    "mean_ttft_s",
    "p50_ttft_s",
    "p90_ttft_s",
    "p99_ttft_s",
];

/// What counts replicas, best first; else the servers that report.
pub const REPLICAS: [&str; 4] = [
    "replicas",
    "kube_deployment_status_replicas_ready",
    "kube_deployment_status_replicas_available",
    "kube_deployment_status_replicas",
];
pub const SERVERS: &str = "vllm:num_requests_running";

/// One series as it was recorded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Raw {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Time and value, in order of time.
    pub samples: Vec<(f64, f64)>,
    /// Whether it came as a table of intervals that begin at its times.
    pub ahead: bool,
    /// The files it came from, with the time of the first sample of each.
    pub files: Vec<(f64, String)>,
}

impl Raw {
    /// The shortest time between two samples; infinite where there are fewer than two.
    pub fn shortest_s(&self) -> f64 {
        self.samples.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(f64::INFINITY, f64::min)
    }

    /// More than this between two samples is a gap.
    pub fn limit_s(&self) -> f64 {
        let shortest_s = self.shortest_s();
        if shortest_s.is_finite() { LOOK_BACK_S.max(LOOK_BACK_STEPS * shortest_s) } else { LOOK_BACK_S }
    }

    /// The file of the last sample up to this time.
    pub fn file_at(&self, at_s: f64) -> &str {
        self.files
            .iter()
            .rev()
            .find(|(from_s, _)| *from_s <= at_s)
            .or(self.files.first())
            .map_or("", |(_, file)| file)
    }

    fn last_s(&self) -> f64 {
        self.samples.last().map_or(f64::NEG_INFINITY, |(at_s, _)| *at_s)
    }
}

/// Whether none of these has a sample between two times: then the recorder was away, not what it recorded.
pub fn is_silent(series: &[&Raw], from_s: f64, until_s: f64) -> bool {
    series.iter().all(|one| {
        let after = one.samples.partition_point(|(at_s, _)| *at_s <= from_s);
        one.samples.get(after).is_none_or(|(at_s, _)| *at_s >= until_s)
    })
}

/// Parts of one series, from several files, in order of time.
///
/// Errors: two of them cover the same time. Results of queries may share a moment, as a query has both its
/// ends.
pub fn join(raw: Vec<Raw>) -> Result<Vec<Raw>, String> {
    let mut known = BTreeMap::new();
    let mut parted: Vec<Vec<Raw>> = Vec::new();
    for part in raw.into_iter().filter(|part| !part.samples.is_empty()) {
        let key = (part.name.clone(), part.labels.clone(), part.ahead);
        let at = *known.entry(key).or_insert(parted.len());
        if at == parted.len() {
            parted.push(Vec::new());
        }
        parted[at].push(part);
    }
    let mut all = Vec::with_capacity(parted.len());
    for mut parts in parted {
        parts.sort_by(|a, b| a.samples[0].0.total_cmp(&b.samples[0].0));
        let mut parts = parts.into_iter();
        let mut whole = parts.next().unwrap_or_default();
        for mut part in parts {
            let (begin_s, end_s) = (part.samples[0].0, whole.last_s());
            if !part.ahead && begin_s == end_s {
                part.samples.remove(0);
            } else if begin_s <= end_s {
                return Err(format!(
                    "{} and {}: both have `{}` from {begin_s} to {} s, expected files whose times follow each other; \
                     leave out one of them, or the rows that are in both",
                    whole.file_at(begin_s),
                    part.file_at(begin_s),
                    part.name,
                    end_s.min(part.last_s())
                ));
            }
            whole.samples.append(&mut part.samples);
            whole.files.append(&mut part.files);
        }
        all.push(whole);
    }
    Ok(all)
}

/// A note for each gap: which files, when, how long. Times are divided by `time_scale`, to be those of the
/// files.
pub fn gap_notes(raw: &[Raw], end_s: f64, time_scale: f64) -> Vec<String> {
    let mut named: BTreeMap<&str, Vec<&Raw>> = BTreeMap::new();
    for series in raw.iter().filter(|series| !series.samples.is_empty()) {
        named.entry(&series.name).or_default().push(series);
    }
    let mut gaps: Vec<(f64, f64, &str)> = Vec::new();
    for all in named.values() {
        for series in all {
            let limit_s = series.limit_s() * (1.0 + 1e-9);
            let mut check = |from_s: f64, until_s: f64, length_s: f64| {
                if length_s > limit_s && is_silent(all, from_s, until_s) {
                    gaps.push((from_s, until_s, series.file_at(from_s)));
                }
            };
            series.samples.windows(2).for_each(|pair| check(pair[0].0, pair[1].0, pair[1].0 - pair[0].0));
            check(series.last_s(), f64::INFINITY, end_s - series.last_s());
        }
    }
    gaps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(b.2)));
    gaps.dedup();
    let same: Vec<_> = gaps.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
    let shown = |seconds: f64| (seconds / time_scale * 1000.0).round() / 1000.0;
    let mut notes: Vec<String> = same
        .iter()
        .take(MOST_NAMED)
        .map(|gap| {
            let (from_s, until_s, _) = gap[0];
            let mut files = gap.iter().take(MOST_FILES).map(|(_, _, file)| *file).collect::<Vec<_>>().join(", ");
            if gap.len() > MOST_FILES {
                files += &format!(" and {} files more", gap.len() - MOST_FILES);
            }
            let from = shown(from_s);
            if until_s.is_finite() {
                format!(
                    "gap of {} s, from {from} to {} s, in {files}: values are held over it, what counters gained is spread over it",
                    shown(until_s - from_s),
                    shown(until_s)
                )
            } else {
                format!(
                    "gap of {} s, from {from} s to the end, in {files}: gauges are held over it, rates and counters add nothing",
                    shown(end_s - from_s)
                )
            }
        })
        .collect();
    if same.len() > MOST_NAMED {
        notes.push(format!("{} gaps more", same.len() - MOST_NAMED));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, file: &str, times: &[f64]) -> Raw {
        let samples: Vec<(f64, f64)> = times.iter().map(|&at_s| (at_s, 1.0)).collect();
        Raw {
            name: name.into(),
            files: vec![(times[0], file.into())],
            samples,
            ahead: true,
            ..Raw::default()
        }
    }

    #[test]
    fn files_follow_each_other_or_are_refused() {
        let joined =
            join(vec![table("kv_use", "b.csv", &[30.0, 45.0]), table("kv_use", "a.csv", &[0.0, 15.0])])
                .unwrap();
        assert_eq!(joined.len(), 1);
        assert_eq!(
            joined[0].samples.iter().map(|(at_s, _)| *at_s).collect::<Vec<_>>(),
            [0.0, 15.0, 30.0, 45.0]
        );
        assert_eq!((joined[0].file_at(15.0), joined[0].file_at(30.0)), ("a.csv", "b.csv"));
        let apart = join(vec![table("kv_use", "a.csv", &[0.0]), table("replicas", "b.csv", &[0.0])]).unwrap();
        assert_eq!(apart.len(), 2, "columns of their own may cover the same time");
        let twice = || vec![table("kv_use", "a.csv", &[0.0, 15.0]), table("kv_use", "b.csv", &[15.0, 30.0])];
        let error = join(twice()).unwrap_err();
        assert!(error.starts_with("a.csv and b.csv: both have `kv_use` from 15 to 15 s"), "{error}");
        // Two queries, the second from where the first ended.
        let queried = join(twice().into_iter().map(|part| Raw { ahead: false, ..part }).collect()).unwrap();
        assert_eq!(queried[0].samples.len(), 3);
    }

    #[test]
    fn a_gap_is_where_no_series_of_the_name_goes_on() {
        let times = [0.0, 15.0, 30.0, 400.0];
        let one = || Raw { ahead: false, ..table("running", "a.json", &times) };
        let notes = gap_notes(&[one()], 400.0, 1.0);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("gap of 370 s, from 30 to 400 s, in a.json: "), "{notes:?}");
        let other = Raw { ahead: false, ..table("running", "b.json", &[0.0, 30.0, 200.0, 400.0]) };
        assert!(gap_notes(&[one(), other], 400.0, 1.0).is_empty(), "a server that was away");
        // An hour between rows is the way of that table; and the end is missing.
        let coarse = table("kv_use", "c.csv", &[0.0, 3600.0, 7200.0]);
        assert!(gap_notes(std::slice::from_ref(&coarse), 10800.0, 1.0).is_empty());
        let notes = gap_notes(&[coarse], 72_000.0, 2.0);
        assert!(notes[0].starts_with("gap of 32400 s, from 3600 s to the end, in c.csv: "), "{notes:?}");
    }
}
