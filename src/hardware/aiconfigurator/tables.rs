//! The measured tables of one system, and those of matrix products.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::rules::{Product, Site};
use super::spec::Spec;
use crate::hardware::{Columns, HardwareError, Precision, ReadParquet, WeightFormat};

/// A table's file, of which all rows count, or those of some kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub file: PathBuf,
    pub kernels: Option<BTreeSet<String>>,
}

impl Source {
    pub fn whole(file: PathBuf) -> Self {
        Self { file, kernels: None }
    }
}

/// Where a table was looked for first, for messages.
pub(super) fn named(sources: &[Source]) -> String {
    sources.first().map(|source| source.file.display().to_string()).unwrap_or_default()
}

/// Rows of a Parquet file.
pub(super) struct Rows<'a> {
    file: &'a Path,
    names: Vec<&'static str>,
    columns: Vec<Option<Columns>>,
    kernels: Option<&'a BTreeSet<String>>,
    /// Of the first column, that of the kernels' names.
    len: usize,
}

const KERNEL: &str = "kernel_source";

impl<'a> Rows<'a> {
    pub fn read(
        parquet: ReadParquet,
        source: &'a Source,
        names: &[&'static str],
    ) -> Result<Self, HardwareError> {
        let file = source.file.as_path();
        let names: Vec<&'static str> = names.iter().copied().chain([KERNEL]).collect();
        let columns = parquet(file, &names)
            .map_err(|message| HardwareError::BadModel { file: file.into(), message })?;
        let len = |columns: &Columns| match columns {
            Columns::Numbers(values) => values.len(),
            Columns::Texts(values) => values.len(),
        };
        let len = columns.iter().flatten().map(len).max().unwrap_or(0);
        Ok(Self { file, names, columns, kernels: source.kernels.as_ref(), len })
    }

    /// Rows that count.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.len).filter(|&row| self.kernels.is_none_or(|kernels| kernels.contains(self.kernel(row))))
    }

    /// The kernel a row was measured with; empty where the table does not say.
    pub fn kernel(&self, row: usize) -> &str {
        match self.optional(KERNEL) {
            Some(Columns::Texts(values)) => &values[row],
            _ => "",
        }
    }

    pub fn bad(&self, message: String) -> HardwareError {
        HardwareError::BadModel { file: self.file.into(), message }
    }

    pub fn optional(&self, name: &str) -> Option<&Columns> {
        let index = self.names.iter().position(|known| *known == name).expect("asked for when read");
        self.columns[index].as_ref()
    }

    pub fn numbers(&self, name: &str) -> Result<&[f64], HardwareError> {
        match self.optional(name) {
            Some(Columns::Numbers(values)) => Ok(values),
            _ => Err(self.bad(format!("no column `{name}` of numbers"))),
        }
    }

    pub fn texts(&self, name: &str) -> Result<&[String], HardwareError> {
        match self.optional(name) {
            Some(Columns::Texts(values)) => Ok(values),
            _ => Err(self.bad(format!("no column `{name}` of texts"))),
        }
    }
}

/// As the tables spell it.
pub(super) fn dtype(precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 => "bfloat16",
        Precision::Fp8 => "fp8",
    }
}

/// As the tables spell it.
pub(super) fn weight_dtype(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::Bf16 => "bfloat16",
        WeightFormat::Int4 | WeightFormat::Int4Group32 => "int4_wo",
        WeightFormat::Mxfp4 => "w4a16_mxfp4",
        other => other.name(),
    }
}

/// Matrix products.
pub(super) struct Gemm {
    sites: Vec<Site>,
    roofline: GemmRoofline,
    name: String,
}

#[derive(Clone, Copy)]
struct GemmRoofline {
    flops_per_ms: f64,
    bytes_per_ms: f64,
    weight_bytes: f64,
}

impl GemmRoofline {
    fn ms(self, m: f64, n: f64, k: f64) -> f64 {
        let bytes = 2.0 * m * n + self.weight_bytes * (m * k + n * k);
        (2.0 * m * n * k / self.flops_per_ms).max(bytes / self.bytes_per_ms)
    }
}

impl Gemm {
    /// `sources` in the order in which they answer: of equal products the first counts.
    pub fn read(
        parquet: ReadParquet,
        sources: &[Source],
        spec: &Spec,
        weights: WeightFormat,
    ) -> Result<Self, HardwareError> {
        let name = named(sources);
        let flops_per_ms = spec.flops_per_ms(weights)?;
        let roofline = GemmRoofline {
            flops_per_ms,
            bytes_per_ms: spec.bytes_per_ms,
            weight_bytes: counted_bytes(weights),
        };
        // Scaled statically the product is the same: what scaling takes is taken off elsewhere.
        let dtype = if weights == WeightFormat::Fp8Static { "fp8" } else { weight_dtype(weights) };
        let mut sites: BTreeMap<(u64, u64), BTreeMap<u64, f64>> = BTreeMap::new();
        for source in sources {
            let rows = Rows::read(parquet, source, &["gemm_dtype", "m", "n", "k", "latency"])?;
            let (dtypes, latency) = (rows.texts("gemm_dtype")?, rows.numbers("latency")?);
            let (m, n, k) = (rows.numbers("m")?, rows.numbers("n")?, rows.numbers("k")?);
            for row in rows.kept().filter(|&row| dtypes[row] == dtype) {
                // Nothing is faster than the roofline: small operands may have sat in the cache.
                let ms = latency[row].max(roofline.ms(m[row], n[row], k[row]));
                sites.entry((n[row] as u64, k[row] as u64)).or_default().entry(m[row] as u64).or_insert(ms);
            }
        }
        if sites.is_empty() {
            return Err(HardwareError::Unsupported(format!("{name} has no rows of `gemm_dtype` {dtype}")));
        }
        let site = |((n, k), curve): ((u64, u64), BTreeMap<u64, f64>)| Site {
            n: n as f64,
            k: k as f64,
            curve: curve.into_iter().map(|(m, ms)| (m as f64, ms)).collect(),
        };
        Ok(Self { sites: sites.into_iter().map(site).collect(), roofline, name })
    }

    /// The least that physics allows, ms.
    pub fn roofline_ms(&self, m: f64, n: f64, k: f64) -> f64 {
        self.roofline.ms(m, n, k)
    }

    /// The product with a matrix of `k` rows and `n` columns.
    pub fn shape(&self, n: f64, k: f64) -> Result<Product<'_, impl Fn(f64, f64, f64) -> f64>, HardwareError> {
        let roofline = self.roofline;
        Product::new(&self.sites, n, k, move |m, n, k| roofline.ms(m, n, k)).ok_or_else(|| {
            HardwareError::Unsupported(format!(
                "{} has no matrix product within two octaves of n {n}, k {k}",
                self.name
            ))
        })
    }
}

/// Bytes of a weight as the package counts them: without scales but those of NVFP4.
pub(super) fn counted_bytes(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::Bf16 => 2.0,
        WeightFormat::Fp8 | WeightFormat::Fp8Static | WeightFormat::Fp8Block => 1.0,
        WeightFormat::Nvfp4 => 0.5625,
        WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => 0.5,
    }
}
