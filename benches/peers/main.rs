//! Scalefront beside NVIDIA's simulator on the same traces and tables: time, CPU, memory, and how far the
//! results agree.
//!
//! `cargo bench --bench peers`: needs Python 3.10 or newer, network and 1.6 GB of disk at its first run, and
//! some minutes. `SCALEFRONT_PEERS` is the directory that keeps the environment; arguments after `--` go to
//! `peers.py`, such as `--trace FILE.jsonl`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let kept = std::env::var_os("SCALEFRONT_PEERS")
        .map_or_else(|| std::env::temp_dir().join("scalefront-peers"), PathBuf::from);
    let environment = kept.join("environment");
    // Cargo's own argument, which says that this is a bench.
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let installs = Command::new(here.join("install.sh")).arg(&environment).status();
    if !installs.as_ref().is_ok_and(|status| status.success()) {
        eprintln!("the peer could not be installed in {}: {installs:?}", environment.display());
        return ExitCode::FAILURE;
    }
    let ran = Command::new(environment.join("bin/python"))
        .arg(here.join("peers.py"))
        .arg(env!("CARGO_BIN_EXE_scalefront"))
        .arg(kept.join("runs"))
        .args(arguments)
        .status();
    match ran {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        other => {
            eprintln!("the comparison failed: {other:?}");
            ExitCode::FAILURE
        }
    }
}
