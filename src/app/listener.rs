//! The ports: opened before anything else, served as one, closed as one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tracing::field::display;

use super::{Exit, probe_listener};
use crate::api::Shared;
use crate::config::Config;
use crate::grpc;
use crate::http;
use crate::http::connection::{self, Connections, Fronts, Limits};

/// Connections that the kernel holds until they are accepted, as far as it lets us. The usual 128 overflow in a burst, and
/// a probe whose SYN is dropped tries again only after a second.
const BACKLOG: i32 = 4096;

/// The open ports. They exist before anything else does, so that no probe is ever refused a connection.
pub struct Listeners {
    http: TcpListener,
    grpc: Option<TcpListener>,
    probe: Option<TcpListener>,
}

impl Listeners {
    pub fn bind(config: &Config) -> Result<Self, Exit> {
        let http = bind("--listen", config.listen)?;
        let grpc = config.grpc_listen.map(|address| bind("--grpc-listen", address)).transpose()?;
        let probe = config.probe_listen.map(|address| bind("--probe-listen", address)).transpose()?;
        Ok(Self { http, grpc, probe })
    }

    fn log(&self) {
        let address = |listener: &TcpListener| listener.local_addr().ok().map(display);
        let [http, grpc, probe] =
            [Some(&self.http), self.grpc.as_ref(), self.probe.as_ref()].map(|listener| listener.and_then(address));
        tracing::info!(http, grpc, probe, version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "listening");
    }
}

fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Exit> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restart need not wait for the last one's connections to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error: io::Error| {
        Exit::configuration(format!("{flag} {address}: {error}; choose another port, or 0 for any free one"))
    })
}

/// What serves the open ports, but for the probe listener: that one answers until the process ends.
pub(super) struct Servers {
    http: connection::Server,
    grpc: Option<connection::Server>,
}

impl Servers {
    /// Serves everything that is open. Needs a tokio runtime.
    pub(super) fn start(listeners: Listeners, shared: &Arc<Shared>, limits: Limits) -> io::Result<Self> {
        listeners.log();
        let Listeners { http, grpc, probe } = listeners;
        let limits = limits.on_each_of(1 + usize::from(grpc.is_some()) + usize::from(probe.is_some()));
        let count = |name, connections: Connections| shared.telemetry.listener(name, move || connections.open());
        if let Some(listener) = probe {
            let fronts = Fronts::same(http::probe_front(shared.clone()));
            let (connections, runtime) = probe_listener::spawn(listener, fronts, limits)?;
            count("probe", connections);
            shared.telemetry.runtime("probes", runtime);
        }
        let grpc_front = || Fronts::same(grpc::router(shared.clone()));
        let grpc = grpc.map(|listener| connection::serve(listener, grpc_front(), limits)).transpose()?;
        let fronts = Fronts { all: http::front(shared.clone()), reserve: http::reserve_front(shared.clone()) };
        let http = connection::serve(http, fronts, limits)?;
        for (name, server) in [("http", Some(&http)), ("grpc", grpc.as_ref())] {
            if let Some(server) = server {
                count(name, server.connections());
            }
        }
        Ok(Self { http, grpc })
    }

    /// As [`connection::Server::send_off`].
    pub(super) fn send_off(&self) {
        self.http.send_off();
        if let Some(grpc) = &self.grpc {
            grpc.send_off();
        }
    }

    /// As [`connection::Server::close`], all at once.
    pub(super) async fn close(self) {
        let grpc = async {
            if let Some(grpc) = self.grpc {
                grpc.close().await;
            }
        };
        tokio::join!(self.http.close(), grpc);
    }
}
