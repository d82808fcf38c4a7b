//! What is told of GPUs, by the real server with a library of NVIDIA's in its way that is compiled here.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client;
use crate::support::{ROOT, Server, Turn, poll};

/// A folder with a `libnvidia-ml.so.1` of three GPUs.
pub(crate) struct Driver(TempDir);

impl Driver {
    pub(crate) fn build() -> Self {
        let folder = TempDir::new().unwrap();
        let library = folder.path().join("libnvidia-ml.so.1");
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Werror", "-shared", "-fPIC", "tests/it/gpu/nvml.c", "-o"]).arg(library).current_dir(ROOT);
        assert!(cc.status().is_ok_and(|status| status.success()), "the library is compiled");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Every series about GPUs, sorted.
fn told(server: &Server<'_>) -> Vec<String> {
    let text = client::get(server.address, "/metrics").text();
    let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("torchpod_gpu_")).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A server with three GPUs, of which it has found those that it looks for.
fn serve<'turn>(turn: &'turn Turn, driver: &Driver, variables: &[(&str, &str)]) -> Server<'turn> {
    let variables = [&[("LD_LIBRARY_PATH", driver.path())], variables].concat();
    let server = turn.start_with(&variables, &[]);
    server.wait_until("serving");
    poll("GPUs are told of", || !told(&server).is_empty());
    server
}

#[test]
fn a_gpu_is_told_with_what_it_knows_of_itself() {
    let (turn, driver) = (Turn::shared(), Driver::build());
    let server = serve(&turn, &driver, &[]);
    let told = told(&server);
    let of = |gpu: &str| {
        let label = format!("{{gpu=\"{gpu}\"");
        told.iter().filter(|line| line.contains(&label)).map(String::as_str).collect::<Vec<_>>()
    };
    let first = [
        r#"torchpod_gpu_info{gpu="0",uuid="GPU-01111111-2222-3333-4444-555555555555",name="NVIDIA H100 0"} 1"#,
        r#"torchpod_gpu_memory_total_bytes{gpu="0"} 85899345920"#,
        r#"torchpod_gpu_memory_used_bytes{gpu="0"} 1073741824"#,
        r#"torchpod_gpu_power_watts{gpu="0"} 123.5"#,
        r#"torchpod_gpu_temperature_celsius{gpu="0"} 40"#,
        r#"torchpod_gpu_utilization_ratio{gpu="0"} 0.25"#,
    ];
    assert_eq!(of("0"), first);
    assert_eq!(of("1").last(), Some(&r#"torchpod_gpu_utilization_ratio{gpu="1"} 0.5"#));
    assert_eq!(of("2").len(), first.len() - 1, "its load is not known: {:?}", of("2"));
    assert_eq!(told.len(), 17);
}

#[test]
fn gpus_that_cuda_does_not_see_are_not_told_and_the_others_have_its_numbers() {
    let (turn, driver) = (Turn::shared(), Driver::build());
    let server = serve(&turn, &driver, &[("CUDA_VISIBLE_DEVICES", "2,GPU-0")]);
    let told = told(&server);
    let info: Vec<_> = told.iter().filter(|line| line.starts_with("torchpod_gpu_info")).collect();
    assert!(
        info.len() == 2 && info[0].contains("gpu=\"0\",uuid=\"GPU-2") && info[1].contains("gpu=\"1\",uuid=\"GPU-0")
    );
    assert!(told.contains(&r#"torchpod_gpu_temperature_celsius{gpu="0"} 42"#.to_owned()), "{told:?}");
}

#[test]
fn a_driver_that_hangs_holds_up_neither_probes_nor_metrics_nor_the_end_and_its_last_word_is_forgotten() {
    let (turn, driver) = (Turn::shared(), Driver::build());
    let hangs = driver.file("hangs");
    let server = serve(&turn, &driver, &[("NVML_HANGS", hangs.to_str().unwrap()), ("TORCHPOD_DRAIN_DELAY", "0s")]);
    fs::write(&hangs, "").unwrap();
    poll("nothing is told of GPUs any more", || told(&server).is_empty());
    assert_eq!(client::get(server.address, "/ready").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.end_within(Duration::from_secs(30)).code, Some(0));
}

#[test]
fn a_server_that_is_to_leave_gpus_alone_does_not_ask_for_them() {
    let (turn, driver) = (Turn::shared(), Driver::build());
    let opened = driver.file("opened");
    let variables = [("LD_LIBRARY_PATH", driver.path()), ("NVML_OPENED", opened.to_str().unwrap())];
    let server = turn.start_with(&variables, &["--device", "cpu"]);
    server.wait_until("serving");
    assert!(!opened.exists() && told(&server).is_empty());
    let server = serve(&turn, &driver, &variables[1..]);
    assert!(opened.exists(), "the other one does: {}", server.log.text());
}
