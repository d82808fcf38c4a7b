//! SIGTERM and SIGINT as futures: the first asks to stop, the second insists.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The names of the first and the second signal, caught from now on. Needs a tokio runtime.
pub fn first_and_second() -> io::Result<(impl Future<Output = &'static str>, impl Future<Output = &'static str>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (say_first, first) = oneshot::channel();
    let (say_second, second) = oneshot::channel();
    tokio::spawn(async move {
        // Nobody waiting means that the server has ended.
        let _ = say_first.send(next().await);
        let _ = say_second.send(next().await);
    });
    Ok((name(first), name(second)))
}

async fn name(signal: oneshot::Receiver<&'static str>) -> &'static str {
    signal.await.unwrap_or("shutdown")
}
