//! A model on a kind of machine, split over its devices.

use std::borrow::Cow;

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
    /// Groups that the experts of a mixture are divided among; within a group each expert is shared out. A
    /// divisor of the devices of a stage.
    pub expert_parallel: u32,
    /// Tensor-parallel groups that have requests of their own and share the experts of a mixture (attention
    /// data parallelism). Batches are those of one group; the others are taken to be as full.
    pub data_parallel: u32,
}

/// What sets one pipeline stage apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StageKind {
    pub first: bool,
    pub last: bool,
}

impl Deployment {
    /// Looks everything up, and checks that the model can be split so.
    pub fn resolve(
        model: &str,
        node: &str,
        tensor_parallel: u32,
        pipeline_parallel: u32,
        files: &Files,
    ) -> Result<Self, HardwareError> {
        let model = catalog::model_from(model, files)?;
        let node =
            catalog::node(node).ok_or_else(|| HardwareError::Unsupported(catalog::unknown_node(node)))?;
        let device =
            catalog::device(node.device).expect("a test sees to it that every node's device is known");
        let divides = |setting: &str, parts: u32, what: &str, whole: u32| match parts {
            1.. if whole.is_multiple_of(parts) => Ok(()),
            _ => Err(HardwareError::Unsupported(format!(
                "`{setting}` is {parts}, expected a divisor of the model's {whole} {what}"
            ))),
        };
        divides("tensor_parallel", tensor_parallel, "query heads", model.num_query_heads)?;
        divides("pipeline_parallel", pipeline_parallel, "layers", model.num_layers)?;
        Ok(Self {
            model,
            node,
            device,
            tensor_parallel,
            pipeline_parallel,
            expert_parallel: 1,
            data_parallel: 1,
        })
    }

    /// This deployment with the experts divided among `expert_parallel` groups of devices.
    pub fn with_expert_parallel(self, expert_parallel: u32) -> Result<Self, HardwareError> {
        self.with_experts_over(expert_parallel, 1)
    }

    /// This deployment with experts shared by `data_parallel` tensor-parallel groups, and divided among
    /// `expert_parallel` groups of their devices.
    pub fn with_experts_over(
        mut self,
        expert_parallel: u32,
        data_parallel: u32,
    ) -> Result<Self, HardwareError> {
        let unsupported = |message: String| Err(HardwareError::Unsupported(message));
        if (expert_parallel, data_parallel) == (1, 1) {
            return Ok(self);
        }
        let Some(experts) = self.model.experts else {
            let (setting, value) = if data_parallel > 1 {
                ("data_parallel", data_parallel)
            } else {
                ("expert_parallel", expert_parallel)
            };
            return unsupported(format!(
                "`{setting}` is {value}, but {} is no mixture of experts; set it to 1",
                self.model.name
            ));
        };
        let devices = self.tensor_parallel * data_parallel;
        if expert_parallel == 0 || !devices.is_multiple_of(expert_parallel) {
            return unsupported(format!(
                "`expert_parallel` is {expert_parallel}, expected a divisor of the {devices} devices that share a layer (`tensor_parallel`)"
            ));
        }
        if !experts.count.is_multiple_of(expert_parallel) {
            return unsupported(format!(
                "`expert_parallel` is {expert_parallel}, expected a divisor of the model's {} experts",
                experts.count
            ));
        }
        (self.expert_parallel, self.data_parallel) = (expert_parallel, data_parallel);
        Ok(self)
    }

    /// Devices that share each expert.
    pub fn expert_tensor_parallel(&self) -> u32 {
        self.tensor_parallel * self.data_parallel / self.expert_parallel
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
