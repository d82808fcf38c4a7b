//! How a server's life ends: by a signal, by a failed load, or by a fault that only another process can cure.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{App, Exit};
use crate::cli::OnFatal;
use crate::lifecycle::drain::Report;
use crate::lifecycle::{Event, Fault};
use crate::telemetry::trace::Tracer;

/// A process that never served has nobody to wait for, only probes to finish.
const NEVER_SERVED_TIMEOUT: Duration = Duration::from_secs(1);
/// Everyone in flight is answered within this time once a fault is fatal; nobody waits for a hung batch.
const FATAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What sending the last spans may take.
const LAST_SPANS: Duration = Duration::from_millis(300);
/// When what sends them is given up itself, so that the end comes before the backstop's.
const LAST_SPANS_GIVEN_UP: Duration = Duration::from_millis(400);
/// So long after the deadline, the process ends without asking the async runtime.
const BACKSTOP: Duration = Duration::from_millis(500);

/// What ends a server's life.
enum Cause {
    Signal(&'static str),
    Fatal(Fault),
    LoadFailed(Exit),
}

impl App {
    /// Serves until `terminate`, then drains; `abort` ends the drain at once. Returns how the process should end.
    pub async fn run(
        mut self,
        terminate: impl Future<Output = &'static str>,
        abort: impl Future<Output = &'static str>,
    ) -> Exit {
        match self.live(terminate).await {
            Cause::Signal(signal) => {
                self.lifecycle.apply(Event::Terminate, signal);
                // Asked after the transition: the loader may have finished a moment before it.
                let (delay, timeout) = if self.rx.phase().startup_complete() {
                    (self.config.drain_delay, self.config.drain_timeout)
                } else {
                    (Duration::ZERO, NEVER_SERVED_TIMEOUT)
                };
                self.drain(delay, timeout, abort, Exit::stuck).await
            }
            Cause::Fatal(fault) => {
                let exit = Exit::fatal(fault, self.rx.snapshot().history.reason(fault.name()));
                self.lifecycle.apply(Event::Terminate, fault.name());
                let even_if_stuck = exit.clone();
                self.drain(Duration::ZERO, FATAL_TIMEOUT, abort, |_| even_if_stuck).await;
                exit
            }
            Cause::LoadFailed(exit) => {
                self.lifecycle.apply(Event::LoadFailed, exit.reason());
                exit
            }
        }
    }

    async fn live(&mut self, terminate: impl Future<Output = &'static str>) -> Cause {
        let failed = async {
            match self.loader.as_mut().await {
                Err(exit) => exit,
                Ok(()) => std::future::pending().await,
            }
        };
        let fatal = async {
            match self.config.on_fatal {
                OnFatal::Exit => self.rx.wait_for(|snapshot| snapshot.state.faults.latched()).await,
                OnFatal::Stay => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = terminate => Cause::Signal(signal),
            fault = fatal => Cause::Fatal(fault),
            exit = failed => Cause::LoadFailed(exit),
        }
    }

    /// Whoever still routes to this server finds it serving until the delay is over; then everyone in flight is answered.
    /// Where the async runtime does not turn, the process ends as `stuck` says.
    async fn drain(
        self,
        delay: Duration,
        timeout: Duration,
        abort: impl Future<Output = &'static str>,
        stuck: impl FnOnce(&Report) -> Exit + Send + 'static,
    ) -> Exit {
        let started = Instant::now();
        self.ledger.start_drain();
        self.servers.send_off();
        let _backstop = backstop(delay + timeout, {
            let (ledger, termination_log) = (self.ledger.clone(), self.config.termination_log.clone());
            move || stuck(&ledger.report(started.elapsed())).with_termination_log(termination_log)
        });
        let mut tracer = self.telemetry.tracer.clone();
        let farewell = async {
            tokio::time::sleep(delay).await;
            tokio::time::timeout(timeout, self.servers.close()).await
        };
        let (reason, broken_off): (_, fn(&Report) -> Exit) = tokio::select! {
            closed = farewell => match closed {
                Ok(()) => ("in-flight work is done", Exit::drain_missed),
                Err(_) => ("the deadline passed", Exit::drain_missed),
            },
            signal = abort => {
                tracing::warn!(signal, "second signal: ending at once");
                tracer = None;
                ("a second signal", Exit::interrupted)
            }
        };
        let report = self.ledger.report(started.elapsed());
        self.lifecycle.apply(Event::Drained, reason);
        log(&report);
        finish(tracer).await;
        if report.aborted == 0 { Exit::clean() } else { broken_off(&report) }
    }
}

/// Sends the spans that are left. Where the collector hangs, they are lost: the end does not wait for it.
async fn finish(tracer: Option<Arc<Tracer>>) {
    let Some(tracer) = tracer else { return };
    let finished = tokio::task::spawn_blocking(move || tracer.finish(LAST_SPANS));
    if !matches!(tokio::time::timeout(LAST_SPANS_GIVEN_UP, finished).await, Ok(Ok(Ok(())))) {
        tracing::warn!("the last spans may not have reached their collector");
    }
}

fn log(report: &Report) {
    tracing::info!(
        completed = report.completed,
        refused = report.refused,
        left = report.left,
        aborted = report.aborted,
        seconds = report.seconds,
        "drain report"
    );
}

/// Ends the process a moment after `limit`, unless what this returns is dropped before. It needs nothing of the async
/// runtime, whose timers stand still where it is stuck. Time is counted in turns: a process that was stopped as a whole
/// is not stuck.
fn backstop(limit: Duration, exit: impl FnOnce() -> Exit + Send + 'static) -> Option<mpsc::Sender<()>> {
    const TURN: Duration = Duration::from_millis(100);
    let (armed, dropped) = mpsc::channel();
    let wait = move || {
        let mut left = limit + BACKSTOP;
        while !left.is_zero() {
            if dropped.recv_timeout(left.min(TURN)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            left = left.saturating_sub(TURN);
        }
        exit().end();
    };
    // Without a thread to spare there is still the runtime's own deadline.
    thread::Builder::new().name("backstop".to_owned()).spawn(wait).ok().map(|_| armed)
}
