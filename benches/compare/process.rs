//! Child processes, and what /proc tells of them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{HERE, request};

/// The release binary, with the engine beside it: `TORCHPOD`, or else the one that cargo has built.
pub(crate) fn executable() -> PathBuf {
    std::env::var_os("TORCHPOD").map_or_else(|| env!("CARGO_BIN_EXE_torchpod").into(), PathBuf::from)
}

/// What a server is started with besides.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// `None` is the CPU.
    pub(crate) device: Option<&'a str>,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

/// A server on loopback. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    /// Whether the child is only the parent of the server, which it ends when its standard input does.
    keeper: bool,
    pub(crate) address: SocketAddr,
    /// The listener for probes alone, where there is one.
    pub(crate) probe: SocketAddr,
    /// Just before the process was made.
    pub(crate) started: Instant,
}

impl Running {
    /// torchpod over the folder `models`; its log goes to `scratch`. It has only just been started.
    pub(crate) fn torchpod(models: &Path, scratch: &Path) -> Result<Self> {
        Self::binary(&executable(), models, scratch)
    }

    /// The same of another binary.
    pub(crate) fn binary(file: &Path, models: &Path, scratch: &Path) -> Result<Self> {
        Self::serving(file, models, scratch, &Options::default())
    }

    /// torchpod with more arguments and variables.
    pub(crate) fn with(models: &Path, scratch: &Path, options: &Options<'_>) -> Result<Self> {
        Self::serving(&executable(), models, scratch, options)
    }

    fn serving(file: &Path, models: &Path, scratch: &Path, options: &Options<'_>) -> Result<Self> {
        let [address, probe] = free_addresses()?;
        let log = File::options().create(true).append(true).open(scratch.join("torchpod.log"))?;
        let mut command = Command::new(file);
        command.arg("serve").arg(models).args(["--drain-delay", "0s", "--grpc-listen", "off"]);
        command.args(["--device", options.device.unwrap_or("cpu")]);
        command.args(["--listen", &address.to_string(), "--probe-listen", &probe.to_string()]);
        command.current_dir(HERE).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let is_read = |name: &str| name.starts_with("TORCHPOD_") || name.starts_with("OTEL_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_read(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(options.arguments).envs(options.variables.iter().copied());
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{} cannot be started", file.display()))?;
        Ok(Self { child, keeper: false, address, probe, started })
    }

    /// This benchmark in the role that `args` name; it says its address on its first line.
    pub(crate) fn child(args: &[&OsStr]) -> Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("expected an address, got {line:?}"))?;
        Ok(Self { child, keeper: false, address, probe: address, started })
    }

    /// A program that keeps a server at `address`, whose processes are all counted; they write into `log`.
    pub(crate) fn kept(program: &Path, arguments: &[OsString], address: SocketAddr, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        Ok(Self { child: command.spawn()?, keeper: true, address, probe: address, started })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn wait_until_ready(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_mins(1);
        while !request::get(self.address, "/ready").is_ok_and(|answer| answer.status == 200) {
            ensure!(self.started.elapsed() < PATIENCE, "torchpod was not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// SIGTERM to the end of the process.
    pub(crate) fn terminate(mut self) -> Result<Duration> {
        let started = Instant::now();
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "SIGTERM could not be sent");
        let status = self.child.wait()?;
        ensure!(status.success(), "torchpod ended with {status} after SIGTERM");
        Ok(started.elapsed())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu(&self) -> Result<f64> {
        if !self.keeper {
            return cpu(self.child.id());
        }
        // One may have ended since it was found.
        Ok(family(self.child.id())?.into_iter().filter_map(|member| cpu(member).ok()).sum())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.keeper {
            drop(self.child.stdin.take());
            let _ = self.child.wait();
            return;
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports that are free now, most likely still when a server opens them.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

/// The first of `count` ports in a row that are free now.
pub(crate) fn free_ports(count: u16) -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut starts = (20_000..32_000).step_by(usize::from(count));
    starts.find(|start| (*start..start + count).all(is_free)).context("no free ports")
}

/// A process and all that descend from it.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (process, parent)));
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(process, _)| *process));
        next += 1;
    }
    Ok(family)
}

/// User and system time of all threads so far, in microseconds, in steps of 10 ms.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses; utime and stime are the 14th and 15th, in ticks of 10 ms.
    let (_, after_name) = stat.rsplit_once(')').context("stat has no name")?;
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() * 10_000.0)
}

/// User and system time of the threads that live, in microseconds, to the nanosecond.
pub(crate) fn scheduled(pid: u32) -> Result<f64> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += times.split(' ').next().context("schedstat is empty")?.parse::<f64>()?;
    }
    Ok(nanos / 1e3)
}

/// Resident memory in KiB: all of it, what is the process's own, and what are pages of files.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) resident: u32,
    pub(crate) anonymous: u32,
    pub(crate) file: u32,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else { bail!("no {name} of {pid}") };
        Ok(kib.parse()?)
    };
    Ok(Memory { resident: field("VmRSS")?, anonymous: field("RssAnon")?, file: field("RssFile")? })
}
