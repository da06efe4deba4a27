//! What can be wrong with a workload, told to the person who wrote its settings or made its file.

use std::path::PathBuf;

use crate::settings::Fault;

#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("workload `{workload}`: {}", list(faults))]
    Settings { workload: String, faults: Vec<Fault> },

    #[error("`{}`: no such file or directory; looked for {}", path.display(), places(looked_at))]
    NotFound { path: PathBuf, looked_at: Vec<PathBuf> },

    /// The reason is part of the message, and so no source of its own.
    #[error("{}: {reason}", file.display())]
    Io { file: PathBuf, reason: std::io::Error },

    /// The file as a whole is not what it should be.
    #[error("{}: {message}", file.display())]
    File { file: PathBuf, message: String },

    /// One line is not what it should be. Lines count from 1, the header included.
    #[error("{}, line {line}: {message}", file.display())]
    Line { file: PathBuf, line: u64, message: String },

    /// One value of one line is not what it should be.
    #[error("{}, line {line}, column `{column}`: `{found}` found, expected {expected}", file.display())]
    Value { file: PathBuf, line: u64, column: String, found: String, expected: String },
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect::<Vec<_>>().join("; ")
}

fn places(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

/// Foreign text fit for a message: one line, and short.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
