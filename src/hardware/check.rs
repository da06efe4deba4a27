//! How far a model of step times is from measured ones.
//!
//! Two layouts of CSV are read. *Steps* (columns `system, model, tp, phase, batch, isl_or_ctx, latency_ms`): a `prefill` of `batch` whole
//! prompts of `isl_or_ctx` tokens, or a `decode` step of `batch` requests behind prompts of that length. *Serving rows* of real engines
//! (`model_path, system, backend, precision, mode, isl, osl, batch_size, tp_size, pp_size, silicon_tpot_ms`): mean time per output token of
//! a closed loop of `batch_size` requests, for which a model's answer is a decode step of all of them at the middle of their outputs, plus
//! what their prefills take from each output token.

use std::path::Path;

use super::catalog::{self, Node};
use super::{BatchShape, Deployment, ExecutionTime, ExecutionTimeSettings, Files, HardwareError};

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
    /// Empty for steps; engine and precision of serving rows.
    pub engine: String,
    pub tensor_parallel: u32,
    pub pipeline_parallel: u32,
    pub phase: Phase,
    pub batch: u32,
    /// Prompt tokens of each request.
    pub tokens: u32,
    pub latency_ms: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { device, model, tensor_parallel, phase, batch, tokens, latency_ms, .. } = self;
        write!(f, "{} {batch} x {tokens} tokens, {model} on {device}, tensor parallel {tensor_parallel}, {latency_ms:.2} ms", phase.name())
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
                decodes(self.tokens + output_tokens / 2) + f64::from(self.batch) * prefills(1) / f64::from(output_tokens)
            }
        }
    }
}

/// Reads a file of either layout. Rows of serving engines that are no closed loop on one pool of devices (`mode` other than `agg`) are
/// left out.
pub fn read(file: &Path) -> Result<Vec<Measured>, HardwareError> {
    let bad = |line: u64, message: String| HardwareError::BadTable { file: file.into(), line, message };
    let text = std::fs::read_to_string(file).map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| bad(1, error.to_string()))?.clone();
    let serving = header.iter().any(|column| column == "silicon_tpot_ms");
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| bad(error.position().map_or(0, csv::Position::line), error.to_string()))?;
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
        if serving {
            if text("mode")? == "agg" {
                rows.push(Measured {
                    line,
                    device: text("system")?.into(),
                    model: text("model_path")?.into(),
                    engine: format!("{} {}", text("backend")?, text("precision")?),
                    tensor_parallel: count("tp_size")?,
                    pipeline_parallel: count("pp_size")?,
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
            engine: String::new(),
            tensor_parallel: count("tp")?,
            pipeline_parallel: 1,
            phase: match text("phase")? {
                "prefill" => Phase::Prefill,
                "decode" => Phase::Decode,
                other => return Err(bad(line, format!("column `phase` is `{other}`, expected `prefill` or `decode`"))),
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

/// Answers of the model that `settings` name to measured rows, in their order. Rows whose device or model the catalogue does not know, or
/// that `wanted` refuses, are left out; their number is the second value.
pub fn compare(
    rows: &[Measured],
    settings: &ExecutionTimeSettings,
    files: &Files,
    wanted: impl Fn(&Measured) -> bool,
) -> Result<(Vec<Compared>, usize), HardwareError> {
    let mut loaded: Vec<(Deployment, ExecutionTime)> = Vec::new();
    let mut compared = Vec::new();
    for measured in rows.iter().filter(|row| wanted(row)) {
        let (Some(node), Some(_)) = (node_of(&measured.device), catalog::model(&measured.model)) else { continue };
        let deployment = Deployment::resolve(&measured.model, node.name, measured.tensor_parallel, measured.pipeline_parallel, files)?;
        let index = match loaded.iter().position(|(known, _)| *known == deployment) {
            Some(index) => index,
            None => {
                let times = ExecutionTime::load(settings, &deployment, files)?;
                loaded.push((deployment, times));
                loaded.len() - 1
            }
        };
        compared.push(Compared { measured: measured.clone(), predicted_ms: measured.predict_ms(&loaded[index].1) });
    }
    let left_out = rows.len() - compared.len();
    Ok((compared, left_out))
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
        b60,meta-llama/Meta-Llama-3.1-70B,4,decode,32,2048,35\n";

    #[test]
    fn compares_steps() {
        let rows = read(write(STEPS).path()).unwrap();
        let settings = ExecutionTimeSettings::Analytical(Default::default());
        let (compared, left_out) = compare(&rows, &settings, &Files::default(), |_| true).unwrap();
        assert_eq!((compared.len(), left_out), (2, 1));
        // Published answers of the model: 343.15 and 33.94 ms.
        assert!((compared[0].predicted_ms / 343.15 - 1.0).abs() < 1e-3 && (compared[1].predicted_ms / 33.94 - 1.0).abs() < 1e-3);
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
        let times = ExecutionTime::load(&ExecutionTimeSettings::Analytical(Default::default()), &deployment, &Files::default()).unwrap();
        let step = |phase, batch, tokens| Measured { phase, batch, tokens, ..rows[0].clone() }.predict_ms(&times);
        let expected = step(Phase::Decode, 8, 1024 + 256 - DECODED_TOKENS) + 8.0 * step(Phase::Prefill, 1, 1024) / 512.0;
        assert!((rows[0].predict_ms(&times) - expected).abs() < 1e-9);
    }

    #[test]
    fn faults_name_line_and_column() {
        let error = |from: &str, to: &str| read(write(&STEPS.replace(from, to)).path()).unwrap_err().to_string();
        assert!(error("decode", "decoding").contains("line 3: column `phase` is `decoding`"));
        assert!(error("337", "-").contains("line 2: column `latency_ms` is `-`, expected a number above 0"));
        assert!(error("isl_or_ctx", "length").contains("no column `isl_or_ctx`"));
    }
}
