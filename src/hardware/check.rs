//! How far a model of step times is from measured ones.
//!
//! Two layouts of CSV are read. *Steps* (columns `system, model, tp, phase, batch, isl_or_ctx, latency_ms`):
//! a `prefill` of `batch` whole prompts of `isl_or_ctx` tokens, or a `decode` step of `batch` requests behind
//! prompts of that length. *Serving rows* of real engines (`model_path, system, backend, precision, mode,
//! isl, osl, batch_size, tp_size, pp_size, silicon_tpot_ms`): mean time per output token of a closed loop of
//! `batch_size` requests, for which a model's answer is a decode step of all of them at the middle of their
//! outputs, plus what their prefills take from each output token.
//!
//! Either may say more of a deployment, in columns that are read where they are there: `ep` and `dp`
//! (`moe_ep_size`, `attention_dp_size`) how experts are divided and attention is replicated, with `batch` of
//! one replica; `gemm_dtype` and `moe_dtype` (`gemm_quant_mode`, `moe_quant_mode`), or `weights` alone, and
//! `kv_dtype` the number formats, which count unless the settings name others. `backend` and `requested` are
//! of which engine steps are, and of which version.

use std::path::Path;

use super::catalog::{self, Node};
use super::{
    BatchShape, Deployment, ExecutionTime, ExecutionTimeSettings, Files, HardwareError, Precision,
    WeightFormat, Weights,
};

/// What one row measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Prefill,
    Decode,
    /// Time per output token of a closed loop, with outputs of so many tokens.
    Serving {
        output_tokens: u32,
    },
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Serving { .. } => "serving",
        }
    }
}

/// One measured row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub line: u64,
    pub device: String,
    pub model: String,
    /// Engine and precision of serving rows; of steps the engine and the version asked for, where the file
    /// says them.
    pub engine: String,
    pub tensor_parallel: u32,
    pub pipeline_parallel: u32,
    pub expert_parallel: u32,
    pub data_parallel: u32,
    /// Number formats, where the file says them.
    pub weights: Option<Weights>,
    pub kv_cache: Option<Precision>,
    pub phase: Phase,
    pub batch: u32,
    /// Prompt tokens of each request.
    pub tokens: u32,
    pub latency_ms: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { device, model, tensor_parallel, phase, batch, tokens, latency_ms, .. } = self;
        write!(
            f,
            "{} {batch} x {tokens} tokens, {model} on {device}, tensor parallel {tensor_parallel}",
            phase.name()
        )?;
        for (what, parallel) in [("expert", self.expert_parallel), ("data", self.data_parallel)] {
            if parallel > 1 {
                write!(f, ", {what} parallel {parallel}")?;
            }
        }
        if let Some(weights) = self.weights.filter(|weights| !weights.is_bf16()) {
            write!(f, ", {} weights", weights.name())?;
        }
        write!(f, ", {latency_ms:.2} ms")
    }
}

/// Decode rows of the step layout are steps of the second output token.
const DECODED_TOKENS: u32 = 2;

impl Measured {
    /// What a model of step times says to this row, ms.
    pub fn predict_ms(&self, times: &ExecutionTime) -> f64 {
        let ms = |shape: &BatchShape| times.step_time_s(shape) * 1e3;
        let prefills = |count: u32| {
            let mut shape = BatchShape::default();
            (0..count).for_each(|_| shape.add_prefill(self.tokens, 0));
            ms(&shape)
        };
        let decodes = |cached: u32| {
            let mut shape = BatchShape::default();
            (0..self.batch).for_each(|_| shape.add_decode(cached));
            ms(&shape)
        };
        match self.phase {
            Phase::Prefill => prefills(self.batch),
            Phase::Decode => decodes(self.tokens + DECODED_TOKENS),
            Phase::Serving { output_tokens } => {
                decodes(self.tokens + output_tokens / 2)
                    + f64::from(self.batch) * prefills(1) / f64::from(output_tokens)
            }
        }
    }
}

/// Reads a file of either layout. Rows of serving engines that are no closed loop on one pool of devices
/// (`mode` other than `agg`) are left out.
pub fn read(file: &Path) -> Result<Vec<Measured>, HardwareError> {
    let bad = |line: u64, message: String| HardwareError::BadTable { file: file.into(), line, message };
    let text = std::fs::read_to_string(file)
        .map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| bad(1, error.to_string()))?.clone();
    let serving = header.iter().any(|column| column == "silicon_tpot_ms");
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record
            .map_err(|error| bad(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = |name: &str| match header.iter().position(|column| column == name) {
            Some(index) => Ok(&record[index]),
            None => Err(bad(1, format!("no column `{name}`: neither measured steps nor serving rows"))),
        };
        let number = |name: &str| match text(name)?.parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
            _ => Err(bad(line, format!("column `{name}` is `{}`, expected a number above 0", text(name)?))),
        };
        let count = |name: &str| Ok::<_, HardwareError>(number(name)? as u32);
        // Columns that need not be there, nor say anything.
        let said = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| header.iter().position(|column| column == *name))
                .map(|index| &record[index])
                .filter(|text| !text.is_empty())
        };
        let optional_count = |names: [&str; 2]| match said(names) {
            // 0 is how some write that there are none.
            None | Some("0") => Ok(1),
            Some(text) => match text.parse::<u32>() {
                Ok(value) => Ok(value),
                _ => Err(bad(line, format!("column `{}` is `{text}`, expected a whole number", names[0]))),
            },
        };
        let format = |names: [&str; 2]| match said(names) {
            None => Ok(None),
            Some(text) => match WeightFormat::named(text) {
                Some(format) => Ok(Some(format)),
                None => Err(bad(
                    line,
                    format!("column `{}` is `{text}`, which is no number format that is known", names[0]),
                )),
            },
        };
        let layers = match format(["gemm_dtype", "gemm_quant_mode"])? {
            Some(layers) => Some(layers),
            None if serving => None,
            None => format(["weights", "weights"])?,
        };
        let experts = format(["moe_dtype", "moe_quant_mode"])?;
        let weights = layers.map(|layers| Weights { layers, experts: experts.unwrap_or(layers) });
        let kv_cache = match said(["kv_dtype", "kv_dtype"]) {
            Some("fp8") => Some(Precision::Fp8),
            Some("bf16" | "bfloat16") => Some(Precision::Bf16),
            _ => None,
        };
        let (expert_parallel, data_parallel) =
            (optional_count(["ep", "moe_ep_size"])?, optional_count(["dp", "attention_dp_size"])?);
        if serving {
            let pooled = header.iter().all(|column| column != "mode") || text("mode")? == "agg";
            if pooled {
                rows.push(Measured {
                    line,
                    device: text("system")?.into(),
                    model: text("model_path")?.into(),
                    engine: format!("{} {}", text("backend")?, text("precision")?),
                    tensor_parallel: count("tp_size")?,
                    pipeline_parallel: optional_count(["pp_size", "pp_size"])?,
                    expert_parallel,
                    data_parallel,
                    weights,
                    kv_cache,
                    phase: Phase::Serving { output_tokens: count("osl")? },
                    batch: count("batch_size")?,
                    tokens: count("isl")?,
                    latency_ms: number("silicon_tpot_ms")?,
                });
            }
            continue;
        }
        rows.push(Measured {
            line,
            device: text("system")?.into(),
            model: text("model")?.into(),
            engine: [said(["backend", "backend"]), said(["requested", "requested"])]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            tensor_parallel: count("tp")?,
            pipeline_parallel: 1,
            expert_parallel,
            data_parallel,
            weights,
            kv_cache,
            phase: match text("phase")? {
                "prefill" => Phase::Prefill,
                "decode" => Phase::Decode,
                other => {
                    return Err(bad(
                        line,
                        format!("column `phase` is `{other}`, expected `prefill` or `decode`"),
                    ));
                }
            },
            batch: count("batch")?,
            tokens: count("isl_or_ctx")?,
            latency_ms: number("latency_ms")?,
        });
    }
    if rows.is_empty() { Err(bad(1, "no rows to compare with".into())) } else { Ok(rows) }
}

/// A measured row beside the model's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub measured: Measured,
    pub predicted_ms: f64,
}

impl Compared {
    /// Predicted over measured, less 1.
    pub fn error(&self) -> f64 {
        self.predicted_ms / self.measured.latency_ms - 1.0
    }
}

/// Errors of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors<'a> {
    pub rows: usize,
    /// Means of the absolute and of the signed relative error.
    pub mape: f64,
    pub bias: f64,
    /// Of the absolute relative error, nearest rank.
    pub p95: f64,
    pub worst: &'a Compared,
}

/// Errors over rows; `None` of none.
pub fn errors<'a>(rows: impl IntoIterator<Item = &'a Compared>) -> Option<Errors<'a>> {
    let mut rows: Vec<&Compared> = rows.into_iter().collect();
    rows.sort_by(|a, b| a.error().abs().total_cmp(&b.error().abs()));
    let count = rows.len() as f64;
    Some(Errors {
        rows: rows.len(),
        mape: rows.iter().map(|row| row.error().abs()).sum::<f64>() / count,
        bias: rows.iter().map(|row| row.error()).sum::<f64>() / count,
        p95: rows.get((0.95 * count).ceil() as usize - usize::from(!rows.is_empty()))?.error().abs(),
        worst: rows.last()?,
    })
}

/// The largest node with a device of this name: measured steps do not say in what machine.
pub fn node_of(device: &str) -> Option<&'static Node> {
    let device = catalog::device(device)?;
    catalog::NODES.iter().filter(|node| node.device == device.name).max_by_key(|node| node.devices_per_node)
}

/// Measured rows beside answers, and what there is no answer to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    pub compared: Vec<Compared>,
    /// Rows whose device or model the catalogue does not know, or that were not asked for.
    pub left_out: usize,
    /// Deployments that cannot be answered for, in order of their first row.
    pub refused: Vec<Refused>,
}

/// A deployment without step times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub deployment: String,
    pub rows: usize,
    pub reason: String,
}

/// The deployment a row was measured on, with its number formats as those that the model is published with.
fn deployment_of(measured: &Measured, node: &Node, files: &Files) -> Result<Deployment, HardwareError> {
    let deployment = Deployment::resolve(
        &measured.model,
        node.name,
        measured.tensor_parallel,
        measured.pipeline_parallel,
        files,
    )?;
    let mut deployment = deployment.with_experts_over(measured.expert_parallel, measured.data_parallel)?;
    let mut formats = (
        measured.weights.unwrap_or(deployment.model.weights),
        measured.kv_cache.unwrap_or(deployment.model.kv_cache),
    );
    // Measured data does not tell group sizes.
    if (formats.0.experts, deployment.model.weights.experts)
        == (WeightFormat::Int4, WeightFormat::Int4Group32)
    {
        formats.0.experts = WeightFormat::Int4Group32;
    }
    // Serving rows tell widths rather than formats: FP8 is said of blocks too, FP4 of any kind of four bits.
    let is_serving = matches!(measured.phase, Phase::Serving { .. });
    if is_serving && (formats.0.experts.bytes() - deployment.model.weights.experts.bytes()).abs() < 0.1 {
        formats.0 = deployment.model.weights;
    }
    if formats != (deployment.model.weights, deployment.model.kv_cache) {
        let model = deployment.model.to_mut();
        (model.weights, model.kv_cache) = formats;
    }
    Ok(deployment)
}

/// Answers of the model that `settings` name to measured rows, in their order. A deployment that it cannot
/// answer for is told and passed over.
pub fn compare(
    rows: &[Measured],
    settings: &ExecutionTimeSettings,
    files: &Files,
    wanted: impl Fn(&Measured) -> bool,
) -> Comparison {
    let mut loaded: Vec<(Deployment, ExecutionTime)> = Vec::new();
    let mut comparison = Comparison::default();
    for measured in rows {
        let known = node_of(&measured.device)
            .filter(|_| wanted(measured) && catalog::model(&measured.model).is_some());
        let Some(node) = known else {
            comparison.left_out += 1;
            continue;
        };
        let times = deployment_of(measured, node, files).and_then(|deployment| {
            let index = match loaded.iter().position(|(known, _)| *known == deployment) {
                Some(index) => index,
                None => {
                    let times = ExecutionTime::load(settings, &deployment, files)?;
                    loaded.push((deployment, times));
                    loaded.len() - 1
                }
            };
            Ok(&loaded[index].1)
        });
        match times {
            Ok(times) => comparison
                .compared
                .push(Compared { measured: measured.clone(), predicted_ms: measured.predict_ms(times) }),
            Err(error) => {
                let Measured { model, device, tensor_parallel, expert_parallel, data_parallel, .. } =
                    measured;
                let split = format!(
                    "tensor parallel {tensor_parallel}, expert parallel {expert_parallel}, data parallel {data_parallel}"
                );
                let deployment = format!("{model} on {device}, {split}");
                let reason = error.to_string();
                match comparison
                    .refused
                    .iter_mut()
                    .find(|known| known.deployment == deployment && known.reason == reason)
                {
                    Some(known) => known.rows += 1,
                    None => comparison.refused.push(Refused { deployment, rows: 1, reason }),
                }
            }
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    const STEPS: &str = "system,model,tp,phase,batch,isl_or_ctx,latency_ms\n\
        a100_sxm,meta-llama/Meta-Llama-3.1-70B,4,prefill,1,2048,337\n\
        a100_sxm,meta-llama/Meta-Llama-3.1-70B,4,decode,32,2048,35\n\
        gaudi3,meta-llama/Meta-Llama-3.1-70B,4,decode,32,2048,35\n";

    #[test]
    fn compares_steps() {
        let rows = read(write(STEPS).path()).unwrap();
        let settings = ExecutionTimeSettings::Analytical(Default::default());
        let Comparison { compared, left_out, .. } = compare(&rows, &settings, &Files::default(), |_| true);
        assert_eq!((compared.len(), left_out), (2, 1));
        // Published answers of the model: 343.15 and 33.94 ms.
        assert!(
            (compared[0].predicted_ms / 343.15 - 1.0).abs() < 1e-3
                && (compared[1].predicted_ms / 33.94 - 1.0).abs() < 1e-3
        );
        let errors = errors(&compared).unwrap();
        assert_eq!(errors.worst.measured.phase, Phase::Decode);
        assert!((errors.mape - 0.5 * (6.15 / 337.0 + 1.06 / 35.0)).abs() < 1e-3);
        assert_eq!(errors.p95, errors.worst.error().abs());
    }

    #[test]
    fn serving_rows_are_decodes_and_a_share_of_prefills() {
        let text = "model_path,system,backend,precision,mode,isl,osl,batch_size,tp_size,pp_size,silicon_tpot_ms\n\
            meta-llama/Llama-3.1-70B,h100_sxm,vllm,fp8,agg,1024,512,8,4,1,20\n\
            meta-llama/Llama-3.1-70B,h100_sxm,vllm,fp8,disagg,1024,512,8,4,1,20\n";
        let rows = read(write(text).path()).unwrap();
        assert_eq!((rows.len(), rows[0].engine.as_str()), (1, "vllm fp8"));
        let deployment = Deployment::resolve(&rows[0].model, "h100_dgx", 4, 1, &Files::default()).unwrap();
        let times = ExecutionTime::load(
            &ExecutionTimeSettings::Analytical(Default::default()),
            &deployment,
            &Files::default(),
        )
        .unwrap();
        let step =
            |phase, batch, tokens| Measured { phase, batch, tokens, ..rows[0].clone() }.predict_ms(&times);
        let expected =
            step(Phase::Decode, 8, 1024 + 256 - DECODED_TOKENS) + 8.0 * step(Phase::Prefill, 1, 1024) / 512.0;
        assert!((rows[0].predict_ms(&times) - expected).abs() < 1e-9);
    }

    #[test]
    fn faults_name_line_and_column() {
        let error =
            |from: &str, to: &str| read(write(&STEPS.replace(from, to)).path()).unwrap_err().to_string();
        assert!(error("decode", "decoding").contains("line 3: column `phase` is `decoding`"));
        assert!(error("337", "-").contains("line 2: column `latency_ms` is `-`, expected a number above 0"));
        assert!(error("isl_or_ctx", "length").contains("no column `isl_or_ctx`"));
    }

    /// Splits and number formats are the row's; what cannot be split so is told, and the rest compared.
    #[test]
    fn rows_say_how_experts_are_split_and_stored() {
        let text = "system,model,gemm_dtype,moe_dtype,kv_dtype,tp,ep,dp,phase,batch,isl_or_ctx,latency_ms\n\
            h100_sxm,mistralai/Mixtral-8x7B-v0.1,bfloat16,bfloat16,bf16,2,1,1,decode,32,2048,20\n\
            h100_sxm,mistralai/Mixtral-8x7B-v0.1,fp8_block,fp8_block,fp8,2,2,1,decode,32,2048,20\n\
            h100_sxm,mistralai/Mixtral-8x7B-v0.1,bfloat16,bfloat16,bf16,2,16,1,decode,32,2048,20\n\
            h100_sxm,mistralai/Mixtral-8x7B-v0.1,nvfp4,nvfp4,fp8,2,1,1,decode,32,2048,20\n";
        let rows = read(write(text).path()).unwrap();
        let settings = ExecutionTimeSettings::Analytical(Default::default());
        let Comparison { compared, left_out, refused } =
            compare(&rows, &settings, &Files::default(), |_| true);
        assert_eq!((compared.len(), left_out, refused.len()), (2, 0, 2));
        assert!(compared[0].predicted_ms > compared[1].predicted_ms, "half the bytes take less time");
        let of_engines = text
            .replace("system,", "backend,requested,system,")
            .replace("h100_sxm,", "sglang,next,h100_sxm,");
        assert_eq!(read(write(&of_engines).path()).unwrap()[0].engine, "sglang next");
        assert!(
            compared[1].measured.to_string().contains("expert parallel 2, fp8_block weights"),
            "{}",
            compared[1].measured
        );
        assert!(refused[0].reason.contains("expected a divisor of the 2 devices"), "{refused:?}");
        assert!(refused[1].reason.contains("no 4-bit float units"), "{refused:?}");
        let error = read(write(&text.replace("nvfp4,nvfp4", "int3,int3")).path()).unwrap_err().to_string();
        assert!(error.contains("line 5: column `gemm_dtype` is `int3`"), "{error}");
    }
}
