//! A step, composed of tables as the package composes it.
//!
//! Matrix products and elementwise operators once for all tokens, attention by batch and length, an
//! all-reduce after attention, MLP and embedding, the LM head for one row a request. Experts are a table by
//! the tokens of all groups that share them, latent attention one with all its projections. Oddities of the
//! package are kept, as its answers are what an import is held against: all layers of DeepSeek's kind count
//! as mixtures, also those that are not; on vLLM they have two all-reduces more than they need; in 0.12 GLM-5
//! in FP8 keeps its attention in bf16; Llama-4 has no shared expert, and no all-reduce in dense layers;
//! prefills of some mixtures have no LM head.

use super::attention::{Asked, Attention, Phase};
use super::collectives::Collective;
use super::mixtures::{AskedLatent, Latent, Mixture, architecture};
use super::scales::Scales;
use super::tables::Gemm;
use super::{HardwareError, Sources, WeightFormat};
use crate::hardware::Deployment;
use crate::hardware::analytical::{DenseTables, TOKENS, heads_per_device};
use crate::hardware::attention::MeasuredAttention;
use crate::hardware::catalog::{Experts, Model};
use crate::hardware::condensed::{Axis, Grid, Table};
use crate::hardware::step_times::{StepAttention, StepTimes};

/// Prefills of a batch, and their length.
const PREFILLS: Axis = Axis::new(5, 2, 9);
const LENGTH: Axis = Axis::new(7, 5, 17);
/// Decodes of a batch, and their cached tokens.
const DECODES: Axis = Axis::new(5, 3, 12);
const CACHED: Axis = Axis::new(6, 5, 18);
const ROWS: Axis = Axis::new(8, 5, 16);

/// Tokens of a chunk of Llama-4's attention, and the share of layers that the package takes to attend within
/// one, as within a window.
const LLAMA4_CHUNKS: (u32, f64) = (8192, 0.5);

/// How the package composes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Dense,
    /// Mixtral, Qwen3, gpt-oss, MiniMax.
    Mixture,
    Llama4,
    /// DeepSeek-V3, Kimi-K2; with sparse attention DeepSeek-V3.2, GLM-5.
    DeepSeek,
}

impl Family {
    fn of(model: &Model) -> Self {
        match (&model.experts, model.latent) {
            (None, _) => Self::Dense,
            (Some(_), Some(_)) => Self::DeepSeek,
            (Some(experts), None) if experts.per_token == 1 => Self::Llama4,
            (Some(_), None) => Self::Mixture,
        }
    }
}

/// Milliseconds by tokens.
type Ms<'a> = Box<dyn Fn(f64) -> f64 + 'a>;

/// Products with the weights of layers.
struct Products<'a> {
    gemm: &'a Gemm,
    /// What static scaling saves: before every product, and where the input comes from a kernel that rounds
    /// it.
    scales: Option<(Scales, Scales)>,
}

impl Products<'_> {
    fn shape(&self, n: f64, k: f64, is_rounded: bool) -> Result<Ms<'_>, HardwareError> {
        let product = self.gemm.shape(n, k)?;
        let Some((compute, matrix)) = &self.scales else {
            return Ok(Box::new(move |tokens| product.ms(tokens)));
        };
        Ok(Box::new(move |tokens| {
            let saved = compute.ms(tokens, k) + if is_rounded { matrix.ms(tokens, k) } else { 0.0 };
            (product.ms(tokens) - saved).max(self.gemm.roofline_ms(tokens, n, k))
        }))
    }
}

/// What goes between devices, ms.
struct Collectives {
    hidden: f64,
    groups: f64,
    /// Over a tensor-parallel group, and over all devices that share the experts.
    group: Option<Collective>,
    all: Option<Collective>,
    gather: Option<Collective>,
    scatter: Option<Collective>,
    /// Gathering and scattering within a group, where the engine does both.
    within: Option<[Collective; 2]>,
}

impl Collectives {
    fn read(sources: &Sources, deployment: &Deployment) -> Result<Self, HardwareError> {
        let (tp, dp) = (deployment.tensor_parallel, deployment.data_parallel);
        let all_reduce = |devices| Collective::all_reduce(sources.parquet, &sources.all_reduce, devices);
        let nccl = |op: &str, devices| match &sources.nccl {
            Some(file) => Collective::nccl(sources.parquet, file, op, devices),
            None => Err(HardwareError::Unsupported(
                "attention data parallelism needs the tables of NCCL, `comm/nccl`".into(),
            )),
        };
        let both = tp > 1 && dp > 1 && sources.settings.backend == "sglang";
        let gathers = dp > 1 && !(tp > 1 && sources.settings.backend == "trtllm");
        Ok(Self {
            hidden: deployment.model.embedding_dim.into(),
            groups: dp.into(),
            group: (tp > 1).then(|| all_reduce(tp)).transpose()?,
            all: (tp > 1 && !both).then(|| all_reduce(tp * dp)).transpose()?,
            gather: gathers.then(|| nccl("all_gather", tp * dp)).transpose()?,
            scatter: gathers.then(|| nccl("reduce_scatter", tp * dp)).transpose()?,
            within: both
                .then(|| Ok::<_, HardwareError>([nccl("reduce_scatter", tp)?, nccl("all_gather", tp)?]))
                .transpose()?,
        })
    }

    fn all_reduce(&self, tokens: f64) -> f64 {
        self.group.as_ref().map_or(0.0, |collective| collective.ms(tokens * self.hidden))
    }

    /// Tokens of one group to the experts and back.
    fn dispatch_and_combine(&self, tokens: f64) -> f64 {
        let (one, all) = (tokens * self.hidden, tokens * self.groups * self.hidden);
        let ms = |collective: &Option<Collective>, numbers: f64| {
            collective.as_ref().map_or(0.0, |collective| collective.ms(numbers))
        };
        let within: f64 = self.within.iter().flatten().map(|collective| collective.ms(one)).sum();
        2.0 * ms(&self.all, one) + ms(&self.gather, all) + ms(&self.scatter, all) + within
    }
}

impl Sources {
    /// Step times of a deployment, condensed.
    pub fn import(&self, deployment: &Deployment) -> Result<StepTimes, HardwareError> {
        let (model, tp, settings, spec) =
            (&deployment.model, deployment.tensor_parallel, &self.settings, &self.spec);
        let family = Family::of(model);
        let hidden = f64::from(model.embedding_dim);
        let gemm = Gemm::read(self.parquet, &self.gemm, spec, self.weights.layers)?;
        let bf16 = match self.weights.layers {
            WeightFormat::Bf16 => None,
            _ => Some(Gemm::read(self.parquet, &self.gemm, spec, WeightFormat::Bf16)?),
        };
        let caveat = bf16.as_ref().and_then(|bf16| timed_eagerly(self.weights.layers, &gemm, bf16));
        let bf16 = bf16.as_ref().unwrap_or(&gemm);
        let scales = match &self.scales {
            Some([compute, matrix]) => {
                let read = |sources, passes, grows| Scales::read(self.parquet, sources, spec, passes, grows);
                Some((read(compute, 2.0, false)?, read(matrix, 3.0, true)?))
            }
            None => None,
        };
        let products = Products { gemm: &gemm, scales };
        let head = bf16.shape(f64::from(model.vocabulary / tp), hidden)?;
        let collectives = Collectives::read(self, deployment)?;
        let prefills = self.layer(deployment, family, &products, bf16, &collectives, Phase::Context)?;
        let decodes = self.layer(deployment, family, &products, bf16, &collectives, Phase::Generation)?;
        let layers = deployment.layers_per_stage();
        let link = if deployment.fits_one_node() {
            spec.intra_node_bytes_per_ms
        } else {
            spec.inter_node_bytes_per_ms
        };
        let reduces_embedding = matches!(family, Family::Dense | Family::Mixture);
        let stages = |layer_ms: &Ms| {
            let stages = deployment.stage_kinds().map(|stage| {
                Table::new(TOKENS, |tokens| {
                    let tokens = tokens.max(1) as f64;
                    let reduce_ms = || if reduces_embedding { collectives.all_reduce(tokens) } else { 0.0 };
                    let embedding =
                        || reduce_ms() + spec.memory_ms(2.0 * hidden * tokens) + settings.step_overhead_ms;
                    let hand_over = || spec.p2p_ms + 2.0 * hidden * tokens / link;
                    layers * layer_ms(tokens)
                        + if stage.first { embedding() } else { 0.0 }
                        + if stage.last { 0.0 } else { hand_over() }
                })
            });
            stages.collect::<Vec<_>>()
        };
        // Only shared experts tell the two apart.
        let has_shared = shared_width(model, deployment, family) > 0.0;
        let dense = DenseTables {
            stages: stages(&prefills),
            head: Table::new(ROWS, |rows| head.ms(rows.max(1) as f64)),
        };
        let decode_stages = if has_shared { stages(&decodes) } else { Vec::new() };
        let attention = StepAttention::Measured(self.attention(deployment)?);
        let times = StepTimes::new(deployment, dense, attention);
        Ok(StepTimes { head_of_prefills: family != Family::Mixture, decode_stages, caveat, ..times })
    }

    /// One layer without attention, the mean of all.
    fn layer<'a>(
        &self,
        deployment: &Deployment,
        family: Family,
        products: &'a Products,
        bf16: &'a Gemm,
        collectives: &'a Collectives,
        phase: Phase,
    ) -> Result<Ms<'a>, HardwareError> {
        let (model, spec) = (&deployment.model, self.spec.clone());
        let (tp, hidden) = (deployment.tensor_parallel, f64::from(model.embedding_dim));
        let (query_heads, kv_heads) = heads_per_device(model, tp);
        let head_dim = f64::from(model.head_dim);
        let attention_width = query_heads * head_dim;
        // Latent attention was measured with its projections.
        let projections = match model.latent {
            Some(_) => Vec::new(),
            None => vec![
                products.shape(attention_width + 2.0 * kv_heads * head_dim, hidden, false)?,
                products.shape(hidden, attention_width, true)?,
            ],
        };
        let around = {
            let spec = spec.clone();
            move |tokens: f64| {
                projections.iter().map(|product| product(tokens)).sum::<f64>()
                    + 2.0 * spec.memory_ms(8.0 * hidden * tokens)
            }
        };
        let dense_share = match (family, &model.experts) {
            (Family::Dense, _) | (_, None) => 1.0,
            (Family::DeepSeek, _) => 0.0,
            (_, Some(experts)) => f64::from(experts.dense_layers) / f64::from(model.num_layers),
        };
        let mlp: Option<Ms<'a>> = if dense_share > 0.0 {
            let width = f64::from(model.mlp_hidden_dim / tp);
            let width_in = if model.gated_mlp { 2.0 * width } else { width };
            let (up, down) = (products.shape(width_in, hidden, false)?, products.shape(hidden, width, true)?);
            let (spec, reduces) = (spec.clone(), if family == Family::Llama4 { 0.0 } else { 2.0 });
            Some(Box::new(move |tokens| {
                let elementwise = spec.memory_ms(2.0 * (width_in + width) * tokens);
                up(tokens) + down(tokens) + elementwise + reduces * collectives.all_reduce(tokens)
            }))
        } else {
            None
        };
        let mixture = match &model.experts {
            Some(experts) => {
                Some(self.mixture(deployment, family, experts, products, bf16, collectives, phase)?)
            }
            None => None,
        };
        Ok(Box::new(move |tokens| {
            let mlp_ms = mlp.as_ref().map_or(0.0, |mlp| dense_share * mlp(tokens));
            let mixture_ms = mixture.as_ref().map_or(0.0, |mixture| (1.0 - dense_share) * mixture(tokens));
            around(tokens) + mlp_ms + mixture_ms
        }))
    }

    /// Router, dispatch, experts and combine of one layer, with shared experts behind them or, in decodes,
    /// beside them.
    #[expect(clippy::too_many_arguments, reason = "they are what `layer` has")]
    fn mixture<'a>(
        &self,
        deployment: &Deployment,
        family: Family,
        experts: &Experts,
        products: &'a Products,
        bf16: &'a Gemm,
        collectives: &'a Collectives,
        phase: Phase,
    ) -> Result<Ms<'a>, HardwareError> {
        let (model, spec) = (&deployment.model, self.spec.clone());
        let hidden = f64::from(model.embedding_dim);
        let mixture =
            Mixture::read(self.parquet, &self.experts, &spec, deployment, experts, self.weights.experts)?;
        let router = bf16.shape(experts.count.into(), hidden)?;
        let width = shared_width(model, deployment, family);
        let shared = match width > 0.0 {
            true => {
                Some([products.shape(2.0 * width, hidden, false)?, products.shape(hidden, width, false)?])
            }
            false => None,
        };
        let is_sparse = model.latent.is_some_and(|latent| latent.indexer.is_some());
        let counted_twice = if family == Family::DeepSeek && !is_sparse && self.settings.backend == "vllm" {
            2.0
        } else {
            0.0
        };
        let groups = f64::from(deployment.data_parallel);
        Ok(Box::new(move |tokens| {
            let routed =
                router.ms(tokens) + mixture.ms(tokens * groups) + collectives.dispatch_and_combine(tokens);
            let shared = shared.as_ref().map_or(0.0, |products| {
                products.iter().map(|product| product(tokens)).sum::<f64>()
                    + spec.memory_ms(6.0 * width * tokens)
            });
            let both = if phase == Phase::Generation { routed.max(shared) } else { routed + shared };
            both + counted_twice * collectives.all_reduce(tokens)
        }))
    }

    fn attention(&self, deployment: &Deployment) -> Result<MeasuredAttention, HardwareError> {
        let (model, spec) = (&deployment.model, &self.spec);
        let (query_heads, kv_heads) = heads_per_device(model, deployment.tensor_parallel);
        if let Some(latent) = model.latent {
            // GLM-5's checkpoints in FP8 name the norms of attention among what they leave out: 0.12 takes
            // all of it to be bf16.
            let taken_for_bf16 = architecture(latent) == Some("GlmMoeDsaForCausalLM") && !self.is_of_013;
            let weights = match self.weights.layers {
                WeightFormat::Fp8Block if taken_for_bf16 => WeightFormat::Bf16,
                format => format,
            };
            let hidden = f64::from(model.embedding_dim);
            let asked = AskedLatent { latent, hidden, heads: query_heads, weights, kv_cache: self.kv_cache };
            let context = Latent::read(self.parquet, &self.context, Phase::Context, spec, asked)?;
            let generation = Latent::read(self.parquet, &self.generation, Phase::Generation, spec, asked)?;
            return Ok(MeasuredAttention {
                prefill_ms: Grid::new(PREFILLS, LENGTH, |prefills, length| {
                    context.ms(prefills, length as f64)
                }),
                decode_ms: Grid::new(DECODES, CACHED, |decodes, cached| {
                    generation.ms(decodes, cached as f64)
                }),
                by_new_tokens: latent.indexer.is_some(),
            });
        }
        let read = |phase, window: u32| {
            let sources = if phase == Phase::Context { &self.context } else { &self.generation };
            let asked = Asked {
                head_dim: model.head_dim,
                heads: [query_heads, kv_heads],
                kv_cache: self.kv_cache,
                window,
                pin: &self.pin,
            };
            Attention::read(self.parquet, sources, &self.version, phase, spec, asked)
        };
        let (window, share) = match model.window {
            Some(window) => (window.tokens, f64::from(window.layers) / f64::from(model.num_layers)),
            None if Family::of(model) == Family::Llama4 => LLAMA4_CHUNKS,
            None => (0, 0.0),
        };
        // Layers with a window and those without, as they are mixed.
        let (mut contexts, mut generations) = (Vec::new(), Vec::new());
        for (window, share) in [(0, 1.0 - share), (window, share)] {
            if share > 0.0 {
                contexts.push((share, read(Phase::Context, window)?));
                generations.push((share, read(Phase::Generation, window)?));
            }
        }
        // The norms of queries and keys where there are any: four operators of 3 us, twice, and a tenth.
        let norms_ms = if model.qk_norm { 0.0264 } else { 0.0 };
        // Beside them rotary embedding and cache write.
        let around_prefills_ms = 0.0132 + norms_ms;
        let around_decodes_ms = if self.is_of_013 { norms_ms } else { 0.0 };
        let mean = |tables: &[(f64, Attention)], of: &dyn Fn(&Attention) -> f64| match tables {
            [(_, only)] => of(only),
            mixed => mixed.iter().map(|(share, table)| share * of(table)).sum(),
        };
        Ok(MeasuredAttention {
            prefill_ms: Grid::new(PREFILLS, LENGTH, |prefills, length| {
                mean(&contexts, &|table: &Attention| table.ms(prefills, length as f64)) + around_prefills_ms
            }),
            decode_ms: Grid::new(DECODES, CACHED, |decodes, cached| {
                mean(&generations, &|table: &Attention| table.ms_around(decodes, cached as f64))
                    + around_decodes_ms
            }),
            by_new_tokens: false,
        })
    }
}

/// Width of the shared experts on one device: divided as attention is, or with sparse attention as the
/// experts are.
fn shared_width(model: &Model, deployment: &Deployment, family: Family) -> f64 {
    let Some(experts) = model.experts.filter(|_| family != Family::Llama4) else { return 0.0 };
    let is_sparse = model.latent.is_some_and(|latent| latent.indexer.is_some());
    let parts = if is_sparse { deployment.expert_tensor_parallel() } else { deployment.tensor_parallel };
    f64::from(experts.shared_hidden_dim / parts)
}

/// Whether products of few rows in FP8 blocks were timed without CUDA graphs: they take several times those
/// in bf16.
fn timed_eagerly(format: WeightFormat, gemm: &Gemm, bf16: &Gemm) -> Option<String> {
    const TIMES: f64 = 3.0;
    let ms = |gemm: &Gemm| Some(gemm.shape(4096.0, 4096.0).ok()?.ms(16.0));
    let ratio = ms(gemm)? / ms(bf16)?;
    (format == WeightFormat::Fp8Block && ratio > TIMES).then(|| {
        format!(
            "WARNING: products in FP8 blocks take {ratio:.0} times those in bf16 at few rows, as tables do that were timed without CUDA graphs \
             (vLLM 0.24.0 in aiconfigurator-core 0.12.0): decodes come out too slow, and later tables have them right"
        )
    })
}
