//! `kubectl torchpod lint`.

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::measured::Measured;
use super::print;
use crate::lint::{self, Format, Given, Severity, Version};
use crate::manifest::{self, Manifests};

/// Find what a cluster would refuse and what will hurt, without a cluster
///
/// Manifests are read strictly, and seen as one whole: a Service is matched with the Deployments beside it, a budget
/// with its pods, a quota with what is asked for. A rule says nothing where the input lacks what it needs.
///
/// Exit codes: 0 no errors, 1 errors, 2 a flag is wrong, a file cannot be read, standard input is empty, or the report
/// cannot be written.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// Files, folders with all below them, or - for standard input
    #[arg(required_unless_present = "explain", value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,

    /// Tell of a rule: why, what to do, and an example of each; without an ID, list all
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with = "paths")]
    explain: Option<String>,

    #[command(flatten)]
    measured: Measured,

    /// How long servers other than torchpod take to drain, such as 30s; torchpod's own flags are understood
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain_time: Option<Duration>,

    /// The version of the cluster
    #[arg(long, value_name = "VERSION", default_value = "1.36")]
    kubernetes_version: Version,

    /// A rule that shall say nothing; once per rule
    #[arg(long, value_name = "ID")]
    allow: Vec<String>,

    /// The least severity that is told
    #[arg(long, value_enum, default_value = "info")]
    level: Severity,

    /// How findings are told
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

impl LintArgs {
    pub(super) fn run(self) -> ExitCode {
        let ended = match &self.explain {
            Some(id) => explain(id),
            None => self.check(),
        };
        ended.unwrap_or_else(|error| {
            eprintln!("error: {error}");
            ExitCode::from(2)
        })
    }

    fn check(&self) -> Result<ExitCode, String> {
        for id in &self.allow {
            known(id)?;
        }
        let given = Given {
            load_time: self.measured.load_time()?,
            drain_time: self.drain_time,
            version: self.kubernetes_version,
        };
        let sources = manifest::read(&self.paths).map_err(|error| error.to_string())?;
        let manifests = Manifests::parse(sources);
        let mut findings = lint::check(&manifests, &given);
        findings.retain(|finding| {
            finding.rule.severity >= self.level && !self.allow.iter().any(|id| id == finding.rule.id)
        });
        print(&lint::write(self.output, &manifests, &findings, stdout().is_terminal() && coloured()))?;
        let failed = findings.iter().any(|finding| finding.rule.severity == Severity::Error);
        Ok(ExitCode::from(u8::from(failed)))
    }
}

fn explain(id: &str) -> Result<ExitCode, String> {
    let page = if id.is_empty() { lint::list(lint::rules()) } else { lint::explain(known(id)?) };
    print(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// The rule of that name, or the one that is probably meant.
fn known(id: &str) -> Result<&'static lint::Rule, String> {
    if let Some(rule) = lint::rules().find(|rule| rule.id == id) {
        return Ok(rule);
    }
    let alike = |rule: &&lint::Rule| strsim::jaro_winkler(rule.id, id);
    let nearest = lint::rules().max_by(|one, other| alike(one).total_cmp(&alike(other)));
    let hint = nearest.map_or(String::new(), |rule| format!("; {} is the nearest, and --explain lists all", rule.id));
    Err(format!("there is no rule {id}{hint}"))
}

/// <https://no-color.org>
fn coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
