//! Attention of one layer on one device, with the kernel that answers.
//!
//! A table has rows of several kernels. A slice (number formats, KV heads, head size, window) is answered by
//! one of them: the kernel that the package pins for the device and version, then those of the version asked
//! for, those with most slices first, then those of other versions. Where it names no default at all,
//! "default" and then the first kernel by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::rules::Nested;
use super::spec::Spec;
use super::tables::{Rows, Source, dtype, named};
use crate::hardware::{HardwareError, Precision, ReadParquet};

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
            Phase::Context => (
                2.0 * batch * length * seen * query_width,
                batch * length * (4.0 * query_width + 2.0 * self.kv_bytes * kv_width),
            ),
            Phase::Generation => (
                4.0 * batch * seen * query_width,
                batch * (4.0 * query_width + 2.0 * self.kv_bytes * (seen - 1.0) * kv_width),
            ),
        };
        (flops / self.flops_per_ms).max(bytes / self.bytes_per_ms)
    }
}

/// Measured points are nested by query heads, then prompt length and batch (context) or batch and length
/// (generation).
pub(super) struct Attention {
    points: Nested<Box<dyn Fn([f64; 3]) -> f64>>,
    phase: Phase,
    heads: f64,
}

const COLUMNS: [&str; 10] = [
    "batch_size",
    "isl",
    "step",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "attn_dtype",
    "kv_cache_dtype",
    "window_size",
    "latency",
];

/// Which kernel the package takes for a framework's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pin {
    /// It does not say.
    Unknown,
    /// None by name.
    Nothing,
    Kernel(String),
}

/// Which attention is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub head_dim: u32,
    /// Query and KV heads of one device.
    pub heads: [f64; 2],
    pub kv_cache: Precision,
    /// 0: all tokens.
    pub window: u32,
    pub pin: &'a Pin,
}

/// Formats of attention (of prompts only) and cache, KV heads (0: as many as query heads), head size, window.
type Slice = (String, String, u64, u64, u64);

/// What was measured with one kernel.
#[derive(Default)]
struct Kernel {
    slices: BTreeSet<Slice>,
    rows: usize,
    /// Of the slice asked for.
    points: BTreeMap<[u64; 3], f64>,
}

/// Kernels that the package knows as choices of a user; they come before others.
const KNOWN: [&str; 5] = ["fa3", "fla", "flashinfer", "triton", "trtllm_mha"];

/// Names of kernels in the order in which they answer; `first` are those of the version asked for.
fn order<'a>(
    all: &'a BTreeMap<String, Kernel>,
    first: &'a BTreeMap<String, Kernel>,
    pin: &'a Pin,
) -> Vec<&'a str> {
    let pinned = match pin {
        Pin::Unknown => {
            let mut names: Vec<&str> = all.keys().map(String::as_str).collect();
            names.sort_by_key(|name| *name != "default");
            return names;
        }
        Pin::Nothing => None,
        Pin::Kernel(name) => Some(name.as_str()),
    };
    let ranked = |kernels: &'a BTreeMap<String, Kernel>| {
        let mut names: Vec<&str> = kernels.keys().map(String::as_str).collect();
        names.sort_by_key(|name| {
            let tier = if KNOWN.contains(name) { 0 } else { 1 + u8::from(*name != "default") };
            (tier, Reverse(kernels[*name].slices.len()), Reverse(kernels[*name].rows), *name)
        });
        names
    };
    let mut names: Vec<&str> = pinned.into_iter().collect();
    for name in ranked(first).into_iter().chain(ranked(all)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Attention {
    /// `sources` in the order in which they answer; `version`: the one asked for.
    pub fn read(
        parquet: ReadParquet,
        sources: &[Source],
        version: &str,
        phase: Phase,
        spec: &Spec,
        asked: Asked,
    ) -> Result<Self, HardwareError> {
        let Asked { head_dim, heads: [heads, kv_heads], kv_cache, window, pin } = asked;
        // Multi-head attention is a family of its own: there KV heads grow with query heads.
        let grouped = kv_heads < heads;
        let fp8_arithmetic = phase == Phase::Generation
            && kv_cache == Precision::Fp8
            && spec.capability.is_some_and(|level| level >= 89);
        let roofline = AttentionRoofline {
            phase,
            flops_per_ms: spec.fp8_flops_per_ms.filter(|_| fp8_arithmetic).unwrap_or(spec.bf16_flops_per_ms),
            bytes_per_ms: spec.bytes_per_ms,
            head_dim: head_dim.into(),
            kv_heads: grouped.then_some(kv_heads),
            kv_bytes: kv_cache.bytes(),
            window: (window > 0).then(|| f64::from(window)),
        };
        let attention_dtype = if phase == Phase::Context { "bfloat16" } else { "" };
        let wanted: Slice = (
            attention_dtype.into(),
            dtype(kv_cache).into(),
            if grouped { kv_heads as u64 } else { 0 },
            head_dim.into(),
            window.into(),
        );
        let (mut all, mut first): (BTreeMap<String, Kernel>, BTreeMap<String, Kernel>) = Default::default();
        for source in sources {
            let rows = Rows::read(parquet, source, &COLUMNS)?;
            let windows = match rows.optional("window_size") {
                Some(_) => Some(rows.numbers("window_size")?),
                None => None,
            };
            let (dtypes, cache_dtypes, latency) =
                (rows.texts("attn_dtype")?, rows.texts("kv_cache_dtype")?, rows.numbers("latency")?);
            let [batch, isl, step, row_heads, row_kv_heads, head_dims] =
                ["batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"]
                    .map(|name| rows.numbers(name));
            let (batch, isl, step, row_heads, row_kv_heads, head_dims) =
                (batch?, isl?, step?, row_heads?, row_kv_heads?, head_dims?);
            let is_first = source.kernels.is_none()
                && source
                    .file
                    .parent()
                    .and_then(std::path::Path::file_name)
                    .is_some_and(|name| name == version);
            for row in rows.kept() {
                let slice: Slice = (
                    if phase == Phase::Context { dtypes[row].clone() } else { String::new() },
                    cache_dtypes[row].clone(),
                    if row_kv_heads[row] == row_heads[row] { 0 } else { row_kv_heads[row] as u64 },
                    head_dims[row] as u64,
                    windows.map_or(0, |windows| windows[row] as u64),
                );
                let length = isl[row] + step[row];
                let point = (slice == wanted).then(|| {
                    let ms = latency[row].max(roofline.ms(row_heads[row], batch[row], length));
                    (Self::point(phase, row_heads[row], batch[row], length).map(|number| number as u64), ms)
                });
                for kernels in [Some(&mut all), is_first.then_some(&mut first)].into_iter().flatten() {
                    let kernel = kernels.entry(rows.kernel(row).to_string()).or_default();
                    kernel.rows += 1;
                    if let Some((point, ms)) = point {
                        kernel.points.entry(point).or_insert(ms);
                    }
                    if !kernel.slices.contains(&slice) {
                        kernel.slices.insert(slice.clone());
                    }
                }
            }
        }
        let sqrt_axis = (phase == Phase::Context).then_some(1);
        let by_point: Box<dyn Fn([f64; 3]) -> f64> = match phase {
            Phase::Context => Box::new(move |[heads, length, batch]| roofline.ms(heads, batch, length)),
            Phase::Generation => Box::new(move |[heads, batch, length]| roofline.ms(heads, batch, length)),
        };
        let points = order(&all, &first, pin)
            .into_iter()
            .map(|name| &all[name].points)
            .find(|points| !points.is_empty());
        let points = points
            .into_iter()
            .flatten()
            .map(|(point, ms)| (point.map(|number| number as f64), *ms))
            .collect();
        match Nested::new(points, sqrt_axis, by_point) {
            Some(points) => Ok(Self { points, phase, heads }),
            None => Err(HardwareError::Unsupported(format!(
                "{} has too few rows of bf16 attention with {} KV cache, head size {head_dim} and {kv_heads} KV heads on each device{}",
                named(sources),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(of: &[(&str, usize, usize)]) -> BTreeMap<String, Kernel> {
        let kernel = |slices: usize, rows| Kernel {
            slices: (0..slices as u64).map(|heads| (String::new(), String::new(), heads, 128, 0)).collect(),
            rows,
            points: BTreeMap::new(),
        };
        of.iter().map(|(name, slices, rows)| (name.to_string(), kernel(*slices, *rows))).collect()
    }

    #[test]
    fn kernels_answer_in_the_order_of_the_package() {
        let first = kernels(&[("trtllm_mha", 64, 900), ("triton", 10, 200), ("vllm_other", 70, 999)]);
        let all = kernels(&[
            ("fa3", 90, 9000),
            ("trtllm_mha", 64, 900),
            ("triton", 10, 200),
            ("vllm_other", 70, 999),
            ("default", 80, 80),
        ]);
        assert_eq!(
            order(&all, &first, &Pin::Kernel("triton".into())),
            ["triton", "trtllm_mha", "vllm_other", "fa3", "default"]
        );
        assert_eq!(
            order(&all, &first, &Pin::Nothing),
            ["trtllm_mha", "triton", "vllm_other", "fa3", "default"]
        );
        assert_eq!(
            order(&all, &first, &Pin::Unknown),
            ["default", "fa3", "triton", "trtllm_mha", "vllm_other"]
        );
    }
}
