//! Real PostgreSQL, MariaDB and Redis for tests: started on a free port with temporary data, as a user that may, and
//! never touching what the system runs. `make test` installs what is missing.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The password of the only user, as it stands in a URL and as it is.
pub(crate) const PASSWORD: &str = "s3cr%40et";
const PASSWORD_MEANT: &str = "s3cr@et";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
    Redis,
    /// With TLS only, under a certificate of its own.
    RedisTls,
}

/// A server of the test's own. Dropped, it is killed.
pub(crate) struct Database {
    kind: Kind,
    port: u16,
    /// How many clients it lets in at a time.
    limit: u32,
    folder: TempDir,
    child: Child,
}

impl Database {
    /// A server that has been told to start; what watches it finds out when it has.
    pub(crate) fn start(kind: Kind, limit: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        give(folder.path());
        let port = free_port();
        initialise(kind, folder.path());
        let child = spawn(kind, folder.path(), port, limit);
        Self { kind, port, limit, folder, child }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Where to connect to with `password`, percent-encoded as a URL wants it.
    pub(crate) fn url(&self, password: &str) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://torchpod:{password}@127.0.0.1:{port}/postgres"),
            Kind::Mariadb => format!("mysql://torchpod:{password}@127.0.0.1:{port}"),
            Kind::Redis => format!("redis://:{password}@127.0.0.1:{port}"),
            Kind::RedisTls => format!("rediss://:{password}@127.0.0.1:{port}"),
        }
    }

    /// The file that a client must trust; the server's own certificate.
    pub(crate) fn certificate(&self) -> String {
        self.folder.path().join("certificate.pem").display().to_string()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // PostgreSQL's postmaster is frozen alone: it forks for each connection, so no new one is answered.
        kill_process(Pid::from_child(&self.child), signal).expect("the server is there to be signalled");
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server is ours");
    }

    /// Starts it again after `kill`, on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.kind, self.folder.path(), self.port, self.limit);
    }

    /// PostgreSQL's password exchange hashes 8192 times: in a debug build, a thousand of them take half a minute. The
    /// others go on asking.
    pub(crate) fn ask_for_no_password(&self) {
        if self.kind == Kind::Postgres {
            let rules = self.folder.path().join("data/pg_hba.conf");
            fs::write(rules, "host all all 127.0.0.1/32 trust\n").expect("written");
            self.signal(Signal::HUP);
        }
    }

    /// What it has said, for a test that failed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It may be dead already, or frozen: SIGKILL ends it either way, and PostgreSQL's children follow.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// PostgreSQL and MariaDB refuse to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let root = rustix::process::getuid().is_root();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let nobody = passwd.lines().find_map(|line| line.strip_prefix("nobody:"));
    let mut ids = nobody?.split(':').skip(1).map_while(|id| id.parse().ok());
    root.then(|| Some((ids.next()?, ids.next()?)))?
}

/// Lets the server's user own `path`.
fn give(path: &Path) {
    if let Some((user, group)) = unprivileged() {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give folders away");
    }
}

/// The program called `name`, which Debian may keep out of PATH. PostgreSQL's is the newest.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run `make test-servers`"))
}

fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name));
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    command.current_dir(folder).stdin(Stdio::null()).stderr(log.try_clone().expect("a log")).stdout(log);
    command.env("LC_ALL", "C").env_remove("PGDATA");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

fn initialise(kind: Kind, folder: &Path) {
    let mut command = match kind {
        Kind::Postgres => {
            fs::write(folder.join("password"), PASSWORD_MEANT).expect("written");
            give(&folder.join("password"));
            let mut command = command("initdb", folder);
            command.args([
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
                "--auth=scram-sha-256",
                "--username=torchpod",
            ]);
            command.args(["--pwfile=password", "--pgdata=data"]);
            command
        }
        Kind::Mariadb => {
            let user = format!("CREATE USER IF NOT EXISTS 'torchpod'@'%' IDENTIFIED BY '{PASSWORD_MEANT}';\n");
            fs::write(folder.join("init.sql"), user).expect("written");
            let mut command = command("mariadb-install-db", folder);
            command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
            command.args(["--skip-name-resolve", "--innodb-log-file-size=4M"]);
            command.arg(format!("--datadir={}", folder.join("data").display()));
            command
        }
        Kind::RedisTls => return certify(folder),
        Kind::Redis => return,
    };
    let status = command.status().expect("it starts");
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(status.success(), "{command:?}: {status}\n{}", log());
}

/// Makes `key.pem` and `certificate.pem` in `folder`, of a server at 127.0.0.1 that nobody vouches for.
pub(crate) fn certify(folder: &Path) {
    give(folder);
    let mut command = command("openssl", folder);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]);
    command.args(["-days", "2", "-subj", "/CN=torchpod", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", "key.pem", "-out", "certificate.pem"]);
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}

fn spawn(kind: Kind, folder: &Path, port: u16, limit: u32) -> Child {
    let mut command = match kind {
        Kind::Postgres => {
            let mut command = command("postgres", folder);
            // A crash leaves its lock file; its port and its data are free all the same.
            let _ = fs::remove_file(folder.join("data/postmaster.pid"));
            command.args(["-D", "data", "-h", "127.0.0.1", "-k", "", "-F", "-p", &port.to_string()]);
            command.args(["-c", "superuser_reserved_connections=0", "-c", "shared_buffers=1MB"]);
            command.args(["-c", &format!("max_connections={limit}"), "-c", "max_wal_senders=0"]);
            command
        }
        Kind::Mariadb => {
            let mut command = command("mariadbd", folder);
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
            command.args(["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"]);
            for (key, value) in [("datadir", "data"), ("init-file", "init.sql"), ("socket", "socket")] {
                command.arg(format!("--{key}={}", folder.join(value).display()));
            }
            command.args([format!("--port={port}"), format!("--max-connections={limit}")]);
            command
        }
        Kind::Redis | Kind::RedisTls => {
            let mut command = command("redis-server", folder);
            let (port, limit) = (port.to_string(), limit.to_string());
            if kind == Kind::RedisTls {
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                command.args(["--tls-cert-file", "certificate.pem", "--tls-key-file", "key.pem"]);
                command.args(["--tls-ca-cert-file", "certificate.pem"]);
            } else {
                command.args(["--port", &port]);
            }
            command.args(["--bind", "127.0.0.1", "--save", "", "--maxclients", &limit]);
            command.args(["--requirepass", PASSWORD_MEANT]);
            command
        }
    };
    command.spawn().expect("the server starts")
}
