//! The way of a batch to a GPU and back, by the real server and its engine, on a CUDA device that is compiled here from
//! `cuda/device.cpp`. What a real one does beyond memory, streams and copies, only a real one shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::models::{Repository, described, without_golden};
use crate::support::{ROOT, Server, Turn};

/// The folder of the device's library and of its driver's, which are compiled once.
fn libraries() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
        fs::create_dir_all(&folder).unwrap();
        let libtorch = PathBuf::from(std::env::var("LIBTORCH").expect("cargo sets it")).canonicalize().unwrap();
        let (include, lib) = (libtorch.join("include"), libtorch.join("lib"));
        let source = Path::new(ROOT).join("tests/it/cuda/device.cpp");
        let device = folder.join("libtorch_cuda.so");
        let written = |file: &Path| fs::metadata(file).and_then(|file| file.modified()).ok();
        if written(&device) < written(&source) {
            let mut compile = Command::new("c++");
            compile.args(["-std=c++17", "-O1", "-Wall", "-shared", "-fPIC"]).arg(source).arg("-o").arg(&device);
            compile.arg("-isystem").arg(include).arg("-L").arg(lib).args(["-ltorch_cpu", "-lc10"]);
            assert!(compile.status().is_ok_and(|status| status.success()), "the device is compiled");
        }
        let mut driver = Command::new("cc");
        driver.args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(folder.join("libcuda.so.1"));
        assert!(driver.status().is_ok_and(|status| status.success()), "the driver is compiled");
        folder.to_str().unwrap().to_owned()
    })
}

/// One machine with such a device.
struct Device {
    files: TempDir,
    copy: Duration,
}

impl Device {
    fn new(copy: Duration) -> Self {
        Self { files: TempDir::new().unwrap(), copy }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    fn serve<'turn>(&self, turn: &'turn Turn, arguments: &[&str]) -> Server<'turn> {
        let (log, lost, copy) = (self.file("log"), self.file("lost"), self.copy.as_millis().to_string());
        let variables = [
            ("LD_LIBRARY_PATH", libraries()),
            ("FAKE_CUDA_LOG", &log),
            ("FAKE_CUDA_LOST", &lost),
            ("FAKE_CUDA_COPY_MS", &copy),
        ];
        let server = turn.start_with(&variables, &[&["--device", "cuda"], arguments].concat());
        server.wait_until("serving");
        server
    }

    /// What has happened since the last look, and the stream that it happened on.
    fn happened(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.file("log")).unwrap_or_default();
        let _ = fs::remove_file(self.file("log"));
        let lines = text.lines().map(|line| line.rsplit_once(' ').expect("what, and where"));
        lines.map(|(what, stream)| (what.to_owned(), stream.to_owned())).collect()
    }
}

fn send_one(server: &Server<'_>) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&client::predict_request(JSON, SAMPLE)).unwrap();
    connection
}

/// The shipped model in two instances that take one row at a time.
fn two_instances() -> Repository {
    let repository = Repository::empty();
    let toml = without_golden().replace("count = 1", "count = 2").replace("max_size = 32", "max_size = 1");
    repository.describe("digits", &toml.replace("sizes = [1, 8, 32]", "sizes = [1]"));
    repository.put("digits", 1, &fs::read(format!("{ROOT}/models/digits/1/model.pt")).unwrap());
    assert!(toml.contains("count = 2") && toml.contains("max_size = 1"), "{toml}");
    repository
}

#[test]
fn a_batch_goes_to_the_device_and_back_on_a_stream_of_its_own_and_is_waited_for_once() {
    let (turn, device) = (Turn::shared(), Device::new(Duration::ZERO));
    // It would not be serving unless the device computed the golden outputs.
    assert!(described().contains("golden.json"));
    let server = device.serve(&turn, &[]);
    assert!(server.log.text().contains("\"device\":\"cuda:0\""), "{}", server.log.text());
    device.happened();
    for _ in 0..3 {
        assert_eq!(client::predict(server.address, JSON, SAMPLE).label(), "7");
        let happened = device.happened();
        let what: Vec<_> = happened.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(what, ["copy in", "copied in", "copy out", "synchronised"]);
        assert!(happened.iter().all(|(_, stream)| *stream == happened[0].1), "{happened:?}");
    }
}

#[test]
fn one_instance_s_batch_is_copied_while_another_s_is() {
    let (turn, device, models) = (Turn::shared(), Device::new(Duration::from_millis(300)), two_instances());
    let server = device.serve(&turn, &[models.path()]);
    device.happened();
    let mut both = [send_one(&server), send_one(&server)];
    assert!(both.iter_mut().all(|one| one.answer().unwrap().label() == "7"));
    let happened = device.happened();
    let begun: Vec<_> = happened.iter().take_while(|(what, _)| what == "copy in").collect();
    assert!(begun.len() == 2 && begun[0].1 != begun[1].1, "{happened:?}");
}

#[test]
fn a_model_that_forks_computes_with_what_was_copied() {
    // Its other threads would not wait for a copy on a stream that they do not know.
    let (turn, device) = (Turn::shared(), Device::new(Duration::from_millis(300)));
    let models = Repository::odd(&["forked"]);
    let server = device.serve(&turn, &[models.path()]);
    let answer = client::predict(server.address, JSON, br#"{"inputs": [[1, 2, 3]]}"#);
    assert_eq!(answer.json()["outputs"], json!({"output": [[2.0, 4.0, 6.0]]}), "{}", answer.text());
}

#[test]
fn an_error_that_the_device_tells_only_at_the_end_of_a_batch_is_that_batch_s_and_a_lost_device() {
    let (turn, device) = (Turn::shared(), Device::new(Duration::ZERO));
    let server = device.serve(&turn, &["--drain-delay", "0s"]);
    fs::write(device.file("lost"), "").unwrap();
    let failed = client::predict(server.address, JSON, SAMPLE);
    assert_eq!((failed.status, &failed.json()["error"]["code"]), (500, &json!("model_failed")), "{}", failed.text());
    let ended = server.end_within(Duration::from_secs(6));
    assert_eq!(ended.code, Some(70), "{}", ended.log.text());
}
