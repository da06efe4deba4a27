//! The measured tables of one system: matrix products, attention, all-reduce.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mixtures::counted;
use super::rules::{Nested, Product, Site};
use super::spec::Spec;
use crate::hardware::{Columns, HardwareError, Precision, ReadParquet, WeightFormat};

/// Rows of a Parquet file.
pub(super) struct Rows<'a> {
    file: &'a Path,
    names: &'a [&'static str],
    columns: Vec<Option<Columns>>,
}

impl<'a> Rows<'a> {
    pub fn read(parquet: ReadParquet, file: &'a Path, names: &'a [&'static str]) -> Result<Self, HardwareError> {
        let columns = parquet(file, names).map_err(|message| HardwareError::BadModel { file: file.into(), message })?;
        Ok(Self { file, names, columns })
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
    /// `files` in the order in which they answer: of equal products the first counts.
    pub fn read(parquet: ReadParquet, files: &[PathBuf], spec: &Spec, weights: WeightFormat) -> Result<Self, HardwareError> {
        let name = files.first().map(|file| file.display().to_string()).unwrap_or_default();
        let (weight_bytes, multiple) = counted(weights);
        let flops_per_ms = match weights {
            WeightFormat::Bf16 => spec.bf16_flops_per_ms,
            WeightFormat::Fp8 | WeightFormat::Fp8Static | WeightFormat::Fp8Block => spec
                .fp8_flops_per_ms
                .ok_or_else(|| HardwareError::Unsupported(format!("{name}: the system has no FP8 units; use \"weights\": \"bf16\"")))?,
            _ => spec.bf16_flops_per_ms * multiple,
        };
        let roofline = GemmRoofline { flops_per_ms, bytes_per_ms: spec.bytes_per_ms, weight_bytes };
        // Scaled statically the product is the same: what scaling takes is taken off elsewhere.
        let dtype = if weights == WeightFormat::Fp8Static { "fp8" } else { weight_dtype(weights) };
        let mut sites: BTreeMap<(u64, u64), BTreeMap<u64, f64>> = BTreeMap::new();
        for file in files {
            let rows = Rows::read(parquet, file, &["gemm_dtype", "m", "n", "k", "latency"])?;
            let (dtypes, latency) = (rows.texts("gemm_dtype")?, rows.numbers("latency")?);
            let (m, n, k) = (rows.numbers("m")?, rows.numbers("n")?, rows.numbers("k")?);
            for row in (0..dtypes.len()).filter(|&row| dtypes[row] == dtype) {
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

    /// The product with a matrix of `k` rows and `n` columns.
    pub fn shape(&self, n: f64, k: f64) -> Result<Product<'_, impl Fn(f64, f64, f64) -> f64>, HardwareError> {
        let roofline = self.roofline;
        Product::new(&self.sites, n, k, move |m, n, k| roofline.ms(m, n, k))
            .ok_or_else(|| HardwareError::Unsupported(format!("{} has no matrix product within two octaves of n {n}, k {k}", self.name)))
    }
}

/// What attention was measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Whole prompts.
    Context,
    /// One token behind others.
    Generation,
}

#[derive(Clone, Copy)]
struct AttentionRoofline {
    phase: Phase,
    flops_per_ms: f64,
    bytes_per_ms: f64,
    head_dim: f64,
    /// `None`: as many as query heads.
    kv_heads: Option<f64>,
    kv_bytes: f64,
    window: Option<f64>,
}

impl AttentionRoofline {
    fn ms(self, heads: f64, batch: f64, length: f64) -> f64 {
        let kv_heads = self.kv_heads.unwrap_or(heads);
        let (query_width, kv_width) = (heads * self.head_dim, kv_heads * self.head_dim);
        let seen = self.window.map_or(length, |window| window.min(length));
        let (flops, bytes) = match self.phase {
            Phase::Context => {
                (2.0 * batch * length * seen * query_width, batch * length * (4.0 * query_width + 2.0 * self.kv_bytes * kv_width))
            }
            Phase::Generation => {
                (4.0 * batch * seen * query_width, batch * (4.0 * query_width + 2.0 * self.kv_bytes * (seen - 1.0) * kv_width))
            }
        };
        (flops / self.flops_per_ms).max(bytes / self.bytes_per_ms)
    }
}

/// Attention of one layer on one device. Measured points are nested by query heads, then prompt length and batch (context) or batch and
/// length (generation).
pub(super) struct Attention {
    points: Nested<Box<dyn Fn([f64; 3]) -> f64>>,
    phase: Phase,
    heads: f64,
}

const ATTENTION_COLUMNS: [&str; 11] = [
    "batch_size",
    "isl",
    "step",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "attn_dtype",
    "kv_cache_dtype",
    "window_size",
    "kernel_source",
    "latency",
];

/// Which attention is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub head_dim: u32,
    /// Query and KV heads of one device.
    pub heads: [f64; 2],
    pub kv_cache: Precision,
    /// 0: all tokens.
    pub window: u32,
    /// The kernels that are pinned for the device, if any are.
    pub lane: Option<&'a str>,
}

impl Attention {
    /// `files` in the order in which they answer. Where the kernels of `asked.lane` were measured for some heads, only they count there.
    pub fn read(parquet: ReadParquet, files: &[PathBuf], phase: Phase, spec: &Spec, asked: Asked) -> Result<Self, HardwareError> {
        let Asked { head_dim, heads: [heads, kv_heads], kv_cache, window, lane } = asked;
        // Multi-head attention is a family of its own: there KV heads grow with query heads.
        let grouped = kv_heads < heads;
        let roofline = AttentionRoofline {
            phase,
            flops_per_ms: spec.bf16_flops_per_ms,
            bytes_per_ms: spec.bytes_per_ms,
            head_dim: head_dim.into(),
            kv_heads: grouped.then_some(kv_heads),
            kv_bytes: kv_cache.bytes(),
            window: (window > 0).then(|| f64::from(window)),
        };
        let mut points: BTreeMap<[u64; 3], f64> = BTreeMap::new();
        for file in files {
            let rows = Rows::read(parquet, file, &ATTENTION_COLUMNS)?;
            let windows = match rows.optional("window_size") {
                Some(_) => Some(rows.numbers("window_size")?),
                None => None,
            };
            let kernels = match rows.optional("kernel_source") {
                Some(_) => Some(rows.texts("kernel_source")?),
                None => None,
            };
            let (dtypes, cache_dtypes, latency) = (rows.texts("attn_dtype")?, rows.texts("kv_cache_dtype")?, rows.numbers("latency")?);
            let [batch, isl, step, row_heads, row_kv_heads, head_dims] =
                ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"].map(|name| rows.numbers(name));
            let (batch, isl, step, row_heads, row_kv_heads, head_dims) = (batch?, isl?, step?, row_heads?, row_kv_heads?, head_dims?);
            let kernel = |row: usize| kernels.map_or("", |kernels| kernels[row].as_str());
            let slice = |row: usize| (row_heads[row] as u64, row_kv_heads[row] as u64);
            let same_family = |row: usize| {
                if grouped { row_kv_heads[row] == kv_heads && row_heads[row] > kv_heads } else { row_kv_heads[row] == row_heads[row] }
            };
            let wanted: Vec<usize> = (0..latency.len())
                .filter(|&row| dtypes[row] == "bfloat16" && cache_dtypes[row] == dtype(kv_cache) && head_dims[row] == f64::from(head_dim))
                .filter(|&row| windows.map_or(0.0, |windows| windows[row]) == f64::from(window) && same_family(row))
                .collect();
            // Kernels that are not pinned stand beside one another, as they were measured for different points.
            let rank = |row: usize| usize::from(lane.is_some_and(|lane| lane != kernel(row)));
            let mut served: BTreeMap<(u64, u64), usize> = BTreeMap::new();
            for &row in &wanted {
                let best = served.entry(slice(row)).or_insert(usize::MAX);
                *best = rank(row).min(*best);
            }
            let mut of_file: BTreeMap<[u64; 3], f64> = BTreeMap::new();
            for row in wanted.into_iter().filter(|&row| served[&slice(row)] == rank(row)) {
                let length = isl[row] + step[row];
                let ms = latency[row].max(roofline.ms(row_heads[row], batch[row], length));
                let point = Self::point(phase, row_heads[row], batch[row], length).map(|number| number as u64);
                of_file.insert(point, ms);
            }
            of_file.into_iter().for_each(|(point, ms)| {
                points.entry(point).or_insert(ms);
            });
        }
        let sqrt_axis = (phase == Phase::Context).then_some(1);
        let by_point: Box<dyn Fn([f64; 3]) -> f64> = match phase {
            Phase::Context => Box::new(move |[heads, length, batch]| roofline.ms(heads, batch, length)),
            Phase::Generation => Box::new(move |[heads, batch, length]| roofline.ms(heads, batch, length)),
        };
        let points = points.into_iter().map(|(point, ms)| (point.map(|number| number as f64), ms)).collect();
        match Nested::new(points, sqrt_axis, by_point) {
            Some(points) => Ok(Self { points, phase, heads }),
            None => Err(HardwareError::Unsupported(format!(
                "{} has too few rows of bf16 attention with {} KV cache, head size {head_dim} and {kv_heads} KV heads on each device{}",
                files.first().map(|file| file.display().to_string()).unwrap_or_default(),
                dtype(kv_cache),
                if window > 0 { format!(", window {window}") } else { String::new() }
            ))),
        }
    }

    fn point(phase: Phase, heads: f64, batch: f64, length: f64) -> [f64; 3] {
        match phase {
            Phase::Context => [heads, length, batch],
            Phase::Generation => [heads, batch, length],
        }
    }

    pub fn ms(&self, batch: u64, length: f64) -> f64 {
        self.points.ms(Self::point(self.phase, self.heads, batch.max(1) as f64, length.max(1.0)))
    }

    /// The mean over lengths up to a tenth shorter and longer, which evens out what only single lengths show.
    pub fn ms_around(&self, batch: u64, length: f64) -> f64 {
        const AROUND: [f64; 5] = [0.9, 0.95, 1.0, 1.05, 1.1];
        AROUND.iter().map(|factor| self.ms(batch, length * factor)).sum::<f64>() / AROUND.len() as f64
    }
}

/// All-reduce within a node.
pub(super) struct AllReduce {
    /// Numbers in a message, and ms; ascending.
    curve: Vec<(f64, f64)>,
}

impl AllReduce {
    pub fn read(parquet: ReadParquet, file: &Path, devices: u32) -> Result<Self, HardwareError> {
        let rows = Rows::read(parquet, file, &["num_gpus", "message_size", "backend", "latency"])?;
        let (gpus, sizes, latency) = (rows.numbers("num_gpus")?, rows.numbers("message_size")?, rows.numbers("latency")?);
        // TensorRT-LLM's table has one implementation and no such column.
        let backends = match rows.optional("backend") {
            Some(_) => Some(rows.texts("backend")?),
            None => None,
        };
        let has_graphs = backends.is_some_and(|backends| backends.iter().any(|backend| backend.ends_with("_graph")));
        let chosen = |row: &usize| {
            let graph = !has_graphs || backends.is_none_or(|backends| backends[*row].ends_with("_graph"));
            gpus[*row] == f64::from(devices) && graph
        };
        let curve: BTreeMap<u64, f64> = (0..latency.len()).filter(chosen).map(|row| (sizes[row] as u64, latency[row])).collect();
        if curve.is_empty() {
            return Err(rows.bad(format!("no rows of all-reduces over {devices} devices")));
        }
        Ok(Self { curve: curve.into_iter().map(|(size, ms)| (size as f64, ms)).collect() })
    }

    pub fn ms(&self, numbers: f64) -> f64 {
        let index = self.curve.partition_point(|(size, _)| *size < numbers);
        match (index.checked_sub(1).map(|below| self.curve[below]), self.curve.get(index)) {
            (None, Some((_, ms))) => *ms,
            (Some((low, from)), Some((high, to))) => from + (numbers - low) / (high - low) * (to - from),
            (Some((size, ms)), None) => ms * numbers / size,
            (None, None) => unreachable!("the curve has points"),
        }
    }
}
