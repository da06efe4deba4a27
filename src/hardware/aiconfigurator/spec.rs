//! A system's description: `<system>.yaml`.

use std::path::{Path, PathBuf};

use crate::hardware::{HardwareError, WeightFormat};

/// What the rules need of it, in bytes, flops and milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    /// Of the tables, relative to the description.
    pub data_dir: PathBuf,
    pub bytes_per_ms: f64,
    pub bf16_flops_per_ms: f64,
    pub fp8_flops_per_ms: Option<f64>,
    pub fp4_flops_per_ms: Option<f64>,
    pub intra_node_bytes_per_ms: f64,
    pub inter_node_bytes_per_ms: f64,
    pub p2p_ms: f64,
    /// Share of the bandwidth memory operations reach, and their fixed time.
    memory_efficiency: f64,
    memory_overhead_ms: f64,
    /// Compute capability, such as 90.
    pub capability: Option<u32>,
    /// Of which NCCL the tables of collectives are.
    pub nccl_version: Option<String>,
}

impl Spec {
    pub fn read(file: &Path) -> Result<Self, HardwareError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
        Self::parse(&text).map_err(|message| HardwareError::BadModel { file: file.into(), message })
    }

    /// The description is a mapping of sections to scalars whose keys are unique: one `key: value # comment`
    /// a line.
    fn parse(text: &str) -> Result<Self, String> {
        let find = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == key).then(|| value.split('#').next().unwrap_or_default().trim())
            })
        };
        let number = |key: &str| {
            let value = find(key).ok_or_else(|| format!("no `{key}`"))?;
            match value.parse::<f64>() {
                Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(format!("`{key}` is `{value}`, expected a number above 0")),
            }
        };
        let flops = |key: &str| {
            Ok::<_, String>(find(key).map(|_| number(key)).transpose()?.map(|flops| flops * 1e-3))
        };
        Ok(Self {
            data_dir: find("data_dir").ok_or("no `data_dir`")?.into(),
            bytes_per_ms: number("mem_bw")? * 1e-3,
            bf16_flops_per_ms: number("bfloat16_tc_flops")? * 1e-3,
            fp8_flops_per_ms: flops("fp8_tc_flops")?,
            fp4_flops_per_ms: flops("fp4_tc_flops")?,
            intra_node_bytes_per_ms: number("intra_node_bw")? * 1e-3,
            inter_node_bytes_per_ms: number("inter_node_bw")? * 1e-3,
            p2p_ms: number("p2p_latency")? * 1e3,
            memory_efficiency: number("mem_bw_empirical_scaling_factor")?,
            memory_overhead_ms: number("mem_empirical_constant_latency")? * 1e3,
            capability: find("sm_version").and_then(|text| text.parse().ok()),
            nccl_version: find("nccl_version").map(|text| text.trim_matches(['"', '\'']).to_string()),
        })
    }

    /// Peak of the arithmetic that weights of a format are multiplied with.
    pub fn flops_per_ms(&self, format: WeightFormat) -> Result<f64, HardwareError> {
        let (flops, units) = match format {
            WeightFormat::Bf16 | WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => {
                return Ok(self.bf16_flops_per_ms);
            }
            WeightFormat::Fp8 | WeightFormat::Fp8Static | WeightFormat::Fp8Block => {
                (self.fp8_flops_per_ms, "FP8")
            }
            WeightFormat::Nvfp4 => (self.fp4_flops_per_ms, "4-bit float"),
        };
        flops.ok_or_else(|| {
            let name = self.data_dir.display();
            HardwareError::Unsupported(format!(
                "the system of {name} has no {units} units for {}; use \"weights\": \"bf16\"",
                format.name()
            ))
        })
    }

    /// An operator that only moves memory.
    pub fn memory_ms(&self, bytes: f64) -> f64 {
        bytes / (self.bytes_per_ms * self.memory_efficiency) + self.memory_overhead_ms
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const H100: &str = "# a comment: with a colon\ndata_dir: data/h100_sxm # relative\ngpu:\n  mem_bw: 3350000000000 # 3.35TB/s\n  \
        mem_bw_empirical_scaling_factor: 0.8\n  mem_empirical_constant_latency: 0.000003\n  bfloat16_tc_flops: 989000000000000\n  \
        fp8_tc_flops: 1978000000000000\nnode:\n  inter_node_bw: 50000000000\n  intra_node_bw: 450000000000\n  p2p_latency: 0.00001\n";

    pub fn h100() -> Spec {
        Spec::parse(H100).unwrap()
    }

    #[test]
    fn reads_a_description() {
        let spec = h100();
        assert_eq!(
            (spec.data_dir.to_str(), spec.bytes_per_ms, spec.fp8_flops_per_ms),
            (Some("data/h100_sxm"), 3.35e9, Some(1.978e12))
        );
        assert!((spec.memory_ms(2.68e9) - 1.003).abs() < 1e-12);
        assert_eq!(Spec::parse(&H100.replace("mem_bw:", "bandwidth:")).unwrap_err(), "no `mem_bw`");
        assert!(
            Spec::parse(&H100.replace("0.8", "much"))
                .unwrap_err()
                .contains("is `much`, expected a number above 0")
        );
    }
}
