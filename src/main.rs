//! Parses the command line, dispatches, prints errors.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors: clap prints them to stdout.
            let is_error = error.use_stderr();
            let _ = error.print();
            return if is_error { cli::Exit::WrongInput.into() } else { cli::Exit::Done.into() };
        }
    };
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            cli::Exit::WrongInput.into()
        }
    }
}
