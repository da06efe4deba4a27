//! Comma-separated lines: columns found by the header's names, values checked.

use std::borrow::Cow;

use super::error::{WorkloadError, excerpt};
use super::source::Line;
use super::time_unit::TimeUnit;
use super::{MAX_TOKENS, Workload};
use crate::settings::quoted;

/// Where `N` wanted columns stand in a file whose header names them, in any order and among others.
#[derive(Debug, Clone)]
pub struct Columns<const N: usize> {
    names: [&'static str; N],
    positions: [usize; N],
    /// The file's columns that are not wanted.
    others: Vec<String>,
    width: usize,
}

impl<const N: usize> Columns<N> {
    /// Errors: a name is missing in the header.
    pub fn locate(header: &Line, names: [&'static str; N]) -> Result<Self, WorkloadError> {
        let found = fields(header)?;
        let position = |name: &str| found.iter().position(|field| field.trim() == name);
        let missing: Vec<&str> = names.iter().copied().filter(|name| position(name).is_none()).collect();
        if !missing.is_empty() {
            let message = format!(
                "header `{}` found, expected also the columns {}",
                excerpt(header.text),
                quoted(&missing)
            );
            return Err(header.error(message));
        }
        for name in names {
            if found.iter().filter(|field| field.trim() == name).count() > 1 {
                return Err(header.error(format!(
                    "column `{name}` found more than once in `{}`, expected once",
                    excerpt(header.text)
                )));
            }
        }
        let others = found
            .iter()
            .map(|field| field.trim())
            .filter(|name| !names.contains(name))
            .map(str::to_owned)
            .collect();
        Ok(Self {
            names,
            positions: names.map(|name| position(name).unwrap_or_default()),
            others,
            width: found.len(),
        })
    }

    /// The columns that are not read.
    pub fn others(&self) -> &[String] {
        &self.others
    }

    /// The wanted fields of a line.
    ///
    /// Errors: the line has more or fewer fields than the header.
    pub fn read<'l>(&self, line: &Line<'l>) -> Result<[Field<'l>; N], WorkloadError> {
        let mut values = [const { Cow::Borrowed("") }; N];
        let mut width = 0;
        let mut keep = |index, field: Cow<'l, str>| {
            width = index + 1;
            if let Some(slot) = self.positions.iter().position(|&position| position == index) {
                values[slot] = field;
            }
        };
        if line.text.contains('"') {
            fields(line)?.into_iter().enumerate().for_each(|(index, field)| keep(index, field));
        } else {
            line.text.split(',').enumerate().for_each(|(index, field)| keep(index, Cow::Borrowed(field)));
        }
        if width != self.width {
            return Err(line.error(format!("{width} fields found, expected {} as in the header", self.width)));
        }
        let mut names = self.names.iter();
        Ok(values.map(|text| Field { line: *line, column: names.next().copied().unwrap_or_default(), text }))
    }
}

/// Whether a header has a column.
pub fn has_column(header: &Line, name: &str) -> bool {
    header.text.split(',').any(|field| field.trim().trim_matches('"') == name)
}

/// The columns by which a CSV trace of ours says which prompts begin alike, if it has them: tokens a block
/// holds, and ids of blocks with a blank between them.
#[derive(Debug, Clone)]
pub struct PromptColumns(Option<Columns<2>>);

const PROMPT_COLUMNS: [&str; 2] = ["block_tokens", "hash_ids"];

impl PromptColumns {
    /// Looks for them in the header, and takes them out of what `columns` does not read.
    pub fn locate<const N: usize>(header: &Line, columns: &mut Columns<N>) -> Self {
        let found = Columns::locate(header, PROMPT_COLUMNS).ok();
        if found.is_some() {
            columns.others.retain(|name| !PROMPT_COLUMNS.contains(&name.as_str()));
        }
        Self(found)
    }

    /// Tokens a block holds and ids of the blocks of a line.
    pub fn read(&self, line: &Line) -> Result<(Option<u32>, Vec<u64>), WorkloadError> {
        let Some(columns) = &self.0 else { return Ok((None, Vec::new())) };
        let [block_tokens, hash_ids] = columns.read(line)?;
        let tokens = block_tokens.text().parse::<u32>().ok().filter(|&tokens| tokens > 0);
        let tokens =
            tokens.ok_or_else(|| block_tokens.error("tokens a block of the prompt holds, at least 1"))?;
        let ids = hash_ids.text().split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>();
        Ok((
            Some(tokens),
            ids.map_err(|_| hash_ids.error("ids of blocks, whole numbers with a blank between them"))?,
        ))
    }
}

/// The columns by which a CSV trace of ours tells how much a request may generate, and how urgent it is; each
/// may be absent.
#[derive(Debug, Clone)]
pub struct ToldColumns {
    max_new_tokens: Option<Columns<1>>,
    priority: Option<Columns<1>>,
}

impl ToldColumns {
    /// Looks for them in the header, and takes them out of what `columns` does not read.
    pub fn locate<const N: usize>(header: &Line, columns: &mut Columns<N>) -> Self {
        let mut locate = |name: &'static str| {
            let found = Columns::locate(header, [name]).ok()?;
            columns.others.retain(|other| other != name);
            Some(found)
        };
        Self { max_new_tokens: locate("max_new_tokens"), priority: locate("priority") }
    }

    /// What a line tells; an empty field tells nothing.
    pub fn read(&self, line: &Line) -> Result<(Option<f64>, Option<i32>), WorkloadError> {
        let field = |columns: &Option<Columns<1>>| match columns {
            None => Ok(None),
            Some(columns) => {
                columns.read(line).map(|[field]| Some(field).filter(|field| !field.text().is_empty()))
            }
        };
        let most = field(&self.max_new_tokens)?.map(|field| field.tokens()).transpose()?;
        let priority = field(&self.priority)?
            .map(|field| field.text().parse().map_err(|_| field.error("a whole number")))
            .transpose()?;
        Ok((most, priority))
    }
}

/// What a header has beside the format's own columns, for a workload's prompts and what is told of its
/// requests.
pub fn more_header(workload: &Workload) -> String {
    let mut header = String::new();
    for (is_there, columns) in [
        (workload.prefix.is_some(), ",block_tokens,hash_ids"),
        (workload.told.max_new_tokens.is_some(), ",max_new_tokens"),
        (workload.told.priorities.is_some(), ",priority"),
    ] {
        header += if is_there { columns } else { "" };
    }
    header
}

/// The same for one of its requests.
pub fn more_fields(workload: &Workload, request: usize) -> String {
    let mut fields = String::new();
    if let Some(prefix) = &workload.prefix {
        let ids = prefix.of(request).iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        fields += &format!(",{},{ids}", prefix.block_tokens);
    }
    if let Some(most) = &workload.told.max_new_tokens {
        fields += &format!(",{}", most[request]);
    }
    if let Some(priorities) = &workload.told.priorities {
        fields += &format!(",{}", priorities[request]);
    }
    fields
}

/// All fields of a line, quotes resolved.
pub fn fields<'l>(line: &Line<'l>) -> Result<Vec<Cow<'l, str>>, WorkloadError> {
    if !line.text.contains('"') {
        return Ok(line.text.split(',').map(Cow::Borrowed).collect());
    }
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.text.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => Ok(record.iter().map(|field| Cow::Owned(field.to_owned())).collect()),
        _ => Err(line.error("unreadable quotes, expected comma-separated values")),
    }
}

/// One value with where it stands.
pub struct Field<'l> {
    line: Line<'l>,
    pub column: &'static str,
    text: Cow<'l, str>,
}

impl Field<'_> {
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    pub fn error(&self, expected: impl Into<String>) -> WorkloadError {
        self.line.value_error(self.column, self.text(), expected)
    }

    /// Seconds from a finite number of at least 0 in this unit.
    pub fn time(&self, unit: TimeUnit) -> Result<f64, WorkloadError> {
        match unit.seconds(self.text()) {
            Some(value) if value.is_finite() && value >= 0.0 => Ok(value + 0.0), // -0 becomes 0
            _ => Err(self.error(format!("{} as a finite number of at least 0", unit.name()))),
        }
    }

    /// A number of tokens, which may have decimals (`256.0`, as dataframes write it).
    pub fn tokens(&self) -> Result<f64, WorkloadError> {
        match self.text().parse::<f64>() {
            Ok(value) if (0.0..=f64::from(MAX_TOKENS)).contains(&value) => Ok(value),
            _ => Err(self.error(format!("a number of tokens from 0 to {MAX_TOKENS}"))),
        }
    }
}
