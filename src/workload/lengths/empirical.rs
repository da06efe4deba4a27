//! Lengths drawn, with replacement, from the rows of a CSV file: prefill and decode of a request stay
//! together.

use std::path::PathBuf;

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Columns, PREFILL_STREAM};
use crate::random;
use crate::settings::{Faults, quoted};
use crate::workload::csv;
use crate::workload::error::{WorkloadError, excerpt};
use crate::workload::source::{self, DECOMPRESSED_LIMIT_BYTES, Line, Lines};

/// What the two columns are called in files around.
const KNOWN: [[&str; 2]; 4] = [
    ["prefill_tokens", "decode_tokens"],
    ["num_prefill_tokens", "num_decode_tokens"],
    ["ContextTokens", "GeneratedTokens"],
    ["Request tokens", "Response tokens"],
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empirical {
    /// A CSV file with a header, plain or compressed. Its columns are `prefill_tokens` and `decode_tokens`,
    /// or those of a Vidur, Azure or BurstGPT trace; others are ignored. Decimals are truncated, 0 becomes 1.
    pub path: PathBuf,
}

impl Empirical {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require(!self.path.as_os_str().is_empty(), "path", || {
            "an empty path found, expected a file".into()
        });
    }

    pub(super) fn generate(
        &self,
        requests: usize,
        seed: u64,
        base_dirs: &[PathBuf],
    ) -> Result<Columns, WorkloadError> {
        let rows = self.rows(base_dirs)?;
        let mut random = random::stream(seed, PREFILL_STREAM);
        Ok((0..requests).map(|_| rows[random.random_range(0..rows.len())]).unzip())
    }

    fn rows(&self, base_dirs: &[PathBuf]) -> Result<Vec<(u32, u32)>, WorkloadError> {
        let mut lines = Lines::open(&source::find(&self.path, base_dirs)?, DECOMPRESSED_LIMIT_BYTES)?;
        let file = lines.file().to_path_buf();
        let empty = || WorkloadError::File {
            file: file.clone(),
            message: "no row found, expected at least one".into(),
        };
        let columns = locate(&lines.next()?.ok_or_else(empty)?)?;
        let mut rows = Vec::new();
        while let Some(line) = lines.next()? {
            let [prefill, decode] = columns.read(&line)?;
            rows.push((prefill.tokens()?.max(1.0) as u32, decode.tokens()?.max(1.0) as u32));
        }
        if rows.is_empty() { Err(empty()) } else { Ok(rows) }
    }
}

fn locate(header: &Line) -> Result<csv::Columns<2>, WorkloadError> {
    KNOWN.iter().find_map(|names| csv::Columns::locate(header, *names).ok()).ok_or_else(|| {
        let known = KNOWN.map(|names| quoted(&names)).join("; or ");
        header.error(format!("header `{}` found, expected the columns {known}", excerpt(header.text)))
    })
}
