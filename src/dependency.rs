//! What a server leans on (databases, caches, other services) and how each is checked: by a real exchange of its
//! protocol, in the background, never by a probe.
//!
//! `parse` reads `--dependency URL`; each scheme has its check in a file of its own; `monitor` runs them in time.

mod grpc;
mod http;
mod hysteresis;
pub mod monitor;
mod once;
mod parse;
mod reason;
mod redis;
mod resolve;
mod secret;
mod sql;
mod tcp;

use std::fmt;
use std::time::Duration;

pub use monitor::{Report, Rx, watch};
use secret::Secrets;
pub use secret::may_hold_password;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// Something that is checked, as `--dependency URL` describes it.
///
/// Options stand in the URL's fragment, separated by commas:
/// `redis://:secret@cache:6379#optional,interval=2s,timeout=500ms,failures=3,successes=1,name=cache`.
///
/// `Debug` shows no credentials.
#[derive(Clone)]
pub struct Dependency {
    /// `scheme://host:port`, with the path where it means something, unless `name=` says otherwise. Never holds
    /// credentials.
    pub name: String,
    /// Whether the server is ready only while this is up.
    pub required: bool,
    pub pace: Pace,
    scheme: String,
    host: Host,
    check: Check,
    secrets: Secrets,
    rehearsed_down: bool,
}

/// When a dependency is checked, and how many results in a row are believed.
///
/// One that stops answering is down within `interval` × `failures` + `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the start of one check to the start of the next, at most: up to a tenth is taken off at random.
    pub interval: Duration,
    /// For everything that a check does, name resolution included. Not longer than `interval`.
    pub timeout: Duration,
    /// How many failures in a row take it down.
    pub failures: u32,
    /// How many successes in a row bring it up.
    pub successes: u32,
}

#[derive(Clone, Debug)]
struct Host {
    /// Without the brackets of an IPv6 address.
    name: String,
    port: u16,
}

/// As a URL has it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// One check a scheme. They share what they return: why they failed, in one line for the engineer on call.
#[derive(Clone)]
enum Check {
    Tcp,
    Http(http::Check),
    Redis(redis::Check),
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
    Grpc(grpc::Check),
}

impl Default for Pace {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(2), failures: 3, successes: 1 }
    }
}

impl Dependency {
    /// Whether `word` means this dependency: its name, its URL's scheme, or what that is a variant of (`redis` for
    /// `rediss`).
    pub fn answers_to(&self, word: &str) -> bool {
        word == self.name || word == self.scheme || word == self.check.protocol()
    }

    /// From now on every check fails, and says that this is a rehearsal.
    pub fn rehearse_down(&mut self) {
        self.rehearsed_down = true;
    }

    /// One check, unbounded in time.
    ///
    /// Cancel safe: dropped, it leaves no connection and no task behind.
    async fn check(&self, names: &resolve::Names) -> Result<(), String> {
        if self.rehearsed_down {
            return Err("rehearsed with --chaos dependency-down".to_owned());
        }
        let checked = async {
            // The clients look names up by themselves, too, but each time on a new thread: behind this gate, a name
            // server that does not answer holds one.
            let addresses = names.addresses(&self.host).await?;
            match &self.check {
                Check::Tcp => tcp::check(&addresses).await,
                Check::Http(check) => check.run().await,
                Check::Redis(check) => check.run().await,
                Check::Postgres(options) => sql::check_postgres(options).await,
                Check::Mysql(options) => sql::check_mysql(options).await,
                Check::Grpc(check) => check.run().await,
            }
        };
        checked.await.map_err(|reason| self.secrets.scrub(&reason))
    }
}

impl Check {
    fn protocol(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Grpc(_) => "grpc",
        }
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency")
            .field("name", &self.name)
            .field("required", &self.required)
            .field("pace", &self.pace)
            .field("rehearsed_down", &self.rehearsed_down)
            .finish_non_exhaustive()
    }
}
