//! `scalefront export`: a run's policy as the file that its real controller reads.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use scalefront::RESULTS_VERSION;
use scalefront::autoscaler::upstream::PolicyRecord;
use scalefront::controllers::{self, Controller, Subject};
use scalefront::files::write_atomically;
use scalefront::sweep::answers::stored;

use super::Exit;
use super::common::say;

/// Write a run's policy as the file that its real controller takes; what that file cannot say is listed in it
/// and on standard error
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Results of a sweep, or of `recommend`, such as results/lab3
    dir: PathBuf,

    /// The run, by its id or as much of that as no other begins with
    #[arg(long, value_name = "ID")]
    run: String,

    /// Who is to read it
    #[arg(long, value_name = "CONTROLLER", value_parser = controllers())]
    to: Controller,

    /// Where it goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// What is scaled: the name of the Deployment, or of the Knative Service [default: after the model]
    #[arg(long, value_name = "NAME", value_parser = label)]
    name: Option<String>,

    /// Do not list on standard error what the file cannot say
    #[arg(long)]
    quiet: bool,
}

fn controllers() -> impl TypedValueParser<Value = Controller> {
    PossibleValuesParser::new(
        Controller::ALL.map(|controller| PossibleValue::new(controller.name()).help(controller.summary())),
    )
    .map(|name| {
        Controller::ALL
            .into_iter()
            .find(|controller| controller.name() == name)
            .expect("a value that was possible")
    })
}

/// A name of Kubernetes.
fn label(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: Option<char>| c.is_some_and(|c| c != '-');
    let fits =
        text.len() <= 63 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().last());
    if fits {
        Ok(text.into())
    } else {
        Err("expected a name of Kubernetes: at most 63 lowercase letters, digits and `-`".into())
    }
}

/// A name of Kubernetes for a model: `Meta-Llama-3-70B` becomes `meta-llama-3-70b`.
fn named_after(model: &str) -> String {
    let last = model.rsplit('/').next().unwrap_or_default().trim_end_matches(".json").to_ascii_lowercase();
    let mut name: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.truncate(63);
    let name = name.trim_matches('-');
    if name.is_empty() { "llm".into() } else { name.into() }
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let plan = stored::plan(&self.dir)?;
        let shown = self.dir.display();
        let cell = stored::run(&plan, &self.run).map_err(|error| anyhow!("{shown}: --run: {error}"))?;
        let id = plan.id(&cell);
        let name = self.name.clone().unwrap_or_else(|| named_after(&cell.cluster.model));
        let subject = Subject { settings: &cell.autoscaler, cluster: &cell.cluster, name: &name };
        let manifest = match controllers::export(&subject, self.to) {
            Ok(manifest) => manifest,
            Err(reason) => bail!("{shown}: run {id}: {reason}"),
        };
        let heading = [
            format!("{} of run {id}", self.to.summary()),
            format!("from {}, workload {}, seed {}", plan.grid.source.file, cell.workload_name(), cell.seed),
            format!("simulated as {}", PolicyRecord::new(&cell.family, &cell.autoscaler)),
            format!("by scalefront {}, results version {RESULTS_VERSION}", env!("CARGO_PKG_VERSION")),
        ];
        let text = controllers::to_yaml(&heading, &manifest);
        match &self.out {
            None => say(text.trim_end())?,
            Some(path) => write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))?,
        }
        if !self.quiet {
            for sentence in &manifest.unsaid {
                eprintln!("not said in the file: {sentence}");
            }
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_name_workloads() {
        for (model, name) in [
            ("meta-llama/Meta-Llama-3-70B", "meta-llama-3-70b"),
            ("Qwen/Qwen2.5_7B", "qwen2-5-7b"),
            ("--", "llm"),
        ] {
            assert_eq!(named_after(model), name);
            assert_eq!(label(name), Ok(name.to_owned()));
        }
        assert!(label("A b").is_err() && label("").is_err() && label("a-").is_err());
    }
}
