//! Who asks: a task a name, which looks it up again and again, and a task a replica. None waits for another, so that one
//! that hangs keeps nobody.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Asked;
use super::fleet::{Fleet, News};
use super::look;
use super::target::{self, Target};

/// How often a name is looked up.
const AGAIN: Duration = Duration::from_secs(5);
/// How long that may take until it is called a failure; the C library may go on for half a minute.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Watch {
    began: Instant,
    interval: Duration,
    timeout: Duration,
    say: mpsc::UnboundedSender<News>,
    news: mpsc::UnboundedReceiver<News>,
    _names: Vec<AbortOnDropHandle<()>>,
    replicas: HashMap<SocketAddr, AbortOnDropHandle<()>>,
}

impl Watch {
    /// Begins to ask.
    pub(super) fn new(asked: &Asked) -> Self {
        let (say, news) = mpsc::unbounded_channel();
        let (interval, timeout) = (asked.interval, asked.timeout);
        let names = asked.targets.iter().cloned().enumerate();
        let names =
            names.map(|(index, target)| AbortOnDropHandle::new(tokio::spawn(follow(index, target, say.clone()))));
        let names = names.collect();
        Self { began: Instant::now(), interval, timeout, say, news, _names: names, replicas: HashMap::new() }
    }

    /// The time since it began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets `fleet` hear what comes next, and asks whom it names. Cancel safe.
    pub(super) async fn hear(&mut self, fleet: &mut Fleet) {
        // It has a sender of its own, so that there is always something to wait for.
        if let Some(news) = self.news.recv().await {
            let now = self.now();
            for address in fleet.hear(news, now) {
                let task = tokio::spawn(ask(address, self.interval, self.timeout, self.say.clone()));
                self.replicas.insert(address, AbortOnDropHandle::new(task));
            }
            for address in fleet.forget(now) {
                self.replicas.remove(&address);
            }
        }
    }
}

async fn ask(address: SocketAddr, interval: Duration, timeout: Duration, say: mpsc::UnboundedSender<News>) {
    loop {
        let next = Instant::now() + interval;
        let found = look::look(address, timeout).await;
        if say.send(News::Looked { address, found }).is_err() {
            return;
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn follow(name: usize, target: Target, say: mpsc::UnboundedSender<News>) {
    if let Some(address) = target.address() {
        let _ = say.send(News::Found { name, found: Ok(vec![address]) });
        return;
    }
    loop {
        let found = addresses(&target, |why| {
            let _ = say.send(News::Found { name, found: Err(why) });
        });
        let found = found.await;
        if say.send(News::Found { name, found }).is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Every address that is a replica. `complain` hears if that takes long; there is one lookup at a time all the same.
async fn addresses(target: &Target, complain: impl FnOnce(String)) -> Result<Vec<SocketAddr>, String> {
    let mut lookup = std::pin::pin!(lookup_host((target.host.as_str(), target.port)));
    let found = if let Ok(found) = tokio::time::timeout(PATIENCE, &mut lookup).await {
        found
    } else {
        complain(format!("cannot resolve {}: no answer so far", target.host));
        lookup.await
    };
    let failed = |error: io::Error| {
        let error = error.to_string();
        let why = error.strip_prefix("failed to lookup address information: ").unwrap_or(&error);
        format!("cannot resolve {}: {why}", target.host)
    };
    let found = target::replicas(found.map_err(failed)?);
    if found.is_empty() { Err(format!("cannot resolve {}: it has no address", target.host)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_all_of_its_addresses_or_says_why_it_is_none() {
        let target = |host: &str| Target { host: host.into(), port: 8081 };
        assert_eq!(addresses(&target("localhost"), drop).await.unwrap(), [([127, 0, 0, 1], 8081).into()]);
        let error = addresses(&target("no-such-host.invalid"), |_| {}).await.unwrap_err();
        assert!(error.starts_with("cannot resolve no-such-host.invalid: "), "{error}");
    }
}
