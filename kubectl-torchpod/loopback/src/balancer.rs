//! Where Services listen, for programs that know nothing of this cluster but what their variables say
//! (`…_SERVICE_HOST` and `…_SERVICE_PORT`, as in every pod). Each connection goes where the rules say at that moment.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServicePort;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::cluster::Shared;
use crate::state::State;

/// Namespace, name and port.
type Key = (String, String, i32);

pub(crate) struct Balancer {
    runtime: Option<Runtime>,
    address: Ipv4Addr,
    listening: Mutex<BTreeMap<Key, SocketAddr>>,
}

impl Balancer {
    pub(crate) fn new(address: Ipv4Addr) -> Balancer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Balancer { runtime: Some(runtime.expect("a runtime starts")), address, listening: Mutex::default() }
    }

    /// What a container of this namespace is told about its Services.
    pub(crate) fn variables(&self, shared: &Arc<Shared>, namespace: &str) -> Vec<(String, String)> {
        let services = shared.look(|state| {
            let own = state.services.iter().filter(|service| service.namespace() == namespace);
            own.map(|service| (service.name().to_owned(), service.ports().to_vec())).collect::<Vec<_>>()
        });
        let mut variables = Vec::new();
        for (name, ports) in services {
            let prefix = name.to_uppercase().replace('-', "_");
            for (number, port) in ports.into_iter().enumerate() {
                let of_port = port.name.as_ref().map(|name| format!("_{}", name.to_uppercase().replace('-', "_")));
                let listens = self.listen(shared, (namespace.to_owned(), name.clone(), port.port), port);
                variables.push((format!("{prefix}_SERVICE_HOST"), listens.ip().to_string()));
                variables.extend(of_port.map(|of| (format!("{prefix}_SERVICE_PORT{of}"), listens.port().to_string())));
                if number == 0 {
                    variables.push((format!("{prefix}_SERVICE_PORT"), listens.port().to_string()));
                }
            }
        }
        variables
    }

    fn listen(&self, shared: &Arc<Shared>, key: Key, port: ServicePort) -> SocketAddr {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        *listening.entry(key.clone()).or_insert_with(|| {
            let runtime = self.runtime.as_ref().expect("it is taken when this is dropped");
            let listener = runtime.block_on(TcpListener::bind((self.address, 0))).expect("a port is free");
            let address = listener.local_addr().expect("it listens");
            runtime.spawn(balance(listener, Arc::downgrade(shared), key, port));
            address
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Its last owner may be one of its own tasks, which cannot wait for itself.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn balance(listener: TcpListener, shared: Weak<Shared>, key: Key, port: ServicePort) {
    let mut chance = fastrand::Rng::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let Some(shared) = shared.upgrade() else { return };
        let picked = shared.look(|state| pick(state, &key, &port, &mut chance));
        drop(shared);
        tokio::spawn(forward(client, picked));
    }
}

fn pick(
    state: &State,
    (namespace, name, _): &Key,
    port: &ServicePort,
    chance: &mut fastrand::Rng,
) -> Option<SocketAddr> {
    state.pick(state.service_named(namespace, name)?, port, chance).map(|(_, address)| address)
}

async fn forward(mut client: TcpStream, address: Option<SocketAddr>) {
    let connected = match address {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut server) = connected else {
        // As near as one can come to a refusal, after the kernel has accepted.
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
