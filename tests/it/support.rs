//! The harness of the integration tests: the real `torchpod` as a child process, its log, and its end.

use std::io::{BufRead as _, BufReader, Read};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_torchpod");
/// The root of the repository; children run here, so that `models` is the shipped folder.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Long enough for a loaded machine, short enough to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Lets the kernel choose, so that no two servers want the same.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

static MACHINE: RwLock<()> = RwLock::new(());

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A test's turn on the machine, which it needs to start a server: tests that measure time have it alone.
pub(crate) struct Turn {
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

impl Turn {
    pub(crate) fn shared() -> Self {
        engine();
        Self { _shared: Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner)), _alone: None }
    }

    pub(crate) fn alone() -> Self {
        engine();
        Self { _shared: None, _alone: Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// `torchpod serve` with `arguments`, on a free port that is open by now.
    pub(crate) fn start(&self, arguments: &[&str]) -> Server<'_> {
        self.start_with(&[], arguments)
    }

    /// The same, with environment variables.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Server<'_> {
        self.start_at(Ipv4Addr::LOCALHOST, variables, arguments)
    }

    /// As `serve`, on an address of its own: nobody else listens at its ports once it has ended, and answers its clients.
    pub(crate) fn serve_apart(&self, arguments: &[&str]) -> Server<'_> {
        static SERVERS: AtomicU16 = AtomicU16::new(0);
        let [high, low] = SERVERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let own = Ipv4Addr::new(127, 1, high, low);
        let server = self.start_at(own, &[("TORCHPOD_GRPC_LISTEN", &format!("{own}:0"))], arguments);
        server.wait_until("serving");
        server
    }

    fn start_at(&self, own: Ipv4Addr, variables: &[(&str, &str)], arguments: &[&str]) -> Server<'_> {
        let mut command = self.command(&["serve", "--listen", &format!("{own}:0"), "--log-format", "json"]);
        let mut child = command.args(arguments).envs(variables.iter().copied()).spawn().expect("the binary starts");
        let log = Log::follow(child.stderr.take().expect("stderr is a pipe"));
        let mut server = Server { child, turn: PhantomData, address: NOWHERE, grpc: NOWHERE, probe: None, log };
        let line = server.log.wait_for("listening", |line| line["message"] == "listening");
        let address = |name: &str| line[name].as_str().map(|text| text.parse().expect("it is an address"));
        server.address = address("http").expect("http is always open");
        server.grpc = address("grpc").unwrap_or(NOWHERE);
        server.probe = address("probe");
        server
    }

    /// As `start`, and it is ready.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server<'_> {
        let server = self.start(arguments);
        server.wait_until("serving");
        server
    }

    /// `torchpod` with `arguments`, run to its end, which must come by itself.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&[], arguments)
    }

    /// The same, with environment variables.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut child = self.command(arguments).envs(variables.iter().copied()).spawn().expect("the binary starts");
        let outputs = [read_all(child.stdout.take()), read_all(child.stderr.take())];
        let status = wait(&mut child, PATIENCE).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("torchpod {arguments:?} did not end by itself within {PATIENCE:?}");
        });
        let [stdout, stderr] = outputs.map(|reader| reader.join().expect("the reader does not panic"));
        Output { status, stdout, stderr }
    }

    /// The bare binary, free of variables that would configure it but for the one that keeps servers apart.
    #[allow(clippy::unused_self)] // Whoever runs the binary has a turn.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        let is_read = |name: &str| name.starts_with("TORCHPOD_") || name.starts_with("OTEL_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_read(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(ROOT).env("TORCHPOD_GRPC_LISTEN", ANY_PORT);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Builds the engine beside the binary where `cargo test` was run without a `cargo build`.
fn engine() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let folder = Path::new(BINARY).parent().expect("the binary lies in a folder");
        if folder.join("libtorchpod_torch.so").exists() {
            return;
        }
        let profile = if folder.ends_with("debug") { "dev" } else { "release" };
        let target = folder.parent().expect("a profile's folder lies in the target folder");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "torchpod-torch", "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(ROOT)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the engine can be built: run `make libtorch` first");
    });
}

/// A running server. Dropped, it is killed.
pub(crate) struct Server<'turn> {
    child: Child,
    turn: PhantomData<&'turn Turn>,
    pub(crate) address: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// Where `--probe-listen` was given.
    pub(crate) probe: Option<SocketAddr>,
    pub(crate) log: Log,
}

/// How a server ended.
pub(crate) struct Ended {
    /// `None` where a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) log: Log,
}

impl Server<'_> {
    /// Waits for the transition to `phase`, which may lie in the past.
    pub(crate) fn wait_until(&self, phase: &str) {
        self.log.wait_for(phase, |line| line["message"] == "transition" && line["to"] == phase);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server is there to be signalled");
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).expect("the server runs, and is ours").count()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had, in bytes, since [`Self::forget_peak`].
    pub(crate) fn peak(&self) -> usize {
        self.status("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("the server runs, and is ours");
    }

    fn status(&self, key: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("every process has it");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") << 10
    }

    /// Waits for the end, which must come within `limit`.
    pub(crate) fn end_within(mut self, limit: Duration) -> Ended {
        let Some(status) = wait(&mut self.child, limit) else {
            panic!("the server did not end within {limit:?}; its log:\n{}", self.log.text());
        };
        self.log.wait_for_end();
        Ended { code: status.code(), log: self.log.clone() }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of `child`; `None` where it lives longer than `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let started = Instant::now();
    loop {
        match child.try_wait().expect("the child is ours") {
            None if started.elapsed() < limit => thread::sleep(Duration::from_millis(2)),
            status => return status,
        }
    }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    let read = move || {
        let mut bytes = Vec::new();
        pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        bytes
    };
    thread::Builder::new().name("pipe".to_owned()).spawn(read).expect("a thread starts")
}

/// What a server has said so far, collected by a thread so that the pipe never fills.
#[derive(Clone)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    pub(crate) fn follow(stderr: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let (shared, grown) = (log.0.clone(), log.clone());
        let read = move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                grown.lock().lines.push(line);
                shared.1.notify_all();
            }
            grown.lock().ended = true;
            shared.1.notify_all();
        };
        thread::Builder::new().name("log".to_owned()).spawn(read).expect("a thread starts");
        log
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first JSON line that is `wanted`, now or later; `what` names it where it does not come.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (started, mut seen) = (Instant::now(), 0);
        let mut log = self.lock();
        loop {
            let mut lines = log.lines[seen..].iter().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(line) = lines.find(&wanted) {
                return line;
            }
            seen = log.lines.len();
            let left = PATIENCE.saturating_sub(started.elapsed());
            assert!(!log.ended && !left.is_zero(), "{what:?} never came in this log:\n{}", log.lines.join("\n"));
            log = self.0.1.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_for_end(&self) {
        let ended = self.0.1.wait_timeout_while(self.lock(), PATIENCE, |log| !log.ended);
        assert!(ended.is_ok_and(|(log, _)| log.ended), "the log ends with its process");
    }

    pub(crate) fn text(&self) -> String {
        self.lock().lines.join("\n")
    }
}

/// Asks again until the answer is yes.
pub(crate) fn poll(what: &str, mut ask: impl FnMut() -> bool) {
    let patience = Patience::new(what);
    while !ask() {
        patience.check();
        thread::sleep(Duration::from_millis(2));
    }
}

/// Tells the threads of a scope that their work is over when it is dropped, by a panic too: the scope waits for all of
/// them, and a failed test would wait for ever.
pub(crate) struct OverAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for OverAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends a test whose loop would never end.
pub(crate) struct Patience<'a> {
    what: &'a str,
    started: Instant,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(what: &'a str) -> Self {
        Self { what, started: Instant::now() }
    }

    pub(crate) fn check(&self) {
        assert!(self.started.elapsed() < PATIENCE, "{}: not within {PATIENCE:?}", self.what);
    }
}

/// Numbers that look random and are the same for the same seed (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
