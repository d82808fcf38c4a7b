//! How the process ends: a code that scripts can rely on, and the reason where people look for it.

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::error::{ContextValue, ErrorKind};

use crate::dependency::may_hold_password;
use crate::lifecycle::Fault;
use crate::lifecycle::drain::Report;
use crate::telemetry;

/// An exit code and, unless it is 0, the reason in one paragraph.
#[derive(Clone, Debug)]
pub struct Exit {
    code: u8,
    reason: String,
    termination_log: PathBuf,
}

impl Exit {
    const TERMINATION_LOG: &str = "/dev/termination-log";

    fn new(code: u8, reason: String) -> Self {
        Self { code, reason, termination_log: Self::TERMINATION_LOG.into() }
    }

    pub fn clean() -> Self {
        Self::new(0, String::new())
    }

    /// The drain's deadline passed with requests in flight.
    pub fn drain_missed(report: &Report) -> Self {
        Self::new(
            1,
            format!("the drain missed its deadline ({report}); raise --drain-timeout, or lower --request-timeout"),
        )
    }

    /// The deadline passed and the async runtime did not even notice.
    pub fn stuck(report: &Report) -> Self {
        Self::new(1, format!("the async runtime did not turn, so that the drain was broken off ({report})"))
    }

    /// A second signal ended the drain with requests in flight.
    pub fn interrupted(report: &Report) -> Self {
        Self::new(1, format!("a second signal ended the drain ({report}); one signal lets it finish"))
    }

    /// A flag, a variable, a file or a port is wrong.
    pub fn configuration(reason: impl Display) -> Self {
        Self::new(2, reason.to_string())
    }

    /// Whether clap found a mistake; otherwise it was asked for help, or for nothing at all.
    pub fn is_mistake(error: &clap::Error) -> bool {
        error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    }

    /// clap's own error, in our form: its usage lines are in `--help`.
    pub fn usage(error: &clap::Error) -> Self {
        let text = without_passwords(error);
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let said = |line: &&str| !line.is_empty() && !line.starts_with("For more information");
        let mut parts: Vec<&str> = lines.filter(said).collect();
        // An exec probe runs in the server's container, whose end is not for it to explain; nor is it for the others.
        let (help, termination_log) = match std::env::args_os().nth(1) {
            Some(command) if command == "probe" => ("`torchpod probe --help` lists the flags", PathBuf::new()),
            Some(command) if command == "check" => ("`torchpod check --help` lists the flags", PathBuf::new()),
            Some(command) if command == "top" => ("`torchpod top --help` lists the flags", PathBuf::new()),
            _ => ("`torchpod serve --help` lists the flags", asked_termination_log()),
        };
        parts.push(help);
        // What is missing is listed below a line that ends with a colon.
        let sentence = parts.join("; ").replace(":; ", ": ");
        Self::configuration(sentence.trim_start_matches("error: ")).with_termination_log(termination_log)
    }

    /// A model, or the engine that it needs, could not be loaded.
    pub fn load(reason: impl Display) -> Self {
        Self::new(3, reason.to_string())
    }

    /// A fault that only another process can cure.
    pub fn fatal(fault: Fault, reason: &str) -> Self {
        Self::new(70, format!("fatal fault {fault}: {reason}; the process ends so that another one takes its place"))
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }

    #[must_use]
    pub fn with_termination_log(self, path: PathBuf) -> Self {
        Self { termination_log: path, ..self }
    }

    /// Ends the process. libtorch's destructors do not run: they must not meet a worker that is still computing.
    pub fn end(self) -> ! {
        let line = format!("torchpod: {}\n", self.reason);
        if self.code != 0 {
            leave_reason(&self.termination_log, &line);
        }
        telemetry::log::flush();
        if self.code != 0 {
            say(line);
        }
        // `_exit` flushes nothing.
        let _ = std::io::stdout().flush();
        // What a build that counts has counted is written by `exit` alone (scripts/dist).
        #[cfg(torchpod_counts)]
        std::process::exit(self.code.into());
        #[cfg(not(torchpod_counts))]
        signal_hook::low_level::exit(self.code.into())
    }
}

/// clap's text, in which every argument may stand, without those that may hold a password.
fn without_passwords(error: &clap::Error) -> String {
    let given = error.context().flat_map(|(_, value)| match value {
        ContextValue::String(text) => std::slice::from_ref(text),
        ContextValue::Strings(texts) => texts,
        _ => &[],
    });
    let secret = given.filter(|text| may_hold_password(text));
    secret.fold(error.to_string(), |text, secret| {
        let scheme =
            secret.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_lowercase()));
        let shown = scheme.map_or_else(|| "***".to_owned(), |(scheme, _)| format!("{scheme}://***"));
        text.replace(secret.as_str(), &shown)
    })
}

/// The `--termination-log` of a command line that clap refuses as a whole.
fn asked_termination_log() -> PathBuf {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let after = arguments.iter().skip_while(|argument| *argument != "--termination-log").nth(1).cloned();
    let joined =
        || arguments.iter().find_map(|argument| argument.strip_prefix("--termination-log=").map(str::to_owned));
    let variable = || std::env::var("TORCHPOD_TERMINATION_LOG").ok().filter(|path| !path.is_empty());
    after.or_else(joined).or_else(variable).map_or_else(|| Exit::TERMINATION_LOG.into(), PathBuf::from)
}

/// The kubelet makes the file; a server that runs elsewhere must not.
fn leave_reason(path: &Path, line: &str) {
    if path.is_file() {
        // The reason goes to stderr too, and there is nobody left to tell.
        let _ = std::fs::write(path, line);
    }
}

/// Writes to stderr, and does not wait for a reader that has stopped reading.
fn say(line: String) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let (say_done, done) = mpsc::channel();
    let write = move || {
        let _ = std::io::stderr().write_all(line.as_bytes());
        let _ = say_done.send(());
    };
    if thread::Builder::new().name("last-word".to_owned()).spawn(write).is_ok() {
        let _ = done.recv_timeout(PATIENCE);
    }
}
