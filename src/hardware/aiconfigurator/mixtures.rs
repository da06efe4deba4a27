//! Tables of routed experts, and of the latent attention of DeepSeek-V3's shape with its projections.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::rules::Nested;
use super::spec::Spec;
use super::tables::{Phase, Rows, dtype, weight_dtype};
use crate::hardware::catalog::{Experts, Model};
use crate::hardware::{Deployment, HardwareError, Precision, ReadParquet, WeightFormat};

/// Routed experts of one layer on one device, by tokens.
pub(super) struct Mixture {
    /// Tokens and ms, ascending.
    curve: Vec<(f64, f64)>,
    roofline: MixtureRoofline,
}

#[derive(Clone, Copy)]
struct MixtureRoofline {
    per_token: f64,
    experts: f64,
    hidden: f64,
    inner: f64,
    tensor_parallel: f64,
    expert_parallel: f64,
    weight_bytes: f64,
    flops_per_ms: f64,
    bytes_per_ms: f64,
}

impl MixtureRoofline {
    /// Divisions are whole, as there.
    fn ms(self, tokens: f64) -> f64 {
        let Self { per_token, experts, hidden, inner, tensor_parallel, expert_parallel, .. } = self;
        let pairs = (tokens * per_token / expert_parallel).floor();
        let flops = tokens * per_token * hidden * inner * 6.0 / expert_parallel / tensor_parallel;
        let hit = (experts / expert_parallel).floor().min(pairs);
        let bytes = self.weight_bytes
            * (pairs * hidden * 2.0
                + (pairs * inner * 3.0 / tensor_parallel).floor()
                + (3.0 * hidden * inner / tensor_parallel).floor() * hit);
        (flops / self.flops_per_ms).max(bytes / self.bytes_per_ms)
    }
}

/// Bytes of a weight without its scales, and the multiple of the bf16 peak, as the package counts.
pub(super) fn counted(format: WeightFormat) -> (f64, f64) {
    match format {
        WeightFormat::Bf16 => (2.0, 1.0),
        WeightFormat::Fp8 | WeightFormat::Fp8Static | WeightFormat::Fp8Block => (1.0, 2.0),
        WeightFormat::Nvfp4 => (0.5625, 4.0),
        WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => (0.5, 1.0),
    }
}

/// How unevenly tokens choose experts: the package takes DeepSeek's routers for more even than others.
fn distribution(model: &Model) -> &'static str {
    if model.latent.is_some() { "power_law_1.01" } else { "power_law_1.2" }
}

impl Mixture {
    pub fn read(
        parquet: ReadParquet,
        files: &[PathBuf],
        spec: &Spec,
        deployment: &Deployment,
        experts: &Experts,
        format: WeightFormat,
    ) -> Result<Self, HardwareError> {
        const COLUMNS: [&str; 10] = [
            "moe_dtype",
            "distribution",
            "topk",
            "num_experts",
            "hidden_size",
            "inter_size",
            "moe_tp_size",
            "moe_ep_size",
            "num_tokens",
            "latency",
        ];
        let model = &deployment.model;
        let (tensor_parallel, expert_parallel) = (deployment.expert_tensor_parallel(), deployment.expert_parallel);
        let wanted = [
            ("topk", experts.per_token),
            ("num_experts", experts.count),
            ("hidden_size", model.embedding_dim),
            ("inter_size", experts.hidden_dim),
            ("moe_tp_size", tensor_parallel),
            ("moe_ep_size", expert_parallel),
        ];
        let mut curve: BTreeMap<u64, f64> = BTreeMap::new();
        for file in files {
            let rows = Rows::read(parquet, file, &COLUMNS)?;
            let (dtypes, distributions) = (rows.texts("moe_dtype")?, rows.texts("distribution")?);
            let (tokens, latency) = (rows.numbers("num_tokens")?, rows.numbers("latency")?);
            let columns = wanted.iter().map(|(name, value)| Ok((rows.numbers(name)?, f64::from(*value))));
            let columns = columns.collect::<Result<Vec<_>, HardwareError>>()?;
            for row in 0..latency.len() {
                let fits = dtypes[row] == weight_dtype(format)
                    && distributions[row] == distribution(model)
                    && columns.iter().all(|(values, value)| values[row] == *value);
                if fits {
                    curve.entry(tokens[row] as u64).or_insert(latency[row]);
                }
            }
        }
        if curve.is_empty() {
            let said: Vec<String> = wanted.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let name = files.first().map(|file| file.display().to_string()).unwrap_or_default();
            return Err(HardwareError::Unsupported(format!(
                "{name} has no experts of {} in {}; another split, or \"execution_time\": \"analytical\"",
                said.join(", "),
                weight_dtype(format)
            )));
        }
        let (weight_bytes, multiple) = counted(format);
        let roofline = MixtureRoofline {
            per_token: experts.per_token.into(),
            experts: experts.count.into(),
            hidden: model.embedding_dim.into(),
            inner: experts.hidden_dim.into(),
            tensor_parallel: tensor_parallel.into(),
            expert_parallel: expert_parallel.into(),
            weight_bytes,
            flops_per_ms: spec.bf16_flops_per_ms * multiple,
            bytes_per_ms: spec.bytes_per_ms,
        };
        Ok(Self { curve: curve.into_iter().map(|(tokens, ms)| (tokens as f64, ms)).collect(), roofline })
    }

    /// Lines between points; beyond them the roofline over the utilisation of the last one.
    pub fn ms(&self, tokens: f64) -> f64 {
        let index = self.curve.partition_point(|(known, _)| *known < tokens);
        let beyond = |(edge, ms): (f64, f64)| self.roofline.ms(tokens) * ms / self.roofline.ms(edge);
        match (index.checked_sub(1).map(|below| self.curve[below]), self.curve.get(index)) {
            (_, Some((known, ms))) if *known == tokens => *ms,
            (None, Some(first)) => beyond(*first),
            (Some((low, from)), Some((high, to))) => from + (tokens - low) / (high - low) * (to - from),
            (Some(last), None) => beyond(last),
            (None, None) => unreachable!("the curve has points"),
        }
    }
}

/// The attention of one layer with all its projections, measured as one.
pub(super) struct Latent {
    points: Nested<Box<dyn Fn([f64; 3]) -> f64>>,
    phase: Phase,
    heads: f64,
}

impl Latent {
    pub fn read(
        parquet: ReadParquet,
        files: &[PathBuf],
        phase: Phase,
        spec: &Spec,
        heads: f64,
        format: WeightFormat,
        kv_cache: Precision,
    ) -> Result<Self, HardwareError> {
        const COLUMNS: [&str; 7] = ["kv_cache_dtype", "gemm_type", "num_heads", "batch_size", "isl", "step", "latency"];
        let mut points: BTreeMap<[u64; 3], f64> = BTreeMap::new();
        for file in files {
            let rows = Rows::read(parquet, file, &COLUMNS)?;
            let (kv, gemm) = (rows.texts("kv_cache_dtype")?, rows.texts("gemm_type")?);
            let [row_heads, batch, isl, step, latency] =
                ["num_heads", "batch_size", "isl", "step", "latency"].map(|name| rows.numbers(name));
            let (row_heads, batch, isl, step, latency) = (row_heads?, batch?, isl?, step?, latency?);
            for row in (0..latency.len()).filter(|&row| kv[row] == dtype(kv_cache) && gemm[row] == weight_dtype(format)) {
                let (heads, batch) = (row_heads[row] as u64, batch[row] as u64);
                let point = match phase {
                    Phase::Context if step[row] != 0.0 => continue,
                    Phase::Context => [heads, isl[row] as u64, batch],
                    Phase::Generation => [heads, batch, (isl[row] + step[row]) as u64],
                };
                points.entry(point).or_insert(latency[row]);
            }
        }
        let (flops_per_ms, bytes_per_ms, kv_bytes) = (spec.bf16_flops_per_ms, spec.bytes_per_ms, kv_cache.bytes());
        let roofline: Box<dyn Fn([f64; 3]) -> f64> = match phase {
            Phase::Context => Box::new(move |[heads, length, batch]| {
                let bytes = batch * heads * (kv_bytes * length * 320.0 + 2.0 * length * 320.0);
                (batch * heads * 320.0 * length * length / flops_per_ms).max(bytes / bytes_per_ms)
            }),
            Phase::Generation => Box::new(move |[heads, batch, length]| {
                let bytes = batch * (heads * 1088.0 * 2.0 + (length - 1.0) * 576.0 * kv_bytes);
                (2.0 * batch * heads * 1088.0 * length / flops_per_ms).max(bytes / bytes_per_ms)
            }),
        };
        let sqrt_axis = (phase == Phase::Context).then_some(1);
        let points = points.into_iter().map(|(point, ms)| (point.map(|number| number as f64), ms)).collect();
        match Nested::new(points, sqrt_axis, roofline) {
            Some(points) => Ok(Self { points, phase, heads }),
            None => Err(HardwareError::Unsupported(format!(
                "{} has too few rows of latent attention with {} weights and {} KV cache",
                files.first().map(|file| file.display().to_string()).unwrap_or_default(),
                weight_dtype(format),
                dtype(kv_cache)
            ))),
        }
    }

    pub fn ms(&self, batch: u64, length: f64) -> f64 {
        let (batch, length) = (batch.max(1) as f64, length.max(1.0));
        self.points.ms(match self.phase {
            Phase::Context => [self.heads, length, batch],
            Phase::Generation => [self.heads, batch, length],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::aiconfigurator::spec::tests::h100;
    use crate::hardware::{Columns, Files};

    fn numbers(values: &[f64]) -> Option<Columns> {
        Some(Columns::Numbers(values.to_vec()))
    }

    fn texts(values: &[&str]) -> Option<Columns> {
        Some(Columns::Texts(values.iter().map(|value| value.to_string()).collect()))
    }

    /// Three rows of Mixtral shared out by two devices, one of them measured twice, and one of another split.
    #[expect(clippy::unnecessary_wraps, reason = "the type of what reads Parquet")]
    fn table(_: &std::path::Path, names: &[&str]) -> Result<Vec<Option<Columns>>, String> {
        let column = |name: &&str| match *name {
            "moe_dtype" => texts(&["bfloat16"; 4]),
            "distribution" => texts(&["power_law_1.2"; 4]),
            "topk" => numbers(&[2.0; 4]),
            "num_experts" => numbers(&[8.0; 4]),
            "hidden_size" => numbers(&[4096.0; 4]),
            "inter_size" => numbers(&[14336.0; 4]),
            "moe_tp_size" => numbers(&[2.0, 2.0, 2.0, 1.0]),
            "moe_ep_size" => numbers(&[1.0, 1.0, 1.0, 2.0]),
            "num_tokens" => numbers(&[16.0, 64.0, 16.0, 16.0]),
            "latency" => numbers(&[0.4, 0.6, 0.9, 7.0]),
            _ => None,
        };
        Ok(names.iter().map(column).collect())
    }

    #[test]
    fn experts_between_and_beyond_points() {
        let deployment = Deployment::resolve("mistralai/Mixtral-8x7B-v0.1", "h100_dgx", 2, 1, &Files::default()).unwrap();
        let experts = deployment.model.experts.unwrap();
        let read = |deployment: &Deployment, format| {
            Mixture::read(table, &[PathBuf::from("moe_perf.parquet")], &h100(), deployment, &experts, format)
        };
        let mixture = read(&deployment, WeightFormat::Bf16).unwrap();
        assert_eq!((mixture.ms(16.0), mixture.ms(64.0)), (0.4, 0.6));
        assert!((mixture.ms(40.0) - 0.5).abs() < 1e-12);
        // Compute-bound far beyond the last point: in proportion to the tokens.
        assert!((mixture.ms(65_536.0) / mixture.ms(32_768.0) - 2.0).abs() < 1e-9);
        // One token hits two of eight experts.
        assert!((mixture.ms(1.0) / 0.4 - 0.25).abs() < 0.01, "{}", mixture.ms(1.0));
        let error = read(&deployment, WeightFormat::Fp8Block).err().unwrap().to_string();
        assert!(error.contains("num_experts 8") && error.contains("in fp8_block"), "{error}");
    }
}
