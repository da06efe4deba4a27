//! Whose file it is, and the policy it comes to.

use serde_json::Value;

use super::reading::{Imported, Refusal};
use super::{hpa, keda, knative, ray};

/// Reads a controller's file, YAML or JSON. Of several documents in it one may be a controller's; others are
/// passed over.
pub fn read(text: &str) -> Result<Imported, Refusal> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let error = error.to_string();
        Refusal::at(
            "",
            format!(
                "not valid YAML: {}",
                error.lines().next().unwrap_or_default().trim_start_matches("error: ")
            ),
        )
    })?;
    let known: Vec<(&Value, Reader)> =
        documents.iter().filter_map(|document| Some((document, reader(document)?))).collect();
    match &known[..] {
        [(document, read)] => read(document),
        [] => Err(Refusal::at(
            "",
            "nothing that scales found, expected a HorizontalPodAutoscaler, a ScaledObject of KEDA, a Service of Knative or an \
             `autoscaling_config` of Ray Serve",
        )),
        several => {
            Err(Refusal::at("", format!("{} documents that scale found, expected one", several.len())))
        }
    }
}

type Reader = fn(&Value) -> Result<Imported, Refusal>;

fn reader(document: &Value) -> Option<Reader> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("kind"), text("apiVersion")) {
        ("HorizontalPodAutoscaler", _) => Some(hpa::import),
        ("ScaledObject", _) => Some(keda::import),
        ("Service" | "Revision" | "Configuration", version)
            if version.starts_with("serving.knative.dev/") =>
        {
            Some(knative::import)
        }
        _ if ray::find(document).is_some() => Some(ray::import),
        _ => None,
    }
}
