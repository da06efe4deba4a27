//! When to add and drain replicas: one file a policy, one line here.

mod inferline;
mod service_level;
mod static_replicas;

pub use inferline::InferlineSettings;
pub use service_level::ServiceLevelSettings;
pub use static_replicas::StaticSettings;

use crate::choice;
use crate::settings::Faults;

choice! {
    /// When replicas are added and drained.
    pub enum AutoscalerSettings {
        "static" => Static(StaticSettings),
        "inferline" => Inferline(InferlineSettings),
        "service_level" => ServiceLevel(ServiceLevelSettings),
    }
}

impl AutoscalerSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Static(settings) => settings.check(faults),
            Self::Inferline(settings) => settings.check(faults),
            Self::ServiceLevel(settings) => settings.check(faults),
        });
    }
}
