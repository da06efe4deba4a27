//! How long one pipeline stage works on one batch.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::Model;
use super::memory::DoesNotFit;
use super::profile::{self, ProfileAttention};
use crate::choice;

/// What the time of a batch depends on, as sums over its requests: forming a batch adds to them, predicting its time is O(1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of all requests: chunk lengths of prefills, one per decode.
    pub total_tokens: u64,
    pub num_prefills: u32,
    pub num_decodes: u32,
    pub prefill_tokens: u64,
    /// Sum of squared chunk lengths.
    pub prefill_tokens_squared: u64,
    /// Sum of chunk length times tokens already in the cache.
    pub prefill_tokens_times_cached: u64,
    /// Sum of tokens already in the cache over prefills.
    pub prefill_cached_tokens: u64,
    /// The same, each rounded up to a multiple of 64 (the granularity of the reference's tables).
    pub prefill_cached_tokens_64: u64,
    /// Sum of tokens in the cache over decodes.
    pub decode_cached_tokens: u64,
}

impl BatchShape {
    /// Adds a prefill chunk of `tokens` behind `cached` tokens.
    #[inline]
    pub fn add_prefill(&mut self, tokens: u32, cached: u32) {
        let (tokens, cached) = (u64::from(tokens), u64::from(cached));
        self.total_tokens += tokens;
        self.num_prefills += 1;
        self.prefill_tokens += tokens;
        self.prefill_tokens_squared += tokens * tokens;
        self.prefill_tokens_times_cached += tokens * cached;
        self.prefill_cached_tokens += cached;
        self.prefill_cached_tokens_64 += cached.next_multiple_of(64);
    }

    /// Adds a decode step of a request with `cached` tokens.
    #[inline]
    pub fn add_decode(&mut self, cached: u32) {
        self.total_tokens += 1;
        self.num_decodes += 1;
        self.decode_cached_tokens += u64::from(cached);
    }
}

choice! {
    /// Where step times come from.
    pub enum ExecutionTimeSettings {
        "profile" => Profile(ProfileSettings),
        "table" => Table(TableSettings),
    }
}

impl Default for ExecutionTimeSettings {
    fn default() -> Self {
        Self::Profile(ProfileSettings::default())
    }
}

/// The embedded measured tables: Meta-Llama-3-70B on A100s with pairwise NVLink.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSettings {
    pub attention: Attention,
}

/// Operator tables in a directory: `ops_tp<T>.csv`, `all_reduce_tp<T>.csv`, `send_recv_devices_per_node<N>.csv`, `attn_prefill_labfit.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    pub dir: PathBuf,
    #[serde(default)]
    pub attention: Attention,
}

/// How the time of attention is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// From flops and bytes, valid for every batch.
    #[default]
    Physical,
    /// Calibrated on the lab's published runs; defined for batches of up to 16 whole 256-token prefills only.
    LabFit,
}

#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    #[error("{file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}, line {line}: {message}")]
    BadTable { file: PathBuf, line: u64, message: String },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}

/// One pipeline stage's time without attention for one (rounded) number of tokens, milliseconds per layer.
///
/// The parts are kept apart only as far as the reference's order of additions asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct DenseRow {
    /// QKV and output projections and rotary embedding.
    pub projections_ms: f64,
    pub all_reduce_ms: f64,
    pub input_norm_ms: f64,
    /// MLP matrices, activation, all-reduce, norm.
    pub mlp_ms: f64,
    /// Residual addition.
    pub add_ms: f64,
    /// Hand-over to the next stage, per stage.
    pub send_recv_ms: f64,
}

/// Step times of one model on one deployment, condensed.
#[derive(Debug, Clone)]
pub struct ExecutionTime {
    /// Row `i` holds for `i * granularity` tokens; larger batches take the last row.
    pub(super) dense: Vec<DenseRow>,
    pub(super) layers_per_stage: f64,
    pub(super) num_stages: u32,
    pub(super) attention: ProfileAttention,
    /// Where the numbers come from, one line for reports.
    pub provenance: String,
}

/// Tokens are rounded up to a multiple of this before the dense tables are read (microsoft/vidur pads batches alike).
pub(super) const TOKEN_GRANULARITY: u64 = 8;

impl ExecutionTime {
    /// Loads the tables of `settings` for a model split `tensor_parallel` and `pipeline_parallel` ways. Relative directories are looked
    /// for under each of `base_dirs`.
    pub fn load(
        settings: &ExecutionTimeSettings,
        model: &Model,
        node: &str,
        tensor_parallel: u32,
        pipeline_parallel: u32,
        base_dirs: &[PathBuf],
    ) -> Result<Self, HardwareError> {
        let profiled = profile::Deployment { model, node, tensor_parallel, pipeline_parallel };
        match settings {
            ExecutionTimeSettings::Profile(settings) => profile::embedded(&profiled, settings.attention),
            ExecutionTimeSettings::Table(settings) => {
                let dir = base_dirs.iter().map(|base| base.join(&settings.dir)).find(|dir| dir.is_dir());
                profile::from_dir(&profiled, &dir.unwrap_or_else(|| Path::new(&settings.dir).to_path_buf()), settings.attention)
            }
        }
    }

    /// Seconds that `stage` works on a batch.
    #[inline]
    pub fn stage_time_s(&self, shape: &BatchShape, stage: u32) -> f64 {
        let index = shape.total_tokens.div_ceil(TOKEN_GRANULARITY) as usize;
        let dense = &self.dense[index.min(self.dense.len() - 1)];
        let attention = &self.attention;
        // Additions run left to right in the reference's order: its outputs are matched to the last bit.
        let attention_ms = dense.projections_ms
            + attention.cache_save_ms(shape)
            + attention.decode_ms(shape.num_decodes, shape.decode_cached_tokens)
            + attention.prefill_ms(shape)
            + dense.all_reduce_ms
            + dense.input_norm_ms;
        let block_ms = attention_ms + dense.mlp_ms + dense.add_ms;
        let hand_over_ms = if stage + 1 < self.num_stages { dense.send_recv_ms } else { 0.0 };
        (block_ms * self.layers_per_stage + hand_over_ms) * 1e-3
    }

    /// For how many further iterations (each adding one token per request) a batch of decodes keeps its time.
    #[inline]
    pub fn decode_steps_alike(&self, shape: &BatchShape) -> u64 {
        self.attention.decode_steps_alike(shape.num_decodes, shape.decode_cached_tokens)
    }

    /// Whether these tables can answer for every batch of a workload; the reason if not.
    pub fn check_workload(
        &self,
        prefill_tokens: &[u32],
        decode_tokens: &[u32],
        batch_size_cap: u32,
        chunked: bool,
    ) -> Result<(), HardwareError> {
        if !matches!(self.attention, ProfileAttention::LabFit { .. }) {
            return Ok(());
        }
        let unsupported = |found: String| {
            Err(HardwareError::Unsupported(format!(
                "`lab_fit` attention is only defined for batches of up to 16 whole 256-token prefills, but {found}; use \"execution_time\": \"profile\" (physical attention)"
            )))
        };
        if batch_size_cap > 16 {
            return unsupported(format!("`batch_size_cap` is {batch_size_cap}"));
        }
        if chunked {
            return unsupported("the replica scheduler cuts prefills into chunks".into());
        }
        match prefill_tokens.iter().zip(decode_tokens).position(|(&prefill, &decode)| prefill != 256 || decode != 1) {
            None => Ok(()),
            Some(i) => unsupported(format!("request {i} has {} prefill and {} decode tokens", prefill_tokens[i], decode_tokens[i])),
        }
    }
}
