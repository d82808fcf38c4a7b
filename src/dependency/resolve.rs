//! Looks a dependency's name up, on one thread at most: the C library's resolver can block for half a minute, and a
//! check that gave up waiting must not leave another thread there every few seconds.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Host;

type Lookup = JoinHandle<io::Result<Vec<SocketAddr>>>;

/// The names of one dependency.
#[derive(Default)]
pub(super) struct Names {
    unfinished: Mutex<Option<Lookup>>,
}

impl Names {
    /// Every address of `host`. An IP address costs nothing.
    ///
    /// Cancel safe: a lookup that nobody waits for any more is joined by the next caller.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.name.parse::<IpAddr>() {
            return Ok(vec![(address, host.port).into()]);
        }
        let (name, port) = (host.name.clone(), host.port);
        let found = self.join_or_start(move || Ok((name.as_str(), port).to_socket_addrs()?.collect())).await;
        found.map_err(|error| {
            let error = error.to_string();
            let why = error.strip_prefix("failed to lookup address information: ").unwrap_or(&error);
            format!("cannot resolve {}: {why}", host.name)
        })
    }

    async fn join_or_start(
        &self,
        lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let mut unfinished = self.unfinished.lock().await;
        // What has ended since its caller left may be old news.
        let running = unfinished.take().filter(|running| !running.is_finished());
        let found = unfinished.insert(running.unwrap_or_else(|| spawn_blocking(lookup))).await;
        *unfinished = None;
        found.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_hangs_is_joined_and_not_repeated() {
        let (started, starts) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<()>();
        let names = Names::default();
        let hanging = |started: mpsc::Sender<()>, answers: mpsc::Receiver<()>| {
            move || {
                started.send(()).unwrap();
                let _ = answers.recv();
                Ok(vec![([10, 0, 0, 1], 1).into()])
            }
        };
        let lookup = names.join_or_start(hanging(started.clone(), answers));
        assert!(tokio::time::timeout(Duration::from_millis(20), lookup).await.is_err(), "it hangs");
        starts.recv().unwrap();
        for _ in 0..3 {
            let again = names.join_or_start(|| panic!("a second thread was started"));
            assert!(tokio::time::timeout(Duration::from_millis(5), again).await.is_err());
        }
        let last = names.join_or_start(|| panic!("a second thread was started"));
        let (found, ()) = tokio::join!(last, async { answer.send(()).unwrap() });
        assert_eq!(found.unwrap(), [([10, 0, 0, 1], 1).into()]);
        let fresh = names.join_or_start(|| Ok(vec![])).await;
        assert_eq!(fresh.unwrap(), [], "what is asked after an answer is asked anew");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_named() {
        let host = Host { name: "no-such-host.invalid".to_owned(), port: 1 };
        let error = Names::default().addresses(&host).await.unwrap_err();
        assert!(error.starts_with("cannot resolve no-such-host.invalid: "), "{error}");
    }
}
