//! A model on a kind of machine, split over its devices.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::{self, Device, Model, Node};
use super::{Files, HardwareError};

/// One replica's model, node and split.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub model: Cow<'static, Model>,
    pub node: &'static Node,
    pub device: &'static Device,
    pub tensor_parallel: u32,
    pub pipeline_parallel: u32,
}

/// Format of stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Bf16,
    Fp8,
}

impl Precision {
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        }
    }
}

/// What sets one pipeline stage apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StageKind {
    pub first: bool,
    pub last: bool,
}

impl Deployment {
    /// Looks everything up, and checks that the model can be split so.
    pub fn resolve(model: &str, node: &str, tensor_parallel: u32, pipeline_parallel: u32, files: &Files) -> Result<Self, HardwareError> {
        let model = catalog::model_from(model, files)?;
        let node = catalog::node(node).ok_or_else(|| HardwareError::Unsupported(catalog::unknown_node(node)))?;
        let device = catalog::device(node.device).expect("a test sees to it that every node's device is known");
        let divides = |setting: &str, parts: u32, what: &str, whole: u32| match parts {
            1.. if whole.is_multiple_of(parts) => Ok(()),
            _ => Err(HardwareError::Unsupported(format!("`{setting}` is {parts}, expected a divisor of the model's {whole} {what}"))),
        };
        divides("tensor_parallel", tensor_parallel, "query heads", model.num_query_heads)?;
        divides("pipeline_parallel", pipeline_parallel, "layers", model.num_layers)?;
        Ok(Self { model, node, device, tensor_parallel, pipeline_parallel })
    }

    pub fn layers_per_stage(&self) -> f64 {
        f64::from(self.model.num_layers) / f64::from(self.pipeline_parallel)
    }

    pub fn devices(&self) -> u32 {
        self.tensor_parallel * self.pipeline_parallel
    }

    /// Whether the stages of a replica share a node.
    pub(super) fn fits_one_node(&self) -> bool {
        self.devices() <= self.node.devices_per_node
    }

    /// The kinds of stages there are: the only one, or first, (middle,) last.
    pub(super) fn stage_kinds(&self) -> impl Iterator<Item = StageKind> {
        let kinds = self.pipeline_parallel.min(3);
        (0..kinds).map(move |kind| StageKind { first: kind == 0, last: kind + 1 == kinds })
    }
}
