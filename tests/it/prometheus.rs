//! A real Prometheus for tests: it scrapes their servers under the labels that pods would have, and is asked as Grafana
//! asks it. `make test-servers` installs it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client;
use crate::support::{ANY_PORT, Log, PATIENCE, ROOT, Turn};

/// What `serde_json::Value` makes of each document of a YAML file of ours.
pub(crate) fn yaml(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules that are shipped, as Prometheus itself wants them.
pub(crate) fn shipped_rules() -> Value {
    yaml("k8s/components/monitoring/rules.yaml")[0]["spec"].clone()
}

/// Every rule of `groups` that has this field: `alert` or `record`.
pub(crate) fn rules_with<'a>(groups: &'a Value, field: &'a str) -> impl Iterator<Item = &'a Value> {
    let groups = groups["groups"].as_array().expect("groups of rules").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules")).filter(move |rule| rule[field].is_string())
}

/// A dependency that is up for as long as the tests run, as `--dependency` takes it.
pub(crate) fn friend() -> String {
    let listener = TcpListener::bind(ANY_PORT).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    // Those that nobody takes off the queue fill it in a minute.
    thread::Builder::new()
        .name("friend".to_owned())
        .spawn(move || listener.incoming().for_each(drop))
        .expect("a thread");
    format!("tcp://{address}#name=friend")
}

/// What is scraped: a server, and the labels that its pod would bring.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) labels: Value,
}

/// A Prometheus of the test's own. Dropped, it is killed.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    /// Its data.
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes every `interval`, applies `rules` as often, and is ready to be asked.
    pub(crate) fn start(interval: Duration, targets: &[Target], rules: &Value) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let every = format!("{}ms", interval.as_millis());
        let targets = targets.iter().map(|target| json!({"targets": [target.address], "labels": target.labels}));
        let config = json!({
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "torchpod", "static_configs": targets.collect::<Vec<_>>()}],
        });
        // YAML takes JSON.
        fs::write(folder.path().join("prometheus.yaml"), config.to_string()).expect("written");
        fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("written");
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.format=json"]);
        command.args(["--web.listen-address=127.0.0.1:0", "--storage.tsdb.retention.time=1d"]);
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("prometheus is installed: `make test-servers` does it");
        let log = Log::follow(child.stderr.take().expect("stderr is a pipe"));
        // Killed from here on, whatever comes.
        let mut prometheus = Self { child, address: ([0, 0, 0, 0], 0).into(), _folder: folder };
        let line = log.wait_for("its address", |line| line["msg"] == "Listening on");
        prometheus.address = line["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        log.wait_for("ready", |line| line["msg"] == "Server is ready to receive web requests.");
        prometheus
    }

    /// `GET /api/v1/…`, whose `data` is answered, or its error.
    pub(crate) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let mut stream = TcpStream::connect(self.address).expect("Prometheus lives");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is more than no time");
        // To a client of HTTP/1.0 it sends no chunks, and closes at the end.
        write!(stream, "GET /api/v1/{path}?{query} HTTP/1.0\r\n\r\n").expect("Prometheus reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("Prometheus answers");
        let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
        let mut body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"));
        if body["status"] == "success" { Ok(body["data"].take()) } else { Err(body["error"].to_string()) }
    }

    /// The series that `expr` has now, or what is wrong with it.
    pub(crate) fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        let mut data = self.get("query", &[("query", expr)])?;
        Ok(serde_json::from_value(data["result"].take()).expect("a vector"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `promtool check metrics` finds in `text`: nothing, if all is well.
fn linted(text: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool is installed: `make test-servers` does it");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics_of_a_server_under_load() {
    let turn = Turn::shared();
    let server = turn.serve(&["--dependency", "tcp://127.0.0.1:1#name=nobody"]);
    assert_eq!(client::predict(server.address, client::JSON, client::SAMPLE).status, 200);
    let text = client::get(server.address, "/metrics").text();
    assert_eq!(linted(&text), (true, String::new()));
    // It would say it.
    let wrong = text.replace("torchpod_requests_total", "torchpod_requests");
    assert!(linted(&wrong).1.contains("torchpod_requests counter metrics should have \"_total\" suffix"));
}
