//! What subcommands share: flags, threads, interrupts, progress.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scalefront::files::shell_word;
use scalefront::sweep::run::Progress;

/// Flags of every command that runs something.
#[derive(Debug, clap::Args)]
pub struct CommonArgs {
    /// Where results go [default: results/<name of the grid>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Threads to run on [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<std::num::NonZeroUsize>,

    /// Print errors only
    #[arg(long)]
    pub quiet: bool,

    /// Add N to every seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed_offset: u64,
}

impl CommonArgs {
    pub fn threads(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, Into::into)
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("results").join(name))
    }

    pub fn pool(&self) -> Result<rayon::ThreadPool> {
        let threads = self.threads();
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .with_context(|| format!("cannot start {threads} threads"))
    }
}

/// Prints what is probably not as it was meant, a line each.
pub fn warn(doubts: &[String]) {
    for doubt in doubts {
        eprintln!("warning: {doubt}");
    }
}

/// The value of `--threads`.
pub fn threads(text: &str) -> Result<std::num::NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}

/// Words as a line that a POSIX shell splits into them again.
pub fn quoted(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().map(shell_word).collect::<Vec<_>>().join(" ")
}

/// The command as a shell takes it.
pub fn command_line() -> String {
    quoted(arguments())
}

/// The command's words.
pub fn arguments() -> impl Iterator<Item = String> {
    let given = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    ["scalefront".to_string()].into_iter().chain(given)
}

/// Prints a line to stdout. A listener that has heard enough, such as `head`, is no error.
pub fn say(line: impl Display) -> Result<()> {
    match writeln!(stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt lets the command end in an orderly way; a second one ends it at once.
pub fn catch_interrupts() -> Result<()> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).context("cannot catch interrupts")
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A progress bar on stderr, if that is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(what: &'static str, runs: usize, quiet: bool) -> Self {
        let target = if quiet || !stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let style = ProgressStyle::with_template(
            "{msg} {bar:40} {human_pos}/{human_len} runs, {per_sec}, {eta} left",
        );
        let bar = ProgressBar::with_draw_target(Some(runs as u64), target).with_message(what);
        Self(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn run_ended(&self, _requests: u64) {
        self.0.inc(1);
    }

    fn is_interrupted(&self) -> bool {
        is_interrupted()
    }
}

/// Does `work` on `runs` runs with a progress bar.
pub fn watched<T>(common: &CommonArgs, what: &'static str, runs: usize, work: impl FnOnce(&Bar) -> T) -> T {
    let bar = Bar::new(what, runs, common.quiet);
    let done = work(&bar);
    bar.finish();
    done
}
