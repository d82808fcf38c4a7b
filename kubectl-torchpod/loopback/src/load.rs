//! A load that goes on while the cluster changes: clients that open a connection for each request, clients that keep
//! theirs for as long as they may, and callers of gRPC.

mod client;
mod grpc;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::cluster::{Cluster, Shared};
use crate::state::State;
use client::{Fresh, Kept};
use grpc::Calls;
pub use tally::{Kind, Lost, Tally};

/// Clients of each kind.
const CLIENTS: u64 = 2;

pub struct Load {
    shared: Arc<Ongoing>,
    clients: Vec<thread::JoinHandle<()>>,
}

pub(crate) struct Ongoing {
    cluster: Arc<Shared>,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    counted: Condvar,
}

impl Load {
    pub fn on(cluster: &Cluster) -> Load {
        let tally = Mutex::new(Tally::default());
        let (stop, counted) = (AtomicBool::new(false), Condvar::new());
        let shared = Arc::new(Ongoing { cluster: cluster.shared.clone(), stop, tally, counted });
        let mut clients = Vec::new();
        for seed in 0..CLIENTS {
            let fresh = (shared.clone(), Fresh::new(seed));
            clients.push(spawn("fresh", move || fresh.0.go_on(Kind::Fresh, fresh.1)));
            let kept = (shared.clone(), Kept::new(CLIENTS + seed));
            clients.push(spawn("kept", move || kept.0.go_on(Kind::Kept, kept.1)));
            let calls = (shared.clone(), Calls::new(&cluster.shared, seed));
            clients.push(spawn("grpc", move || calls.0.go_on(Kind::Grpc, calls.1)));
        }
        Load { shared, clients }
    }

    /// Waits until so many more requests of each kind have been sent from now on.
    pub fn wait_for(&self, requests: usize) {
        let tally = self.shared.lock();
        let wanted = tally.least_sent() + requests;
        let not_yet = |tally: &mut Tally| tally.least_sent() < wanted;
        drop(self.shared.counted.wait_while(tally, not_yet).unwrap_or_else(PoisonError::into_inner));
    }

    pub fn sent(&self) -> usize {
        self.shared.lock().least_sent()
    }

    /// Ends it, and tells what came of it.
    pub fn stop(mut self) -> Tally {
        self.end();
        let tally = self.shared.lock().clone();
        println!("{tally}");
        tally
    }

    /// Ends it: so many requests of each kind were sent, and all were answered.
    pub fn assert_nothing_was_lost(self, requests: usize) {
        self.wait_for(requests.saturating_sub(self.sent()));
        let cluster = self.shared.cluster.clone();
        let tally = self.stop();
        assert!(tally.least_sent() >= requests);
        assert!(tally.lost.is_empty(), "{:#?}\n{}", tally.lost, cluster.look(State::journal));
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread starts")
}

impl Ongoing {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(&self, kind: Kind, mut client: impl client::Client) {
        while !self.stop.load(Ordering::Relaxed) {
            let sent = self.cluster.now();
            let result = client.ask(&self.cluster);
            let now = self.cluster.now();
            let mut tally = self.lock();
            tally.count(kind, result.map_err(|(pod, why)| Lost { kind, sent, failed: now, pod, why }));
            drop(tally);
            self.counted.notify_all();
            thread::sleep(self.cluster.scale.rest);
        }
    }
}
