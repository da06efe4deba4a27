//! Tables of routed experts, and of latent attention with its projections: DeepSeek-V3's, and the sparse one
//! of V3.2 and GLM-5.

use std::collections::BTreeMap;

use super::attention::Phase;
use super::rules::Nested;
use super::spec::Spec;
use super::tables::{Rows, Source, counted_bytes, dtype, named, weight_dtype};
use crate::hardware::catalog::{Experts, Indexer, LatentAttention, Model};
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

/// How unevenly tokens choose experts: the package takes the routers of DeepSeek's kind and of Llama-4 for
/// more even than others.
fn distribution(model: &Model, experts: &Experts) -> &'static str {
    if model.latent.is_some() || experts.per_token == 1 { "power_law_1.01" } else { "power_law_1.2" }
}

impl Mixture {
    pub fn read(
        parquet: ReadParquet,
        sources: &[Source],
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
        let (tensor_parallel, expert_parallel) =
            (deployment.expert_tensor_parallel(), deployment.expert_parallel);
        let wanted = [
            ("topk", experts.per_token),
            ("num_experts", experts.count),
            ("hidden_size", model.embedding_dim),
            ("inter_size", experts.hidden_dim),
            ("moe_tp_size", tensor_parallel),
            ("moe_ep_size", expert_parallel),
        ];
        let mut curve: BTreeMap<u64, f64> = BTreeMap::new();
        for source in sources {
            let rows = Rows::read(parquet, source, &COLUMNS)?;
            let (dtypes, distributions) = (rows.texts("moe_dtype")?, rows.texts("distribution")?);
            let (tokens, latency) = (rows.numbers("num_tokens")?, rows.numbers("latency")?);
            let columns = wanted.iter().map(|(name, value)| Ok((rows.numbers(name)?, f64::from(*value))));
            let columns = columns.collect::<Result<Vec<_>, HardwareError>>()?;
            for row in rows.kept() {
                let fits = dtypes[row] == weight_dtype(format)
                    && distributions[row] == distribution(model, experts)
                    && columns.iter().all(|(values, value)| values[row] == *value);
                if fits {
                    curve.entry(tokens[row] as u64).or_insert(latency[row]);
                }
            }
        }
        // A single point does not tell what launching costs: other versions of the package have the rest.
        if curve.len() < 2 {
            let said: Vec<String> = wanted.iter().map(|(name, value)| format!("{name} {value}")).collect();
            return Err(HardwareError::Unsupported(format!(
                "{} has {} of experts of {} in {}; earlier versions of the package's tables beside it, another split, or \"execution_time\": \"analytical\"",
                named(sources),
                if curve.is_empty() { "no rows" } else { "one row" },
                said.join(", "),
                weight_dtype(format)
            )));
        }
        let roofline = MixtureRoofline {
            per_token: experts.per_token.into(),
            experts: experts.count.into(),
            hidden: model.embedding_dim.into(),
            inner: experts.hidden_dim.into(),
            tensor_parallel: tensor_parallel.into(),
            expert_parallel: expert_parallel.into(),
            weight_bytes: counted_bytes(format),
            flops_per_ms: spec.flops_per_ms(format)?,
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

/// What latent attention was measured for.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedLatent {
    pub latent: LatentAttention,
    pub hidden: f64,
    /// Of one device.
    pub heads: f64,
    pub weights: WeightFormat,
    pub kv_cache: Precision,
}

/// DeepSeek-V3's ranks and widths, and GLM-5's: those that were measured, under the names of their
/// architectures in tables of sparse attention.
const MEASURED: [([u32; 5], Option<Indexer>, &str); 3] = [
    ([1536, 512, 64, 128, 128], None, ""),
    (
        [1536, 512, 64, 128, 128],
        Some(Indexer { heads: 64, head_dim: 128, top_k: 2048 }),
        "DeepseekV32ForCausalLM",
    ),
    (
        [2048, 512, 64, 192, 256],
        Some(Indexer { heads: 32, head_dim: 128, top_k: 2048 }),
        "GlmMoeDsaForCausalLM",
    ),
];

/// The name that tables have for attention of this shape; `None` if it was not measured.
pub(super) fn architecture(latent: LatentAttention) -> Option<&'static str> {
    let shape = [latent.query_rank, latent.kv_rank, latent.rope_dim, latent.nope_dim, latent.value_dim];
    MEASURED
        .iter()
        .find(|(known, indexer, _)| *known == shape && *indexer == latent.indexer)
        .map(|(_, _, name)| *name)
}

type Roofline = Box<dyn Fn([f64; 3]) -> f64>;

impl AskedLatent {
    fn roofline(self, phase: Phase, spec: &Spec) -> Result<Roofline, HardwareError> {
        let (flops_per_ms, bytes_per_ms, kv_bytes) =
            (spec.bf16_flops_per_ms, spec.bytes_per_ms, self.kv_cache.bytes());
        if let Some(indexer) = self.latent.indexer {
            return self.sparse_roofline(indexer, phase, spec);
        }
        Ok(match phase {
            Phase::Context => Box::new(move |[heads, length, batch]| {
                let bytes = batch * heads * (kv_bytes * length * 320.0 + 2.0 * length * 320.0);
                (batch * heads * 320.0 * length * length / flops_per_ms).max(bytes / bytes_per_ms)
            }),
            Phase::Generation => Box::new(move |[heads, batch, length]| {
                let bytes = batch * (heads * 1088.0 * 2.0 + (length - 1.0) * 576.0 * kv_bytes);
                (2.0 * batch * heads * 1088.0 * length / flops_per_ms).max(bytes / bytes_per_ms)
            }),
        })
    }

    /// Projections, the indexer's scan of the whole context in FP8, and attention to the tokens that it
    /// chooses.
    fn sparse_roofline(self, indexer: Indexer, phase: Phase, spec: &Spec) -> Result<Roofline, HardwareError> {
        let Self { latent, hidden, weights, kv_cache, .. } = self;
        let (bf16, bytes_per_ms) = (spec.bf16_flops_per_ms, spec.bytes_per_ms);
        let (products, scan) = (spec.flops_per_ms(weights)?, spec.flops_per_ms(WeightFormat::Fp8)?);
        let [query_rank, rank, rope, nope, value] =
            [latent.query_rank, latent.kv_rank, latent.rope_dim, latent.nope_dim, latent.value_dim]
                .map(f64::from);
        let (index_heads, index_dim, chosen) =
            (f64::from(indexer.heads), f64::from(indexer.head_dim), f64::from(indexer.top_k));
        let (weight_bytes, kv_bytes) = (counted_bytes(weights), kv_cache.bytes());
        // A key of the scan: a byte a number, and four for each 128.
        let key_bytes = index_dim + (index_dim / 128.0).ceil() * 4.0;
        let down = query_rank + rank + rope + index_dim;
        let parameters = move |heads: f64| {
            hidden * down
                + query_rank * (heads * (nope + rope) + index_heads * index_dim)
                + hidden * (index_heads + heads * value)
        };
        // The absorbed projections of keys and values are multiplied, but not counted among what is read.
        let products_flops =
            move |tokens: f64, heads: f64| 2.0 * tokens * (parameters(heads) + heads * rank * (nope + value));
        let attention_flops = move |pairs: f64, heads: f64| 2.0 * heads * (2.0 * rank + rope) * pairs;
        Ok(match phase {
            Phase::Context => Box::new(move |[heads, length, batch]| {
                let tokens = batch * length;
                let scans = length > chosen;
                let pairs = if scans {
                    batch * (chosen * (chosen + 1.0) / 2.0 + (length - chosen) * chosen)
                } else {
                    batch * length * (length + 1.0) / 2.0
                };
                let scan_flops = if scans { 2.0 * tokens * index_heads * index_dim * length } else { 0.0 };
                let scan_bytes = if scans { batch * length * key_bytes } else { 0.0 };
                let bytes = parameters(heads) * weight_bytes
                    + batch * heads * length.min(chosen) * (rank + rope) * kv_bytes
                    + scan_bytes
                    + tokens * heads * (nope + rope) * 4.0;
                let compute = products_flops(tokens, heads) / products
                    + scan_flops / scan
                    + attention_flops(pairs, heads) / bf16;
                compute.max(bytes / bytes_per_ms)
            }),
            Phase::Generation => Box::new(move |[heads, batch, length]| {
                let seen = length.min(chosen);
                let scan_flops = 2.0 * batch * index_heads * index_dim * length;
                let bytes = parameters(heads) * weight_bytes
                    + batch * (length * key_bytes + seen * (rank + rope) * kv_bytes);
                let compute = products_flops(batch, heads) / products
                    + scan_flops / scan
                    + attention_flops(batch * seen, heads) / bf16;
                compute.max(bytes / bytes_per_ms)
            }),
        })
    }
}

impl Latent {
    pub fn read(
        parquet: ReadParquet,
        sources: &[Source],
        phase: Phase,
        spec: &Spec,
        asked: AskedLatent,
    ) -> Result<Self, HardwareError> {
        const COLUMNS: [&str; 9] = [
            "op_name",
            "architecture",
            "kv_cache_dtype",
            "gemm_type",
            "num_heads",
            "batch_size",
            "isl",
            "step",
            "latency",
        ];
        let AskedLatent { latent, heads, weights, kv_cache, .. } = asked;
        let is_sparse = latent.indexer.is_some();
        let name = architecture(latent).unwrap_or_default();
        // Kernels of TensorRT-LLM come first among those of sparse attention with an FP8 cache.
        let (mut points, mut preferred): (BTreeMap<[u64; 3], f64>, BTreeMap<[u64; 3], f64>) =
            Default::default();
        for source in sources {
            let rows = Rows::read(parquet, source, &COLUMNS)?;
            let (kv, gemm) = (rows.texts("kv_cache_dtype")?, rows.texts("gemm_type")?);
            let (ops, architectures) = match is_sparse {
                true => (Some(rows.texts("op_name")?), Some(rows.texts("architecture")?)),
                false => (None, None),
            };
            let [row_heads, batch, isl, step, latency] =
                ["num_heads", "batch_size", "isl", "step", "latency"].map(|name| rows.numbers(name));
            let (row_heads, batch, isl, step, latency) = (row_heads?, batch?, isl?, step?, latency?);
            let mut of_source: [BTreeMap<[u64; 3], f64>; 2] = Default::default();
            for row in
                rows.kept().filter(|&row| kv[row] == dtype(kv_cache) && gemm[row] == weight_dtype(weights))
            {
                // Rows without an indexer are of layers that take over the choice of others (GLM-5.2).
                let skips = ops.is_some_and(|ops| ops[row].contains("skip_indexer"));
                if skips || architectures.is_some_and(|architectures| architectures[row] != name) {
                    continue;
                }
                let (heads, batch) = (row_heads[row] as u64, batch[row] as u64);
                let point = match phase {
                    Phase::Context if step[row] != 0.0 => continue,
                    Phase::Context => [heads, isl[row] as u64, batch],
                    Phase::Generation => [heads, batch, (isl[row] + step[row]) as u64],
                };
                let is_preferred =
                    is_sparse && (kv_cache == Precision::Bf16 || rows.kernel(row).contains("trtllm"));
                let values = &mut of_source[usize::from(is_preferred)];
                // Of equal rows of sparse attention the last counts, of others the first.
                if is_sparse {
                    values.insert(point, latency[row]);
                } else {
                    values.entry(point).or_insert(latency[row]);
                }
            }
            let [others, first] = of_source;
            others.into_iter().for_each(|(point, ms)| _ = points.entry(point).or_insert(ms));
            first.into_iter().for_each(|(point, ms)| _ = preferred.entry(point).or_insert(ms));
        }
        let points = if preferred.is_empty() { points } else { preferred };
        let sqrt_axis = (phase == Phase::Context && !is_sparse).then_some(1);
        let points = points.into_iter().map(|(point, ms)| (point.map(|number| number as f64), ms)).collect();
        match Nested::new(points, sqrt_axis, asked.roofline(phase, spec)?) {
            Some(points) => Ok(Self { points, phase, heads }),
            None => Err(HardwareError::Unsupported(format!(
                "{} has too few rows of latent attention with {} weights and {} KV cache; \"weights\" and \"kv_cache\" name others",
                named(sources),
                weight_dtype(weights),
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
        let deployment =
            Deployment::resolve("mistralai/Mixtral-8x7B-v0.1", "h100_dgx", 2, 1, &Files::default()).unwrap();
        let experts = deployment.model.experts.unwrap();
        let read = |deployment: &Deployment, format| {
            Mixture::read(
                table,
                &[Source::whole("moe_perf.parquet".into())],
                &h100(),
                deployment,
                &experts,
                format,
            )
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
