//! Its listener and its connections, all of which can break.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Serving, request};

/// On an address that may have been left a moment ago.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(256)?;
    Ok(socket.into())
}

/// Until it is told to end.
pub(super) fn serve(listener: std::net::TcpListener, serving: &Arc<Serving>, ended: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut ended = ended;
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = go_on(listener, serving) => {}
        }
    });
}

async fn go_on(mut listener: std::net::TcpListener, serving: &Arc<Serving>) {
    let address = listener.local_addr().expect("it listens");
    let router = Router::new().fallback(request::answer).with_state(serving.clone());
    let mut changed = serving.faults.changed.subscribe();
    loop {
        let accepting = TcpListener::from_std(listener).expect("it is a listener");
        let mut connections = JoinSet::new();
        let pause = loop {
            tokio::select! {
                accepted = accepting.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    let service = TowerToHyperService::new(router.clone());
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(connection);
                }
                _ = connections.join_next(), if !connections.is_empty() => {}
                _ = changed.changed() => {
                    if let Some(pause) = serving.faults.unreachable() {
                        break pause;
                    }
                }
            }
        };
        drop(accepting);
        connections.shutdown().await;
        wait(pause, serving, &mut changed).await;
        listener = listen(address).expect("nobody else has its address");
    }
}

/// Until it can be reached again, or is healed.
async fn wait(mut pause: std::time::Duration, serving: &Serving, changed: &mut watch::Receiver<()>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = changed.changed() => {}
        }
        match serving.faults.unreachable() {
            Some(left) => pause = left,
            None => return,
        }
    }
}
