//! `/metrics` as its readers rely on it: every series is one of the table's, none comes of what clients make up, and what
//! is told of probes, the process and the runtimes is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use torchpod::grpc::proto::ModelInferRequest;
use torchpod::telemetry::table::{Kind, METRICS, Metric};

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::gpu::Driver;
use crate::grpc::{Client, block_on};
use crate::grpc_inference;
use crate::models::{Repository, order};
use crate::support::{ANY_PORT, OverAtEnd, Server, Turn, poll};

/// A series: its metric and its labels, sorted. The three of a histogram are one.
type Series = (String, Vec<String>);

/// What a scrape says: the type of each metric, and every series.
struct Page {
    kinds: BTreeMap<String, String>,
    series: BTreeSet<Series>,
}

impl Page {
    fn of(address: SocketAddr) -> Self {
        let (mut kinds, mut series) = (BTreeMap::new(), BTreeSet::new());
        let text = client::get(address, "/metrics").text();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                let first = kinds.insert(name.to_owned(), kind.to_owned()).is_none();
                assert!(first, "{name} stands in one place");
                continue;
            }
            let (name, labels) = line.split_once('{').map_or((line, ""), |(name, rest)| (name, rest));
            let labels = labels.rsplit_once("} ").map_or("", |(labels, _)| labels);
            let name = name.split(' ').next().unwrap();
            // The labels of our own servers hold no quotes or commas.
            let mut labels: Vec<_> = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
            let mut base = name;
            if !kinds.contains_key(name) {
                let ends = ["_bucket", "_sum", "_count"];
                base = ends.iter().find_map(|end| name.strip_suffix(end)).expect("its type has been told");
                assert_eq!(kinds[base], "histogram", "{line}");
                let before = labels.len();
                labels.retain(|label| !label.starts_with("le="));
                assert_eq!(before - labels.len(), usize::from(name.ends_with("_bucket")), "{line}");
            }
            labels.sort();
            series.insert((base.to_owned(), labels));
        }
        Self { kinds, series }
    }
}

/// Metrics that are not there outside of a container with limits.
fn needs_a_container(metric: &Metric) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).unwrap_or_default();
    match metric.name {
        "torchpod_cpu_throttled_seconds_total" => !read("cpu.stat").contains("throttled_usec"),
        "torchpod_memory_limit_bytes" => read("memory.max").trim().parse::<u64>().is_err(),
        _ => false,
    }
}

/// Asks for predictions until told to stop.
fn keep_asking(server: &Server<'_>, stop: &AtomicBool) {
    let mut connection = Connection::open(server.address).unwrap();
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap().status, 200);
    }
}

#[test]
fn every_series_is_in_the_table_and_every_row_of_the_table_is_there() {
    let (turn, driver, store) = (Turn::shared(), Driver::build(), TcpListener::bind(ANY_PORT).unwrap());
    let store = format!("tcp://{}#name=store", store.local_addr().unwrap());
    let arguments = ["--probe-listen", ANY_PORT, "--dependency", &store];
    let server = turn.start_with(&[("LD_LIBRARY_PATH", driver.path())], &arguments);
    server.wait_until("serving");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = OverAtEnd(&stop);
        scope.spawn(|| keep_asking(&server, &stop));
        for address in [server.address, server.probe.unwrap()] {
            let missing = || {
                let page = Page::of(address);
                for (name, labels) in &page.series {
                    let metric = METRICS.iter().find(|metric| metric.name == name);
                    let metric = metric.unwrap_or_else(|| panic!("{name} has no row in src/telemetry/table.rs"));
                    assert_eq!(page.kinds[name], metric.kind.name(), "{name}");
                    let mut expected = metric.labels.to_vec();
                    expected.sort_unstable();
                    let names: Vec<_> = labels.iter().map(|label| label.split('=').next().unwrap()).collect();
                    assert_eq!(names, expected, "{name}");
                }
                let rows = METRICS.iter().filter(|metric| !needs_a_container(metric));
                let missing = rows.filter(|metric| !page.kinds.contains_key(metric.name)).map(|metric| metric.name);
                missing.collect::<Vec<_>>()
            };
            // A dependency's first check, and the GPUs' first figures, come when they come.
            poll(&format!("of {:?}, all are there", missing()), || missing().is_empty());
        }
    });
}

#[test]
fn a_counters_name_says_that_it_is_one() {
    for Metric { name, kind, .. } in METRICS {
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
    }
}

/// Everything that a client can make up, each in its `turn`.
fn make_up(server: &Server<'_>, turn: usize) {
    let probe = server.probe.expect("orders are given there");
    let line = format!("Content-Length: {}", SAMPLE.len());
    let post = |path: &str, headers: &[&str]| {
        let headers = [&[&*line], headers].concat();
        client::ask(server.address, &client::request("POST", path, &headers, SAMPLE)).unwrap().status
    };
    for path in [
        format!("/predict/model{turn}"),
        format!("/predict/digits/{turn}0"),
        format!("/v2/models/model{turn}/infer"),
        format!("/v2/models/digits/versions/{turn}0/infer"),
        format!("/v1/models/model{turn}:predict"),
    ] {
        assert_eq!(post(&path, &["Content-Type: application/json"]), 404, "{path}");
    }
    assert_eq!(client::get(server.address, &format!("/path{turn}?query{turn}")).status, 404);
    for path in ["/predict", "/health", "/metrics"] {
        let odd = client::request(&format!("METHOD{turn}"), path, &[], b"");
        assert_eq!(client::ask(server.address, &odd).unwrap().status, 405, "{path}");
    }
    for header in ["Content-Type", "Content-Encoding"] {
        assert_eq!(post("/predict", &[&format!("{header}: made-up{turn}")]), 415, "{header}");
    }
    let headers = ["Accept", "Accept-Encoding", "User-Agent", "X-Request-Id", "torchpod-priority", "traceparent"];
    let headers = headers.map(|name| format!("{name}: made-up{turn}"));
    let headers: Vec<&str> = headers.iter().map(String::as_str).chain(["Content-Type: application/json"]).collect();
    post("/predict", &headers);
    for action in ["load", "unload"] {
        assert_eq!(order(Some(probe), action, &format!("model{turn}")).status, 404);
    }
}

#[test]
fn nothing_that_clients_make_up_makes_a_series() {
    const TURNS: usize = 500;
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    let all_of_it = |turns: std::ops::Range<usize>| {
        turns.clone().for_each(|turn| make_up(&server, turn));
        block_on(async {
            let health = Client::try_connect(server.grpc).await.unwrap();
            let mut inference = grpc_inference::connect(server.grpc).await;
            for turn in turns {
                assert!(health.check(&format!("service{turn}")).await.is_err());
                let model_name = format!("model{turn}");
                assert!(inference.model_infer(ModelInferRequest { model_name, ..Default::default() }).await.is_err());
            }
        });
    };
    // What is told only once something has been asked.
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
    all_of_it(0..1);
    let before = Page::of(server.address).series;
    all_of_it(1..TURNS);
    let after = Page::of(server.address).series;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty() && before.len() > 50, "of {}, {} are new: {new:?}", after.len(), new.len());
}

#[test]
fn answers_to_probes_are_counted_on_every_port_and_nobody_elses_questions_are() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=60s", "--probe-listen", ANY_PORT]);
    server.wait_until("loading");
    let (main, probe) = (server.address, server.probe.unwrap());
    for (address, path) in [
        (main, "/startup"),
        (main, "/startup?verbose"),
        (probe, "/startup"),
        (probe, "/health"),
        (main, "/ready"),
        (main, "/v2/health/ready"),
        (main, "/v2/health/live"),
        (main, "/console/state"),
        (main, "/metrics"),
    ] {
        client::get(address, path);
    }
    block_on(async {
        let client = Client::try_connect(server.grpc).await.unwrap();
        for service in ["", "readiness", "inference.GRPCInferenceService", "startup"] {
            client.check(service).await.unwrap();
        }
        client.check("nobody").await.unwrap_err();
        let mut watch = client.watch("readiness").await;
        watch.next().await.unwrap();
    });
    let table = [("startup", 0, 4), ("liveness", 3, 0), ("readiness", 0, 4)];
    for (name, pass, fail) in table {
        for (verdict, expected) in [("pass", pass), ("fail", fail)] {
            let series = format!("torchpod_probe_answers_total{{probe=\"{name}\",verdict=\"{verdict}\"}}");
            assert_eq!(client::count(main, &series), expected, "{series}");
        }
    }
}

#[test]
fn the_process_is_told_as_the_system_sees_it() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let value = |name: &str| client::metric(server.address, name).unwrap_or_else(|| panic!("{name} is there"));
    let idle: Vec<_> = (0..50).map(|_| Connection::open(server.address).unwrap()).collect();
    poll("every connection is a file", || value("process_open_fds") >= 50.0);
    #[allow(clippy::cast_precision_loss)] // Small enough.
    let (files, memory) = (server.descriptors() as f64, server.resident() as f64);
    assert!((value("process_open_fds") - files).abs() <= 3.0, "{files}");
    assert!(value("process_max_fds") > files);
    assert!((0.7..1.4).contains(&(value("process_resident_memory_bytes") / memory)), "{memory}");
    assert!(value("process_virtual_memory_bytes") > memory);
    assert!(value("process_threads") > 3.0);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = age - value("process_start_time_seconds");
    assert!((-60.0..600.0).contains(&age), "it started {age} s ago");
    drop(idle);

    let before = value("process_cpu_seconds_total");
    poll("its CPU time grows, by less than a second too", || {
        client::predict(server.address, JSON, SAMPLE);
        let now = value("process_cpu_seconds_total");
        now > before && now.fract() > 0.0
    });
}

#[test]
fn each_runtime_tells_how_many_tasks_it_has_and_how_busy_it_is_on_either_listener() {
    let turn = Turn::shared();
    let server = turn.serve(&["--io-threads", "2", "--probe-listen", ANY_PORT]);
    let idle: Vec<_> = (0..50).map(|_| Connection::open(server.address).unwrap()).collect();
    for address in [server.address, server.probe.unwrap()] {
        let value = |name: &str, runtime: &str| {
            let series = format!("torchpod_runtime_{name}{{runtime=\"{runtime}\"}}");
            client::metric(address, &series).unwrap_or_else(|| panic!("{series} is there"))
        };
        let workers = |runtime| client::count(address, &format!("torchpod_runtime_workers{{runtime=\"{runtime}\"}}"));
        assert_eq!(["main", "probes"].map(workers), [2, 1]);
        poll("every connection is a task", || value("alive_tasks", "main") >= 50.0);
        assert!(value("alive_tasks", "probes") < 50.0);
        assert!(value("global_queue_depth", "main") >= 0.0);
        let busy = || ["main", "probes"].map(|runtime| value("busy_seconds_total", runtime));
        let before = busy();
        poll("both are busy at times", || {
            client::predict(server.address, JSON, SAMPLE);
            client::get(server.probe.unwrap(), "/ready");
            let now = busy();
            now[0] > before[0] && now[1] > before[1]
        });
    }
    drop(idle);
}
