//! Engine overheads fitted to somebody's own server, kept in a file with where they come from.
//!
//! `hardware calibrate` writes one; `"engine_overheads": {"stored": {"calibration": "mine"}}` takes it by its
//! name, or by the path of the file. JSON, strict: an unknown field is an error.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Overheads;
use super::{Deployment, Files, HardwareError};
use crate::settings::Faults;

/// The layout of the file; another number is another layout.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoredSettings {
    /// Its name, as `hardware calibrate --name` gave it, or the path of its file.
    pub calibration: String,
}

impl StoredSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.require(!self.calibration.trim().is_empty(), "calibration", || {
            "nothing found, expected a name or the path of a file".into()
        });
    }

    /// Where the file may be: the path itself, or the name among stored calibrations.
    fn path(&self, files: &Files) -> PathBuf {
        let is_path = self.calibration.ends_with(".json") || self.calibration.contains(['/', '\\']);
        match files.calibrations_dir {
            Some(dir) if !is_path => dir.join(format!("{}.json", self.calibration)),
            _ => self.calibration.clone().into(),
        }
    }

    /// Reads the file.
    ///
    /// Errors: it is not there, is no calibration, or holds numbers that are none of overheads.
    pub fn read(&self, files: &Files) -> Result<StoredCalibration, HardwareError> {
        let path = files.find(&self.path(files))?;
        let text = std::fs::read_to_string(&path)
            .map_err(|source| HardwareError::Unreadable { file: path.clone(), source })?;
        let bad = |message: String| HardwareError::BadCalibration { file: path.clone(), message };
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let stored: StoredCalibration =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                bad(format!("no stored calibration: {error}; `hardware calibrate` writes one"))
            })?;
        if stored.scalefront_calibration != VERSION {
            let found = stored.scalefront_calibration;
            return Err(bad(format!(
                "`scalefront_calibration` is {found}, expected {VERSION}: calibrate again with this version"
            )));
        }
        let mut faults = Faults::default();
        faults.within("overheads", |faults| stored.overheads.check(faults));
        faults
            .found
            .first()
            .map_or(Ok(stored), |fault| Err(bad(format!("`{}`: {}", fault.path, fault.message))))
    }
}

/// Overheads of one server, what they were fitted to, and how far from it simulations with them are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCalibration {
    pub scalefront_calibration: u32,
    pub name: String,
    pub server: StoredServer,
    pub overheads: Overheads,
    /// One for each of the overheads.
    pub constants: Vec<StoredConstant>,
    pub held_out: StoredErrors,
    pub files: Vec<StoredFile>,
}

/// The server that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredServer {
    pub model: String,
    pub device: String,
    pub tensor_parallel: u32,
    pub engine: String,
    pub version: String,
}

/// A constant with its 95 % interval, or why the files do not tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredConstant {
    pub name: String,
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_told: Option<String>,
}

/// Median absolute errors over single requests that the fit had not seen: with the fit, and with the shipped
/// constants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredErrors {
    /// What was left out in turn.
    pub left_out: String,
    pub requests: usize,
    pub e2e: [f64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpot: Option<[f64; 2]>,
}

/// A file that was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    pub file: String,
    pub tool: String,
    pub requests: usize,
    pub failed: u64,
    pub warm_up: u64,
    /// BLAKE3 of its bytes.
    pub blake3: String,
}

impl StoredCalibration {
    /// One line for reports: fitted to what, with which error, and what of it is elsewhere than here.
    pub fn provenance(&self, deployment: &Deployment) -> String {
        let StoredServer { model, device, tensor_parallel, engine, version } = &self.server;
        let requests: usize = self.files.iter().map(|file| file.requests).sum();
        let mut tools: Vec<&str> = self.files.iter().map(|file| file.tool.as_str()).collect();
        tools.dedup();
        let [fitted, shipped] = self.held_out.e2e.map(|error| 100.0 * error);
        let mut line = format!(
            "engine overheads of calibration `{}`: fitted to {requests} requests measured by {} on {engine} {version}, {model} on {device} (median \
             error of end-to-end latency of requests left out of the fit {fitted:.1} %, with the shipped constants {shipped:.1} %)",
            self.name,
            tools.join(" and "),
        );
        let mut elsewhere = Vec::new();
        if *device != deployment.device.name {
            elsewhere.push(deployment.device.name.to_string());
        }
        if *model != deployment.model.name {
            elsewhere.push(deployment.model.name.to_string());
        }
        if *tensor_parallel != deployment.tensor_parallel {
            elsewhere.push(format!("tensor parallel {}", deployment.tensor_parallel));
        }
        if !elsewhere.is_empty() {
            line += &format!("; NOT MEASURED here: {}", elsewhere.join(", "));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredCalibration {
        StoredCalibration {
            scalefront_calibration: VERSION,
            name: "mine".into(),
            server: StoredServer {
                model: "Qwen/Qwen3-8B".into(),
                device: "h100".into(),
                tensor_parallel: 1,
                engine: "vllm".into(),
                version: "0.33".into(),
            },
            overheads: Overheads { step_ms: 2.5, ..Overheads::NONE },
            constants: vec![],
            held_out: StoredErrors {
                left_out: "levels of load".into(),
                requests: 90,
                e2e: [0.031, 0.18],
                ttft: None,
                tpot: None,
            },
            files: vec![StoredFile {
                file: "result.json".into(),
                tool: "vllm bench serve".into(),
                requests: 90,
                failed: 1,
                warm_up: 0,
                blake3: "00".into(),
            }],
        }
    }

    #[test]
    fn found_by_name_and_by_path_and_told_of_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.json");
        std::fs::write(&file, serde_json::to_string(&stored()).unwrap()).unwrap();
        let files = Files { calibrations_dir: Some(dir.path()), ..Files::default() };
        let read = |calibration: &str| StoredSettings { calibration: calibration.into() }.read(&files);
        assert_eq!(read("mine").unwrap(), stored());
        assert_eq!(read(file.to_str().unwrap()).unwrap(), stored());
        assert!(read("other").unwrap_err().to_string().contains("other.json is not there"));
        let on = |model: &str| {
            stored().provenance(&Deployment::resolve(model, "h100_dgx", 1, 1, &Files::default()).unwrap())
        };
        assert!(
            on("Qwen/Qwen3-8B")
                .ends_with("(median error of end-to-end latency of requests left out of the fit 3.1 %, with the shipped constants 18.0 %)")
        );
        assert!(on("Qwen/Qwen3-14B").ends_with("NOT MEASURED here: Qwen/Qwen3-14B"));
    }

    #[test]
    fn faults_name_file_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.json");
        let told = |text: String| {
            std::fs::write(&file, text).unwrap();
            StoredSettings { calibration: file.to_str().unwrap().into() }
                .read(&Files::default())
                .unwrap_err()
                .to_string()
        };
        let text = serde_json::to_string(&stored()).unwrap();
        for (from, to, said) in [
            ("\"step_ms\":2.5", "\"step_ms\":-1.0", "`overheads.step_ms`: -1 found"),
            ("\"step_ms\"", "\"step_s\"", "overheads.step_s: unknown field"),
            (
                "\"scalefront_calibration\":1",
                "\"scalefront_calibration\":9",
                "`scalefront_calibration` is 9, expected 1",
            ),
        ] {
            let told = told(text.replace(from, to));
            assert!(told.contains(said) && told.contains("bad.json"), "{told}");
        }
    }
}
