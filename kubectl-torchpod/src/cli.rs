//! The command line: raw flags in, a report and an exit code out.

mod canary;
mod cluster;
mod cutover;
mod lint;
mod measured;
mod plan;
mod rollback;
mod status;

use std::io::{ErrorKind, Write as _, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks manifests for torchpod, and for other servers of models, predicts their rollouts, and ships new versions
#[derive(Debug, Parser)]
#[command(name = "kubectl torchpod", bin_name = "kubectl torchpod", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Canary(Box<canary::CanaryArgs>),
    Cutover(cutover::CutoverArgs),
    Lint(lint::LintArgs),
    Plan(plan::PlanArgs),
    Rollback(rollback::RollbackArgs),
    Status(status::StatusArgs),
}

impl Cli {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Canary(args) => args.run(),
            Command::Cutover(args) => args.run(),
            Command::Lint(args) => args.run(),
            Command::Plan(args) => args.run(),
            Command::Rollback(args) => args.run(),
            Command::Status(args) => args.run(),
        }
    }
}

/// A reader that has seen enough, such as `head`, is no error; a full disk is, since half a report looks like a whole one.
fn print(text: &str) -> Result<(), String> {
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}
