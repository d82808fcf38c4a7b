//! The second listener, for probes and metrics: on a thread and a runtime of its own, it answers when the main one is
//! stuck.

use std::net::TcpListener;
use std::{io, thread};

use tokio::runtime::Handle;

use crate::http::Front;
use crate::http::connection::{self, Connections, Fronts, Limits};

/// A step ahead of everybody else, where the process may take it.
const NICENESS: i32 = -5;

/// Serves until the process ends: a kubelet asks to the last moment.
pub(super) fn spawn(listener: TcpListener, fronts: Fronts<Front>, limits: Limits) -> io::Result<(Connections, Handle)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = {
        let _entered = runtime.enter();
        connection::serve(listener, fronts, limits)?
    };
    let handle = runtime.handle().clone();
    let serve = move || {
        // Without the privilege, it waits its turn like the others.
        let _ = rustix::process::nice(NICENESS);
        runtime.block_on(std::future::pending::<()>());
    };
    thread::Builder::new().name("probes".to_owned()).spawn(serve)?;
    Ok((server.connections(), handle))
}
