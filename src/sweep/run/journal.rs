//! What a sweep has done so far: a line for each run that has ended, in the order in which they ended.
//!
//! The first line says whose runs these are. A line is a checksum, a space, JSON; one that is cut short or
//! does not match its checksum (a kill, a full disk, a power loss) counts as not written. Numbers are written
//! so that they read back to the bit. A line reaches the system as soon as its run has ended and the disk
//! within [`SYNC_INTERVAL`]: a killed process loses the runs under way, a power loss those of that interval
//! as well.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outcome::{Outcome, row_of};
use crate::RESULTS_VERSION;
use crate::files::write_atomically;
use crate::simulation::{MetricValue, RunMetrics};
use crate::sweep::grid::{Grid, MAX_CELLS};
use crate::sweep::plan::Plan;
use crate::sweep::plan::shard::Shard;
use crate::sweep::tables::row::RunRow;

/// What has run of a sweep that is not finished.
pub const JOURNAL: &str = "journal.jsonl";

/// Layout of the file.
const FORMAT: u32 = 2;

pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Hexadecimal digits of a line's checksum.
const CHECKSUM_DIGITS: usize = 16;

/// Whose runs a journal holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub journal: u32,
    pub name: String,
    pub results_version: u32,
    /// BLAKE3 of the grid as given, but for what its runs are judged by.
    pub grid_hash: String,
    /// See [`Plan::runs_hash`].
    pub runs_hash: String,
    /// Runs of the whole sweep.
    pub runs: usize,
    /// Runs this journal is to hold in the end.
    pub share: usize,
    /// `None` for all of them.
    pub shard: Option<Shard>,
    /// Names of the values in the lines.
    pub metrics: Vec<String>,
    pub grid_file: String,
    /// As given, so that shards can be joined without the file.
    pub grid: Value,
}

impl Header {
    pub fn new(plan: &Plan, shard: Option<Shard>, share: usize) -> Self {
        Self {
            journal: FORMAT,
            name: plan.grid.name.clone(),
            results_version: RESULTS_VERSION,
            grid_hash: blake3::hash(Grid::of_runs(&plan.grid.as_given).to_string().as_bytes())
                .to_hex()
                .to_string(),
            runs_hash: plan.runs_hash.clone(),
            runs: plan.unique().len(),
            share,
            shard,
            metrics: RunMetrics::names(),
            grid_file: plan.grid.source.file.clone(),
            grid: plan.grid.as_given.clone(),
        }
    }

    /// Why the runs of `self` do not go with those of `other`, if they do not.
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        let version = |header: &Self| header.results_version;
        if version(self) != version(other) {
            return Some(format!("results version {}, not {}", version(self), version(other)));
        }
        if self.grid_hash != other.grid_hash {
            return Some(match self.name == other.name {
                true => format!("another grid of the name `{}`", self.name),
                false => format!("the grid `{}`, not `{}`", self.name, other.name),
            });
        }
        if self.runs_hash != other.runs_hash {
            return Some(format!("the grid `{}` with other traces or hardware tables", self.name));
        }
        (self.metrics != other.metrics || self.journal != other.journal)
            .then(|| "the metrics of another version of scalefront".into())
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    out: Mutex<Out>,
}

#[derive(Debug)]
struct Out {
    file: File,
    synced_at: Instant,
}

impl Journal {
    /// Begins a journal in `dir`.
    pub fn create(dir: &Path, header: &Header) -> Result<Self> {
        let path = dir.join(JOURNAL);
        write_atomically(&path, |out| Ok(out.write_all(line(&json!(header)).as_bytes())?))?;
        Self::append_to(path)
    }

    /// Goes on with the journal in `dir`, which must be one of the same runs. What a kill left of a last line
    /// goes.
    pub fn resume(dir: &Path, header: &Header) -> Result<(Self, Recorded)> {
        let path = dir.join(JOURNAL);
        let shown = dir.display();
        let there = read_header(dir)?;
        if let Some(difference) = there.differs_from(header) {
            bail!(
                "{shown}: holds runs of {difference}; choose another directory with --out, or remove this one"
            );
        }
        ensure!(
            there.shard == header.shard,
            "{shown}: holds {}, not {}; choose another directory with --out",
            part(&there),
            part(header)
        );
        let recorded = Recorded::read(&[dir])?;
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .with_context(|| format!("{}: cannot write", path.display()))?;
        file.set_len(recorded.complete_bytes)
            .with_context(|| format!("{}: cannot cut off its broken end", path.display()))?;
        Ok((Self::append_to(path)?, recorded))
    }

    fn append_to(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("{}: cannot append", path.display()))?;
        Ok(Self { path, out: Mutex::new(Out { file, synced_at: Instant::now() }) })
    }

    /// Writes down how run `place` of the plan ended.
    pub fn append(&self, place: usize, outcome: &Outcome) -> Result<()> {
        let text = line(&match outcome {
            Ok(values) => json!({"run": place, "ok": values.iter().map(to_json).collect::<Vec<_>>()}),
            Err(message) => json!({"run": place, "failed": message}),
        });
        let out = &mut *self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.file.write_all(text.as_bytes()).with_context(|| self.trouble())?;
        if out.synced_at.elapsed() >= SYNC_INTERVAL {
            out.file.sync_data().with_context(|| self.trouble())?;
            out.synced_at = Instant::now();
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub fn sync(&self) -> Result<()> {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.file.sync_data().with_context(|| self.trouble())
    }

    fn trouble(&self) -> String {
        format!("{}: cannot write; once that is put right, --resume goes on from here", self.path.display())
    }
}

fn part(header: &Header) -> String {
    header.shard.map_or("a whole sweep".into(), |shard| format!("shard {shard}"))
}

/// Whether a sweep has begun in `dir` and its journal is still there.
pub fn is_in(dir: &Path) -> bool {
    dir.join(JOURNAL).exists()
}

/// Removes the journal of a sweep whose results are stored.
pub fn remove(dir: &Path) -> Result<()> {
    let path = dir.join(JOURNAL);
    fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))
}

/// The first line of the journal in `dir`.
pub fn read_header(dir: &Path) -> Result<Header> {
    let path = dir.join(JOURNAL);
    let shown = path.display();
    let mut text = String::new();
    let mut first = BufReader::new(File::open(&path).with_context(|| format!("{shown}: cannot read"))?);
    first.read_line(&mut text).with_context(|| format!("{shown}: cannot read"))?;
    let header = verified(text.as_bytes()).and_then(|json| serde_json::from_slice::<Header>(json).ok());
    let header = header.filter(|header| {
        header.journal == FORMAT && header.runs as u64 <= MAX_CELLS && header.share <= header.runs
    });
    header.ok_or_else(|| anyhow!("{shown}: not a journal of this version of scalefront; choose another directory, or remove this one"))
}

fn line(entry: &Value) -> String {
    let json = entry.to_string();
    format!("{} {json}\n", checksum(json.as_bytes()))
}

fn checksum(json: &[u8]) -> String {
    blake3::hash(json).to_hex()[..CHECKSUM_DIGITS].into()
}

/// The JSON of a line, if it is whole.
fn verified(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let json = line.get(CHECKSUM_DIGITS + 1..)?;
    (line[CHECKSUM_DIGITS] == b' ' && line[..CHECKSUM_DIGITS] == *checksum(json).as_bytes()).then_some(json)
}

/// Counts are whole numbers, others have a point or an exponent; what JSON has no number for is the text of
/// its bits.
fn to_json(value: &MetricValue) -> Value {
    match *value {
        MetricValue::Count(count) => count.into(),
        MetricValue::Number(number) if number.is_finite() => number.into(),
        MetricValue::Number(number) => format!("{:016x}", number.to_bits()).into(),
        MetricValue::Absent => Value::Null,
    }
}

fn from_json(value: &Value) -> Option<MetricValue> {
    match value {
        Value::Null => Some(MetricValue::Absent),
        Value::Number(number) => number
            .as_u64()
            .map(MetricValue::Count)
            .or_else(|| number.as_f64().filter(|_| number.is_f64()).map(MetricValue::Number)),
        Value::String(bits) => Some(MetricValue::Number(f64::from_bits(u64::from_str_radix(bits, 16).ok()?))),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Entry {
    run: usize,
    ok: Option<Vec<Value>>,
    failed: Option<String>,
}

impl Entry {
    fn parse(line: &[u8], header: &Header) -> Option<(usize, Outcome)> {
        let entry: Self = serde_json::from_slice(verified(line)?).ok()?;
        let outcome = match (entry.ok, entry.failed) {
            (Some(values), None) if values.len() >= header.metrics.len() => {
                Ok(values.iter().map(from_json).collect::<Option<_>>()?)
            }
            (None, Some(message)) => Err(message),
            _ => return None,
        };
        (entry.run < header.runs).then_some((entry.run, outcome))
    }
}

/// Runs that have ended, by their place in the plan; read from their journals when asked for, so that they
/// take no memory.
#[derive(Debug)]
pub struct Recorded {
    journals: Vec<(PathBuf, BufReader<File>)>,
    header: Header,
    /// Journal and offset of each run's line.
    lines: Vec<Option<(u32, u64)>>,
    /// Runs that stand in two journals: place, and which.
    pub doubled: Vec<(usize, u32, u32)>,
    pub failed: usize,
    /// Lines that did not read back, in all journals.
    pub broken: usize,
    /// Up to where the last journal consists of whole lines.
    complete_bytes: u64,
}

impl Recorded {
    /// Reads the journals in `dirs`, at least one, all of the same runs.
    pub fn read(dirs: &[impl AsRef<Path>]) -> Result<Self> {
        let first = dirs.first().context("no journal to read")?;
        let header = read_header(first.as_ref())?;
        let lines = vec![None; header.runs];
        let mut all = Self {
            journals: Vec::new(),
            header,
            lines,
            doubled: Vec::new(),
            failed: 0,
            broken: 0,
            complete_bytes: 0,
        };
        for dir in dirs {
            all.add(dir.as_ref())?;
        }
        Ok(all)
    }

    fn add(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join(JOURNAL);
        let trouble = || format!("{}: cannot read", path.display());
        let mut journal = BufReader::new(File::open(&path).with_context(trouble)?);
        let this = self.journals.len() as u32;
        let (mut offset, mut line) = (0, Vec::new());
        self.complete_bytes = 0;
        loop {
            line.clear();
            if journal.read_until(b'\n', &mut line).with_context(trouble)? == 0 {
                break;
            }
            let is_header = offset == 0;
            match Entry::parse(&line, &self.header) {
                Some((run, outcome)) => {
                    self.failed += usize::from(outcome.is_err());
                    match self.lines[run].replace((this, offset)) {
                        Some((other, _)) if other != this => self.doubled.push((run, other, this)),
                        _ => {}
                    }
                }
                None => self.broken += usize::from(!is_header),
            }
            offset += line.len() as u64;
            if line.ends_with(b"\n") {
                self.complete_bytes = offset;
            }
        }
        self.journals.push((path, journal));
        Ok(())
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn holds(&self, place: usize) -> bool {
        self.lines[place].is_some()
    }

    /// Number of runs that stand in the journal of directory `place`, doubled ones included.
    pub fn in_journal(&self, place: u32) -> usize {
        let last = self.lines.iter().flatten().filter(|(journal, _)| *journal == place).count();
        last + self.doubled.iter().filter(|(_, earlier, _)| *earlier == place).count()
    }

    /// Number of runs that have ended.
    pub fn len(&self) -> usize {
        self.lines.iter().flatten().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How run `place` ended.
    pub fn outcome(&mut self, place: usize) -> Result<Outcome> {
        let (journal, offset) = self.lines[place].with_context(|| format!("run {place} has not ended"))?;
        let (path, reader) = &mut self.journals[journal as usize];
        let trouble = || format!("{}: cannot read", path.display());
        let at = reader.stream_position().with_context(trouble)?;
        // Mostly a little further on, which the buffer has already.
        reader.seek_relative(offset as i64 - at as i64).with_context(trouble)?;
        let mut line = Vec::new();
        reader.by_ref().read_until(b'\n', &mut line).with_context(trouble)?;
        let entry = Entry::parse(&line, &self.header).filter(|(run, _)| *run == place);
        Ok(entry.with_context(|| format!("{}: changed while it was read", path.display()))?.1)
    }

    /// Values of a run's outcome that are its metrics; those of its pools follow.
    pub fn num_metrics(&self) -> usize {
        self.header.metrics.len()
    }

    /// The rows of all runs in the order of the plan. Fails if one has not ended.
    pub fn rows(&mut self, plan: &Plan) -> Result<Vec<RunRow>> {
        self.rows_at(plan, 0..self.lines.len())
    }

    /// The rows of the runs at `places`, made on the current rayon pool.
    pub fn rows_at(&mut self, plan: &Plan, places: Range<usize>) -> Result<Vec<RunRow>> {
        let outcomes = places.clone().map(|place| self.outcome(place)).collect::<Result<Vec<_>>>()?;
        let names = &self.header.metrics;
        Ok(places
            .into_par_iter()
            .zip(outcomes)
            .map(|(place, outcome)| row_of(plan, place, names, outcome))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(runs: usize) -> Header {
        Header {
            journal: FORMAT,
            name: "a".into(),
            results_version: RESULTS_VERSION,
            grid_hash: "g".into(),
            runs_hash: "r".into(),
            runs,
            share: runs,
            shard: None,
            metrics: vec!["x".into(), "y".into()],
            grid_file: "a.json".into(),
            grid: json!({}),
        }
    }

    fn bits(outcome: &Outcome) -> Vec<(u8, u64)> {
        let value = |value: &MetricValue| match *value {
            MetricValue::Count(count) => (0, count),
            MetricValue::Number(number) => (1, number.to_bits()),
            MetricValue::Absent => (2, 0),
        };
        outcome.as_ref().unwrap().iter().map(value).collect()
    }

    fn any_value() -> impl Strategy<Value = MetricValue> {
        prop_oneof![
            any::<u64>().prop_map(MetricValue::Count),
            any::<u64>().prop_map(|bits| MetricValue::Number(f64::from_bits(bits))),
            (-1e6..1e6).prop_map(|x: f64| MetricValue::Number(x.round())),
            Just(MetricValue::Number(-0.0)),
            Just(MetricValue::Absent),
        ]
    }

    proptest! {
        #[test]
        fn values_read_back_to_the_bit(x in any_value(), y in any_value()) {
            let outcome: Outcome = Ok(vec![x, y]);
            let dir = tempfile::tempdir().unwrap();
            Journal::create(dir.path(), &header(1)).unwrap().append(0, &outcome).unwrap();
            let read = Recorded::read(&[dir.path()]).unwrap().outcome(0).unwrap();
            prop_assert_eq!(bits(&read), bits(&outcome));
        }

        /// Power loss, full disk, kill: whatever the file is cut to, or whichever byte is hit, other lines
        /// stand and no wrong value is read.
        #[test]
        fn damage_loses_only_what_it_hits(cut in any::<prop::sample::Index>(), hit in any::<prop::sample::Index>(), value in any::<u8>()) {
            let dir = tempfile::tempdir().unwrap();
            let journal = Journal::create(dir.path(), &header(20)).unwrap();
            let outcome = |run: usize| -> Outcome { Ok(vec![MetricValue::Count(run as u64), MetricValue::Number(1.0 / run as f64)]) };
            let path = dir.path().join(JOURNAL);
            let first = fs::metadata(&path).unwrap().len() as usize;
            for run in (0..20).rev() {
                journal.append(run, &outcome(run)).unwrap();
            }
            let whole = fs::read(&path).unwrap();
            let mut damaged = whole[..first + cut.index(whole.len() - first + 1)].to_vec();
            let lines_left = damaged.iter().filter(|&&byte| byte == b'\n').count() - 1;
            let at = hit.index(damaged.len());
            if at >= first {
                damaged[at] = value;
            }
            fs::write(&path, &damaged).unwrap();
            let (journal, mut recorded) = Journal::resume(dir.path(), &header(20)).unwrap();
            prop_assert!(recorded.len() + 2 >= lines_left, "{} of {lines_left}", recorded.len());
            for run in (0..20).filter(|&run| recorded.holds(run)).collect::<Vec<_>>() {
                prop_assert_eq!(bits(&recorded.outcome(run).unwrap()), bits(&outcome(run)));
            }
            for run in (0..20).filter(|&run| !recorded.holds(run)) {
                journal.append(run, &outcome(run)).unwrap();
            }
            let mut again = Recorded::read(&[dir.path()]).unwrap();
            prop_assert_eq!(again.len(), 20);
            for run in 0..20 {
                prop_assert_eq!(bits(&again.outcome(run).unwrap()), bits(&outcome(run)));
            }
        }
    }

    #[test]
    fn journals_of_other_sweeps_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        Journal::create(dir.path(), &header(2)).unwrap();
        let refusal = |header: Header| format!("{:#}", Journal::resume(dir.path(), &header).unwrap_err());
        let other = refusal(Header { grid_hash: "h".into(), ..header(2) });
        assert!(
            other.contains("holds runs of another grid of the name `a`; choose another directory with --out"),
            "{other}"
        );
        assert!(
            refusal(Header { results_version: RESULTS_VERSION + 1, ..header(2) }).contains("results version")
        );
        assert!(
            refusal(Header { runs_hash: "s".into(), ..header(2) })
                .contains("other traces or hardware tables")
        );
        let shard = Header { shard: Some(Shard::new(1, 2).unwrap()), ..header(2) };
        assert!(refusal(shard).contains("holds a whole sweep, not shard 1/2"));
        fs::write(dir.path().join(JOURNAL), "no journal").unwrap();
        assert!(refusal(header(2)).contains("not a journal"));
    }

    #[test]
    fn failures_and_doubled_runs_are_counted() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (run, dir) in dirs.iter().enumerate() {
            let journal = Journal::create(dir.path(), &header(3)).unwrap();
            journal.append(run, &Err("no ink".into())).unwrap();
            journal.append(1, &Ok(vec![MetricValue::Absent; 2])).unwrap();
            journal.sync().unwrap();
        }
        let mut recorded = Recorded::read(&[dirs[0].path(), dirs[1].path()]).unwrap();
        assert_eq!((recorded.len(), recorded.failed, recorded.broken), (2, 2, 0));
        assert_eq!(recorded.outcome(0).unwrap(), Err("no ink".into()));
        assert!(recorded.doubled.contains(&(1, 0, 1)));
        assert!(!recorded.holds(2) && recorded.outcome(2).is_err());
    }
}
