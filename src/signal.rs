//! SIGTERM and SIGINT as futures: the first asks to stop, the second insists. They are caught by a thread of their own, so
//! that they come through even where the async runtime is stuck.

use std::io;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

/// The names of the first and the second signal, caught from now on.
pub fn first_and_second() -> io::Result<(impl Future<Output = &'static str>, impl Future<Output = &'static str>)> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (say_first, first) = oneshot::channel();
    let (say_second, second) = oneshot::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut names = signals.forever().map(|signal| if signal == SIGTERM { "SIGTERM" } else { "SIGINT" });
        for say in [say_first, say_second] {
            // Nobody waiting means that the server has ended.
            let _ = names.next().map(|name| say.send(name));
        }
    })?;
    Ok((name(first), name(second)))
}

async fn name(signal: oneshot::Receiver<&'static str>) -> &'static str {
    signal.await.unwrap_or("shutdown")
}
