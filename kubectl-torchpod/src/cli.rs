//! The command line: raw flags in, a report and an exit code out.

mod lint;
mod plan;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks manifests for torchpod, and for other servers of models, and predicts their rollouts
#[derive(Debug, Parser)]
#[command(name = "kubectl torchpod", bin_name = "kubectl torchpod", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lint(lint::LintArgs),
    Plan(plan::PlanArgs),
}

impl Cli {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Lint(args) => args.run(),
            Command::Plan(args) => args.run(),
        }
    }
}
