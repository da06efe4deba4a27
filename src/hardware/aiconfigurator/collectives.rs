//! All-reduces, and the gathering and scattering of tokens between groups that share experts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::tables::{Rows, Source};
use crate::hardware::{HardwareError, ReadParquet};

/// One collective over so many devices, by numbers in a message.
pub(super) struct Collective {
    /// Numbers, and ms; ascending.
    curve: Vec<(f64, f64)>,
}

impl Collective {
    /// An all-reduce of the engine's own.
    pub fn all_reduce(parquet: ReadParquet, sources: &[Source], devices: u32) -> Result<Self, HardwareError> {
        let mut curve: BTreeMap<u64, f64> = BTreeMap::new();
        let mut missing = None;
        for source in sources {
            let rows = Rows::read(parquet, source, &["num_gpus", "message_size", "backend", "latency"])?;
            let (gpus, sizes, latency) =
                (rows.numbers("num_gpus")?, rows.numbers("message_size")?, rows.numbers("latency")?);
            // TensorRT-LLM's table has one implementation and no such column.
            let backends = match rows.optional("backend") {
                Some(_) => Some(rows.texts("backend")?),
                None => None,
            };
            // Timed with CUDA graphs where they were at all.
            let has_graphs =
                backends.is_some_and(|backends| backends.iter().any(|backend| backend.ends_with("_graph")));
            for row in rows.kept() {
                let graph = !has_graphs || backends.is_none_or(|backends| backends[row].ends_with("_graph"));
                if gpus[row] == f64::from(devices) && graph {
                    curve.entry(sizes[row] as u64).or_insert(latency[row]);
                }
            }
            missing.get_or_insert(rows.bad(format!("no rows of all-reduces over {devices} devices")));
        }
        Self::new(curve, missing)
    }

    /// `op` of NCCL's.
    pub fn nccl(parquet: ReadParquet, file: &Path, op: &str, devices: u32) -> Result<Self, HardwareError> {
        let source = Source::whole(PathBuf::from(file));
        let rows =
            Rows::read(parquet, &source, &["op_name", "nccl_dtype", "num_gpus", "message_size", "latency"])?;
        let (ops, dtypes) = (rows.texts("op_name")?, rows.texts("nccl_dtype")?);
        let (gpus, sizes, latency) =
            (rows.numbers("num_gpus")?, rows.numbers("message_size")?, rows.numbers("latency")?);
        let mut curve: BTreeMap<u64, f64> = BTreeMap::new();
        for row in rows
            .kept()
            .filter(|&row| ops[row] == op && dtypes[row] == "half" && gpus[row] == f64::from(devices))
        {
            curve.entry(sizes[row] as u64).or_insert(latency[row]);
        }
        Self::new(curve, Some(rows.bad(format!("no rows of {op} over {devices} devices"))))
    }

    fn new(curve: BTreeMap<u64, f64>, missing: Option<HardwareError>) -> Result<Self, HardwareError> {
        match missing {
            Some(error) if curve.is_empty() => Err(error),
            _ => Ok(Self { curve: curve.into_iter().map(|(size, ms)| (size as f64, ms)).collect() }),
        }
    }

    /// Lines between points; beyond them in proportion to the message.
    pub fn ms(&self, numbers: f64) -> f64 {
        let index = self.curve.partition_point(|(size, _)| *size < numbers);
        match (index.checked_sub(1).map(|below| self.curve[below]), self.curve.get(index).copied()) {
            (Some((low, from)), Some((high, to))) => from + (numbers - low) / (high - low) * (to - from),
            (None, Some((size, ms))) | (Some((size, ms)), None) if size > 0.0 => ms * numbers / size,
            (None, Some((_, ms))) => ms,
            _ => unreachable!("the curve has points"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Columns;

    #[expect(clippy::unnecessary_wraps, reason = "the type of what reads Parquet")]
    fn table(_: &Path, names: &[&str]) -> Result<Vec<Option<Columns>>, String> {
        let column = |name: &&str| match *name {
            "op_name" => Some(Columns::Texts(
                ["all_gather", "all_gather", "all_gather", "reduce_scatter"].map(String::from).to_vec(),
            )),
            "nccl_dtype" => Some(Columns::Texts(["half", "half", "int8", "half"].map(String::from).to_vec())),
            "num_gpus" => Some(Columns::Numbers(vec![4.0; 4])),
            "message_size" => Some(Columns::Numbers(vec![256.0, 512.0, 256.0, 256.0])),
            "latency" => Some(Columns::Numbers(vec![0.01, 0.02, 9.0, 7.0])),
            _ => None,
        };
        Ok(names.iter().map(column).collect())
    }

    #[test]
    fn messages_between_and_beyond_points() {
        let gather = Collective::nccl(table, Path::new("nccl_perf.parquet"), "all_gather", 4).unwrap();
        for (numbers, ms) in [(128.0, 0.005), (256.0, 0.01), (384.0, 0.015), (512.0, 0.02), (1024.0, 0.04)] {
            assert!((gather.ms(numbers) / ms - 1.0).abs() < 1e-12, "{numbers}: {}", gather.ms(numbers));
        }
        let error = Collective::nccl(table, Path::new("nccl_perf.parquet"), "all_gather", 8)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("no rows of all_gather over 8 devices"), "{error}");
    }
}
