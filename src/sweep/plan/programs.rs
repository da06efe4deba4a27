//! Policies that are programs of their own: their files found, their processes started, asked and ended.
//!
//! A process serves one run at a time and then waits for the next, so there are as many as runs go on at
//! once. A watch ends the processes that do not answer in time; whoever waits for them is then told. Programs
//! are started with a grid that was given, never with one that came with results: opening what somebody else
//! has sent runs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::autoscaler::external::Dialogue;
use crate::workload::source::find;

/// No answer is longer.
const LONGEST_ANSWER_BYTES: u64 = 1 << 20;

/// How often the watch looks for late answers.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// What a program has to end by itself once its standard input is closed.
const FAREWELL: Duration = Duration::from_millis(500);

/// Last lines of standard error that a failure shows, and the longest part of each.
const SHOWN_LINES: usize = 5;
const SHOWN_CHARS: usize = 300;

/// A command whose files have been found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Arguments that name files stand as the paths at which these were found.
    resolved: Vec<PathBuf>,
    /// BLAKE3 of the arguments and of the files they name.
    pub blake3: String,
}

impl Program {
    /// Finds the files that a command names, each looked for under `base_dirs`. An argument that names none
    /// stands for itself.
    ///
    /// Errors: a file cannot be read, or the program is a path at which there is nothing.
    pub fn find(command: &[String], base_dirs: &[PathBuf]) -> Result<Self, String> {
        let mut hasher = blake3::Hasher::new();
        let mut resolved = Vec::new();
        for (index, argument) in command.iter().enumerate() {
            hasher.update(&(argument.len() as u64).to_le_bytes());
            hasher.update(argument.as_bytes());
            let is_path = argument.contains(['/', '\\']) || Path::new(argument).extension().is_some();
            let file = find(Path::new(argument), base_dirs)
                .ok()
                .filter(|path| path.is_file() && (index > 0 || is_path));
            match file {
                Some(file) => {
                    let content = std::fs::read(&file)
                        .map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
                    hasher.update(blake3::hash(&content).as_bytes());
                    // Relative to a directory, or a shell's search path would be looked through for it.
                    resolved.push(std::path::absolute(&file).unwrap_or(file));
                }
                None if index == 0 && argument.contains('/') => {
                    return Err(format!(
                        "`{argument}`: no such program beside the grid file or in the current directory"
                    ));
                }
                None if index > 0 && is_path && looks_like_script(argument) => {
                    return Err(format!(
                        "`{argument}`: no such file beside the grid file or in the current directory"
                    ));
                }
                None => resolved.push(argument.into()),
            }
        }
        Ok(Self { resolved, blake3: hasher.finalize().to_hex().to_string() })
    }
}

/// Whether an argument that names no file was meant to.
fn looks_like_script(argument: &str) -> bool {
    let extension = Path::new(argument).extension().and_then(|extension| extension.to_str());
    !argument.starts_with('-')
        && extension.is_some_and(|extension| {
            ["py", "js", "mjs", "cjs", "rb", "sh", "jl", "lua", "pl"].contains(&extension)
        })
}

/// The processes of a sweep. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Programs {
    known: BTreeMap<Vec<String>, Program>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    idle: Mutex<BTreeMap<Vec<PathBuf>, Vec<Process>>>,
}

impl Programs {
    /// Where the commands `known` may be run, and no others.
    pub fn new(known: BTreeMap<Vec<String>, Program>) -> Self {
        Self { known, shared: Arc::default() }
    }
}

impl crate::autoscaler::Programs for Programs {
    fn open(&self, command: &[String]) -> Result<Box<dyn Dialogue>, String> {
        let program =
            self.known.get(command).ok_or_else(|| format!("`{}` is not started here", command.join(" ")))?;
        let waiting = lock(&self.shared.idle).get_mut(&program.resolved).and_then(Vec::pop);
        let process = waiting.map_or_else(|| Process::start(program), Ok)?;
        Ok(Box::new(Lease { process: Some(process), home: Arc::downgrade(&self.shared) }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process for the time of a run; then it waits for the next.
struct Lease {
    process: Option<Process>,
    home: Weak<Shared>,
}

impl Lease {
    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process is given up once, by what no longer asks it")
    }
}

impl Dialogue for Lease {
    fn ask(&mut self, line: &[u8], answer: &mut String, timeout_s: f64) -> Result<(), String> {
        self.process().ask(line, answer, Duration::try_from_secs_f64(timeout_s).unwrap_or(Duration::MAX))
    }

    fn greeting(&self) -> Option<String> {
        self.process.as_ref()?.greeting.clone()
    }

    fn set_greeting(&mut self, answer: &str) {
        self.process().greeting = Some(answer.into());
    }

    fn give_up(&mut self) {
        self.process = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(process), Some(home)) = (self.process.take(), self.home.upgrade()) else { return };
        lock(&home.idle).entry(process.program.resolved.clone()).or_default().push(process);
    }
}

/// A running program and the ends of its pipes.
#[derive(Debug)]
struct Process {
    program: Program,
    /// Closed first when the process is to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    body: Arc<Body>,
    greeting: Option<String>,
}

/// What the watch shares with whoever asks.
#[derive(Debug)]
struct Body {
    child: Mutex<Child>,
    /// When the answer that is being waited for is late.
    due: Mutex<Option<Instant>>,
    late: AtomicBool,
    complaints: Mutex<VecDeque<String>>,
}

impl Process {
    fn start(program: &Program) -> Result<Self, String> {
        let name = program.resolved[0].display().to_string();
        let mut command = Command::new(&program.resolved[0]);
        command
            .args(&program.resolved[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: what it starts ends with it, and an interrupt at the terminal reaches it by way
        // of us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| {
            format!("`{name}` cannot be started: {error}; is it installed and executable?")
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("standard output is piped"));
        let complaints = child.stderr.take().expect("standard error is piped");
        let body = Arc::new(Body {
            child: Mutex::new(child),
            due: Mutex::default(),
            late: AtomicBool::new(false),
            complaints: Mutex::default(),
        });
        let (listener, watcher) = (Arc::downgrade(&body), Arc::downgrade(&body));
        thread::spawn(move || listen(BufReader::new(complaints), &listener));
        thread::spawn(move || watch(&watcher));
        Ok(Self { program: program.clone(), input, output: BufReader::new(output), body, greeting: None })
    }

    fn ask(&mut self, line: &[u8], answer: &mut String, timeout: Duration) -> Result<(), String> {
        *lock(&self.body.due) = Instant::now().checked_add(timeout);
        let exchanged = self.exchange(line, answer);
        *lock(&self.body.due) = None;
        if self.body.late.load(Ordering::Acquire) {
            return Err(format!(
                "no answer within {} s (`timeout_s`){}",
                timeout.as_secs_f64(),
                self.last_words()
            ));
        }
        exchanged
    }

    fn exchange(&mut self, line: &[u8], answer: &mut String) -> Result<(), String> {
        let input = self.input.as_mut().expect("open until the process ends");
        // In one piece: the program would wake for a line without its end.
        let sent = input.write_all(line);
        if sent.is_err() {
            return Err(self.ended());
        }
        answer.clear();
        let read = (&mut self.output).take(LONGEST_ANSWER_BYTES).read_line(answer);
        match read {
            Ok(0) => Err(self.ended()),
            Ok(_) if answer.ends_with('\n') => {
                answer.truncate(answer.trim_end().len());
                Ok(())
            }
            Ok(length) if length as u64 == LONGEST_ANSWER_BYTES => {
                Err(format!("an answer longer than {LONGEST_ANSWER_BYTES} bytes found, expected a line"))
            }
            Ok(_) => Err(self.ended()),
            Err(error) => Err(format!("its answer cannot be read: {error}{}", self.last_words())),
        }
    }

    /// That the program has ended, how, and what it last said.
    fn ended(&mut self) -> String {
        self.input = None;
        let status = self.body.wait(FAREWELL);
        let how = status
            .map_or_else(|| "closed its output and went on".into(), |status| format!("ended ({status})"));
        format!("the program {how}{}", self.last_words())
    }

    fn last_words(&self) -> String {
        // Its last lines may still be on their way.
        thread::sleep(WATCH_INTERVAL);
        let lines = lock(&self.body.complaints);
        if lines.is_empty() {
            return "; it wrote nothing to standard error".into();
        }
        format!("; it last wrote: {}", lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        if self.body.wait(FAREWELL).is_none() {
            self.body.kill();
        }
    }
}

impl Body {
    /// Waits for the process to end by itself.
    fn wait(&self, most: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + most;
        loop {
            if let Ok(Some(status)) = lock(&self.child).try_wait() {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the process and what it has started.
    fn kill(&self) {
        let mut child = lock(&self.child);
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        #[cfg(unix)]
        if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // That there is no such group any more is all that can go wrong.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Keeps the last lines of standard error, whatever their number and length.
fn listen(mut complaints: impl BufRead, body: &Weak<Body>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut complaints).take(LONGEST_ANSWER_BYTES).read_until(b'\n', &mut line);
        let (Ok(1..), Some(body)) = (read, body.upgrade()) else { return };
        let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(SHOWN_CHARS).collect();
        if !text.trim().is_empty() {
            let mut lines = lock(&body.complaints);
            lines.push_back(text);
            if lines.len() > SHOWN_LINES {
                lines.pop_front();
            }
        }
    }
}

/// Ends a process whose answer is late.
fn watch(body: &Weak<Body>) {
    while let Some(body) = body.upgrade() {
        let due = *lock(&body.due);
        if due.is_some_and(|due| Instant::now() >= due) {
            body.late.store(true, Ordering::Release);
            body.kill();
            return;
        }
        drop(body);
        thread::sleep(WATCH_INTERVAL);
    }
}
