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
use crate::models::{Repository, described, index, order, without_golden};
use crate::support::{ROOT, Server, Turn, poll};

/// The folder of the device's library and of its driver's, which are compiled once for each libtorch.
fn libraries() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let libtorch = PathBuf::from(std::env::var("LIBTORCH").expect("cargo sets it")).canonicalize().unwrap();
        let version = libtorch.parent().and_then(Path::file_name).expect("it lies in a folder of its own");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda").join(version);
        fs::create_dir_all(&folder).unwrap();
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
struct Device(TempDir);

impl Device {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn serve<'turn>(&self, turn: &'turn Turn, arguments: &[&str]) -> Server<'turn> {
        let variables = [("LD_LIBRARY_PATH", libraries()), ("FAKE_CUDA", self.0.path().to_str().unwrap())];
        let server = turn.start_with(&variables, &[&["--device", "cuda"], arguments].concat());
        server.wait_until("serving");
        let _ = fs::remove_file(self.file("log"));
        server
    }

    /// What has happened since the last look, and the stream that it happened on.
    fn happened(&self) -> Vec<(String, String)> {
        let happened = self.log();
        let _ = fs::remove_file(self.file("log"));
        happened
    }

    fn log(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.file("log")).unwrap_or_default();
        // A line that is only half there is there next time.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.rsplit_once(' '));
        lines.map(|(what, stream)| (what.to_owned(), stream.to_owned())).collect()
    }

    /// Copies wait from now on.
    fn hold(&self) {
        fs::write(self.file("held"), "").unwrap();
    }

    fn let_go(&self) {
        fs::remove_file(self.file("held")).unwrap();
    }
}

/// What happened, of which all must have been on one stream.
fn on_one_stream(happened: &[(String, String)]) -> Vec<&str> {
    assert!(happened.iter().all(|(_, stream)| *stream == happened[0].1), "{happened:?}");
    happened.iter().map(|(what, _)| what.as_str()).collect()
}

fn send_one(server: &Server<'_>, body: &[u8]) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&client::predict_request(JSON, body)).unwrap();
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
    let (turn, device) = (Turn::shared(), Device::new());
    // It would not be serving unless the device computed the golden outputs.
    assert!(described().contains("golden.json"));
    let server = device.serve(&turn, &[]);
    assert!(server.log.text().contains("\"device\":\"cuda:0\""), "{}", server.log.text());
    for _ in 0..3 {
        assert_eq!(client::predict(server.address, JSON, SAMPLE).label(), "7");
        assert_eq!(on_one_stream(&device.happened()), ["copy in", "copied in", "copy out", "synchronised"]);
    }
}

#[test]
fn one_instance_s_batch_is_copied_while_another_s_is() {
    let (turn, device, models) = (Turn::shared(), Device::new(), two_instances());
    let server = device.serve(&turn, &[models.path()]);
    device.hold();
    let mut both = [send_one(&server, SAMPLE), send_one(&server, SAMPLE)];
    poll("both are being copied", || device.log().len() == 2);
    let happened = device.happened();
    assert!(happened[0].0 == "copy in" && happened[1].0 == "copy in" && happened[0].1 != happened[1].1, "{happened:?}");
    device.let_go();
    assert!(both.iter_mut().all(|one| one.answer().unwrap().label() == "7"));
}

#[test]
fn a_batch_that_fails_is_waited_for_before_its_memory_is_written_again() {
    let (turn, device, models) = (Turn::shared(), Device::new(), Repository::odd(&["raises"]));
    let server = device.serve(&turn, &[models.path()]);
    let failed = client::predict(server.address, JSON, br#"{"inputs": [[1, 2, 300]]}"#);
    assert_eq!(failed.status, 500, "{}", failed.text());
    assert_eq!(on_one_stream(&device.happened()), ["copy in", "copied in", "synchronised"]);
}

#[test]
fn a_model_that_forks_computes_with_what_was_copied() {
    // Its other threads would not wait for a copy on a stream that they do not know.
    let (turn, device) = (Turn::shared(), Device::new());
    let models = Repository::odd(&["forked"]);
    let server = device.serve(&turn, &[models.path()]);
    device.hold();
    let mut asked = send_one(&server, br#"{"inputs": [[1, 2, 3]]}"#);
    // For so long it could go wrong.
    std::thread::sleep(Duration::from_millis(300));
    device.let_go();
    let answer = asked.answer().unwrap();
    assert_eq!(answer.json()["outputs"], json!({"output": [[2.0, 4.0, 6.0]]}), "{}", answer.text());
}

#[test]
fn an_instance_takes_the_stream_that_one_before_it_has_left() {
    let (turn, device) = (Turn::shared(), Device::new());
    let models = Repository::empty();
    models.describe("digits", &without_golden());
    models.add("digits", 1);
    let server = device.serve(&turn, &models.explicit(&[]));
    let mut streams = Vec::new();
    for version in 2..6 {
        assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
        streams.push(device.happened()[0].1.clone());
        models.add("digits", version);
        assert_eq!(order(server.probe, "load", "digits").status, 200);
        poll("the version before is freed", || index(server.address).len() == 1);
    }
    streams.sort();
    streams.dedup();
    assert_eq!(streams.len(), 2, "one serves while the next is proved");
}

#[test]
fn a_device_that_is_lost_ends_the_process_with_70_once_everyone_in_flight_is_answered() {
    let (turn, device) = (Turn::shared(), Device::new());
    let server = device.serve(&turn, &["--drain-delay", "0s"]);
    fs::write(device.file("lost"), "").unwrap();
    // The device tells only at the end of the batch.
    let failed = client::predict(server.address, JSON, SAMPLE);
    assert_eq!(on_one_stream(&device.happened()), ["copy in", "copied in", "copy out", "synchronised"]);
    assert_eq!((failed.status, &failed.json()["error"]["code"]), (500, &json!("model_failed")), "{}", failed.text());
    let ended = server.end_within(Duration::from_secs(6));
    assert_eq!(ended.code, Some(70), "{}", ended.log.text());
}
