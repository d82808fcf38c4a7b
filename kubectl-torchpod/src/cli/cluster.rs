//! What every verb takes that speaks to a cluster, and how they all end.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::Notify;

use crate::release::api::Access;
use crate::release::error::Error;
use crate::release::voice::{Format, Voice};

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// The namespace; without it, the context's
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Cluster")]
    namespace: Option<String>,

    /// The context of the kubeconfig; without it, the current one
    #[arg(long, value_name = "CONTEXT", help_heading = "Cluster")]
    context: Option<String>,

    /// The kubeconfig; without it, $KUBECONFIG, ~/.kube/config, or the pod's own account
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,

    /// How long the API server may be gone
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration, help_heading = "Cluster")]
    patience: Duration,

    /// How it is told
    #[arg(short, long, value_enum, default_value = "text")]
    pub(super) output: Format,
}

/// How a canary and a cutover that were stopped are gone on with.
pub(super) const GO_ON: &str =
    "the same command goes on from where it stands, and `kubectl torchpod rollback` takes it back";

/// What a verb that brings a new version takes besides.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// The port of a pod that has /metrics; without it, the one named probes, or else metrics or http, or the first
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(i32).range(1..=65535))]
    pub(super) port: Option<i32>,

    /// Print the patches, in order, and change nothing; a cutover asks the new pods nevertheless
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask on a terminal
    #[arg(short, long)]
    pub(super) yes: bool,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// How a command ends that could do what it was asked for, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    /// The new version was taken back.
    Back,
}

/// Where a command stopped on its way.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) error: Error,
    /// What stands, and how to go on; nothing, where nothing was changed.
    pub(super) half_way: Option<String>,
}

/// Nothing was changed yet.
impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped { error, half_way: None }
    }
}

impl ClusterArgs {
    pub(super) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            patience: self.patience,
        }
    }
}

/// Somebody's wish to stop, for a verb that has something to let go before it ends.
#[derive(Debug, Default)]
pub(super) struct Stop {
    wanted: Notify,
    is_minded: Cell<bool>,
}

impl Stop {
    /// Goes on until it is done or somebody wants a stop.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.is_minded.set(true);
        tokio::select! {
            done = work => Some(done),
            () = self.wanted.notified() => None,
        }
    }
}

/// Runs a verb to its end, or until Ctrl-C or SIGTERM; tells how it ended. `go_on` is what to do after those.
pub(super) fn run(
    voice: &Voice,
    go_on: &str,
    stop: &Stop,
    verb: impl Future<Output = Result<Ended, Stopped>>,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(async {
        let mut verb = std::pin::pin!(verb);
        tokio::select! {
            ended = &mut verb => return Some(ended),
            () = told_to_stop() => {}
        }
        if stop.is_minded.get() {
            stop.wanted.notify_one();
            let _ = tokio::time::timeout(Duration::from_secs(2), verb).await;
        }
        None
    });
    voice.end();
    // A name that is still being looked up must not keep it.
    runtime.shutdown_background();
    let (code, error) = match ended {
        Some(Ok(Ended::Well)) => (0, None),
        Some(Ok(Ended::Back)) => (1, None),
        Some(Err(Stopped { error, half_way: None })) => (2, Some(format!("{error}; nothing was changed"))),
        Some(Err(Stopped { error, half_way: Some(stands) })) => (3, Some(format!("{error}; {stands}"))),
        None => (130, Some(format!("stopped by a signal; {go_on}"))),
    };
    if let Some(error) = error {
        eprintln!("error: {error}");
        voice.end_with(&error, &json!({"exit": code}));
    }
    ExitCode::from(code)
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Whether somebody at a terminal wants it; elsewhere the command itself is the answer.
pub(super) fn is_wanted(question: &str) -> bool {
    use std::io::{IsTerminal as _, Write as _, stderr, stdin};
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return true;
    }
    eprint!("{question} [y/N] ");
    let _ = stderr().flush();
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
