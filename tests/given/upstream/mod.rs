//! Rules against what the real programs decided: given series are fed row by row, in order, and every
//! decision is compared.
//!
//! A tick of difference is a difference. The series may not be committed; `upstream_decisions/README.md`
//! beside them says what they are and how they were made. Any series of the same kinds put there is replayed
//! too.

pub mod aibrix;
pub mod dynamo;
#[cfg(feature = "report")]
pub mod dynamo_whole_runs;
pub mod hpa;
pub mod knative;
pub mod ray;
pub mod wva;

use std::path::Path;

/// One series: what it is called, how the program was set, and its rows.
pub struct Series {
    pub name: String,
    pub settings: String,
    /// Whether counts follow from decisions, and load from counts.
    pub looped: String,
    columns: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

/// A row by its column names. Empty cells and absent columns are empty text, 0 or no values.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    series: &'a Series,
    cells: &'a csv::StringRecord,
}

impl Series {
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { series: self, cells })
    }

    /// `name=value` of the settings; `;` ends a value.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.split(';').find_map(|setting| setting.trim().strip_prefix(name)?.strip_prefix('='))
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.setting(name)
            .map(|value| value.parse().unwrap_or_else(|_| panic!("{}: {name}={value}", self.name)))
    }
}

impl<'a> Row<'a> {
    pub fn text(self, column: &str) -> &'a str {
        let index = self.series.columns.iter().position(|name| name == column);
        index.map_or("", |index| &self.cells[index])
    }

    pub fn number(self, column: &str) -> f64 {
        let text = self.text(column);
        if text.is_empty() {
            0.0
        } else {
            text.parse().unwrap_or_else(|_| panic!("{}: {column} is {text}", self.series.name))
        }
    }

    pub fn count(self, column: &str) -> u32 {
        self.number(column) as u32
    }

    /// What `;` separates.
    pub fn list(self, column: &str) -> impl Iterator<Item = &'a str> {
        self.text(column).split(';').filter(|cell| !cell.is_empty())
    }
}

/// All series of a program.
pub fn series(program: &str) -> Vec<Series> {
    let folder = super::shared().join("data/upstream_decisions").join(program);
    let read = |path: &Path| {
        let mut reader =
            csv::Reader::from_path(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        (columns, rows)
    };
    let (columns, rows) = read(&folder.join("index.csv"));
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let (names, settings, looped) = (column("series"), column("settings"), column("loop"));
    let one = |listed: &csv::StringRecord| {
        let (columns, rows) = read(&folder.join(format!("{}.csv", &listed[names])));
        let [name, settings, looped] = [names, settings, looped].map(|column| listed[column].to_owned());
        Series { name, settings, looped, columns, rows }
    };
    rows.iter().map(one).collect()
}

/// Ticks compared, and the first that differ.
#[derive(Default)]
pub struct Tally {
    compared: usize,
    different: usize,
    first: Vec<String>,
}

impl Tally {
    pub fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        where_: impl FnOnce() -> String,
        ours: T,
        theirs: T,
    ) {
        self.compared += 1;
        if ours != theirs {
            self.different += 1;
            if self.first.len() < 12 {
                self.first.push(format!("{}: ours {ours:?}, theirs {theirs:?}", where_()));
            }
        }
    }

    /// Says how many ticks agree, and fails if one does not.
    pub fn conclude(self, what: &str) {
        println!("{what}: {} ticks compared, {} equal", self.compared, self.compared - self.different);
        assert!(
            self.different == 0,
            "{what}: {} of {} ticks differ\n{}",
            self.different,
            self.compared,
            self.first.join("\n")
        );
    }
}
