//! Between settings and the files that real controllers read: a policy's settings as such a file, and such a
//! file as settings.
//!
//! | file | policy | read by |
//! |---|---|---|
//! | HorizontalPodAutoscaler, `autoscaling/v2` | `hpa` | Kubernetes |
//! | ScaledObject, `keda.sh/v1alpha1` | `keda`, `keda_epp` | KEDA |
//! | ScaledObject with cron triggers | `schedule` | KEDA |
//! | annotations of a Service, `serving.knative.dev/v1` | `knative_kpa` | Knative Serving |
//! | `autoscaling_config` | `ray_serve` | Ray Serve |
//!
//! What a format cannot say is never dropped: [`Manifest::unsaid`] lists it going out, and coming in it is
//! refused by name. Fields are those of Kubernetes 1.33 (its OpenAPI schema, run:
//! `tests/manifests/check.sh`), of Ray 2.60.0 (`serve/config.py`, run: the same script), of KEDA 2.20
//! (`scaledobject_types.go`, read) and of Knative Serving 1.23 (`pkg/apis/autoscaling/register.go`, read).

pub mod signals;

mod hpa;
mod import;
mod keda;
mod knative;
mod ray;
mod reading;
mod schedule;

pub use import::read;
pub use reading::{Imported, MAX_FILE_BYTES};

use serde_json::{Map, Value};

use crate::autoscaler::AutoscalerSettings;
use crate::settings::quoted;
use crate::simulation::ClusterSettings;

/// Who reads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Hpa,
    Keda,
    Knative,
    RayServe,
    Schedule,
}

impl Controller {
    pub const ALL: [Self; 5] = [Self::Hpa, Self::Keda, Self::Knative, Self::RayServe, Self::Schedule];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hpa => "hpa",
            Self::Keda => "keda",
            Self::Knative => "knative",
            Self::RayServe => "ray_serve",
            Self::Schedule => "schedule",
        }
    }

    pub fn summary(self) -> &'static str {
        match self {
            Self::Hpa => "HorizontalPodAutoscaler of Kubernetes, autoscaling/v2",
            Self::Keda => "ScaledObject of KEDA",
            Self::Knative => "Service of Knative with annotations",
            Self::RayServe => "autoscaling_config of Ray Serve",
            Self::Schedule => "ScaledObject of KEDA with cron triggers",
        }
    }

    /// Who carries out these settings, if anyone here does.
    pub fn of(settings: &AutoscalerSettings) -> Option<Self> {
        match settings {
            AutoscalerSettings::Hpa(_) => Some(Self::Hpa),
            AutoscalerSettings::Keda(_) | AutoscalerSettings::KedaEpp(_) => Some(Self::Keda),
            AutoscalerSettings::KnativeKpa(_) => Some(Self::Knative),
            AutoscalerSettings::RayServe(_) => Some(Self::RayServe),
            AutoscalerSettings::Schedule(_) => Some(Self::Schedule),
            _ => None,
        }
    }
}

/// What is exported: a policy, the cluster it ran on, and what the workload is called in the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub settings: &'a AutoscalerSettings,
    pub cluster: &'a ClusterSettings,
    /// Name of the Deployment, of the Service, of the Ray deployment.
    pub name: &'a str,
}

/// A controller's file, with what has to be told beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub body: Value,
    /// What is needed for it to work, a line each: where signals come from, since which version, under which
    /// rule.
    pub needed: Vec<String>,
    /// What the format cannot say, a sentence each.
    pub unsaid: Vec<String>,
}

/// A run's policy as the file of `to`.
///
/// Errors: the policy is none of `to`, or goes by something that no server exports.
pub fn export(subject: &Subject, to: Controller) -> Result<Manifest, String> {
    let name = subject.settings.name();
    match Controller::of(subject.settings) {
        Some(own) if own == to => {}
        Some(own) => {
            return Err(format!(
                "its policy is `{name}`, which {} does not carry out; export it with `--to {}`",
                to.name(),
                own.name()
            ));
        }
        None => {
            let instead = match subject.settings {
                AutoscalerSettings::Static(settings) => {
                    format!(
                        "a fixed fleet needs no autoscaler: set `replicas: {}` in its Deployment",
                        settings.replicas
                    )
                }
                _ => format!(
                    "no controller here carries it out; policies that can be exported: {}",
                    exportable()
                ),
            };
            return Err(format!("its policy is `{name}`: {instead}"));
        }
    }
    let mut out = Notes::default();
    let body = match subject.settings {
        AutoscalerSettings::Hpa(settings) => hpa::export(settings, subject, &mut out)?,
        AutoscalerSettings::Keda(settings) => keda::export(settings, subject, &mut out)?,
        AutoscalerSettings::KedaEpp(settings) => {
            let scaled_object = settings.as_keda().ok_or_else(|| {
                "its policy is `keda_epp` with `\"signal\": \"queue_guard\"`, whose one query over replicas that start no release exports; \
                 expected another `signal`"
                    .to_owned()
            })?;
            keda::export(&scaled_object, subject, &mut out)?
        }
        AutoscalerSettings::KnativeKpa(settings) => knative::export(settings, subject, &mut out),
        AutoscalerSettings::RayServe(settings) => ray::export(settings, subject, &mut out),
        AutoscalerSettings::Schedule(settings) => schedule::export(settings, subject, &mut out)?,
        _ => unreachable!("only these have a controller"),
    };
    out.about_cluster(subject.cluster, to);
    Ok(Manifest { body, needed: out.needed, unsaid: out.unsaid })
}

fn exportable() -> String {
    quoted(&["hpa", "keda", "keda_epp", "knative_kpa", "ray_serve", "schedule"])
}

/// The text of a file: comments, then the body as YAML.
pub fn to_yaml(heading: &[String], manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut comment = |line: &str| {
        text.push_str(format!("# {line}").trim_end());
        text.push('\n');
    };
    heading.iter().for_each(|line| comment(line));
    for (title, lines) in [("Needed:", &manifest.needed), ("Not said in this file:", &manifest.unsaid)] {
        if !lines.is_empty() {
            comment("");
            comment(title);
            lines.iter().flat_map(|line| line.lines().enumerate()).for_each(|(i, line)| {
                comment(&format!("{} {line}", if i == 0 { "-" } else { " " }));
            });
        }
    }
    text + &serde_saphyr::to_string(&manifest.body).expect("a tree of plain data")
}

/// What is told beside a file that is being made.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub needed: Vec<String>,
    pub unsaid: Vec<String>,
}

impl Notes {
    pub fn need(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.needed.contains(&line) {
            self.needed.push(line);
        }
    }

    pub fn cannot_say(&mut self, sentence: impl Into<String>) {
        self.unsaid.push(sentence.into());
    }

    /// Tells of a setting that has no place in the file, unless it is what the program does anyway.
    pub fn elsewhere<T: PartialEq + std::fmt::Display>(
        &mut self,
        field: &str,
        value: T,
        default: T,
        place: &str,
    ) {
        let is_default = if value == default { ", its default" } else { "" };
        self.cannot_say(format!("`{field}` {value}: {place}{is_default}"));
    }

    /// A whole number from `least` to `most`, as near to `value` as there is one.
    pub fn whole(&mut self, field: &str, value: f64, least: i64, most: i64) -> Value {
        let nearest = (value.round() as i64).clamp(least, most);
        if nearest as f64 != value {
            self.cannot_say(format!("`{field}` {value}: the format takes whole numbers from {least} to {most}; {nearest} stands there"));
        }
        nearest.into()
    }

    /// What simulated and real fleets have to have in common, and no autoscaler's file says.
    fn about_cluster(&mut self, cluster: &ClusterSettings, to: Controller) {
        let ClusterSettings { model, node, tensor_parallel, pipeline_parallel, scale_up_delay_s, .. } =
            cluster;
        let scheduler = serde_json::to_value(&cluster.replica_scheduler).expect("settings are plain data");
        let router = serde_json::to_value(&cluster.global_scheduler).expect("settings are plain data");
        self.cannot_say(format!(
            "the replica: {model}, tensor parallel {tensor_parallel}, pipeline parallel {pipeline_parallel} on {node}, scheduler {scheduler}: set \
             in its own manifest"
        ));
        self.cannot_say(format!("`global_scheduler` {router}: the gateway or router in front"));
        self.cannot_say(format!(
            "`scale_up_delay_s` {scale_up_delay_s}: what the simulation took for a cold start; measure yours"
        ));
        if !matches!(to, Controller::RayServe | Controller::Knative) {
            self.cannot_say(format!(
                "`initial_replicas` {}: the `replicas` of the Deployment at first",
                cluster.initial_replicas
            ));
        }
    }
}

/// An object of those members that are there.
pub(crate) fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    Value::Object(
        members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>(),
    )
}

/// A number as Kubernetes' quantities and KEDA's metadata spell it: no exponent.
pub(crate) fn plain(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests;
