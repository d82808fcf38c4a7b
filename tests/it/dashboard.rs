//! What the dashboard, the recording rules and Flagger ask, a real Prometheus answers from a real server under load.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use serde_json::{Value, json};

use crate::client::{self, Connection, SAMPLE};
use crate::grpc::block_on;
use crate::grpc_inference::{connect, request};
use crate::models::{Repository, posting};
use crate::prometheus::{Prometheus, Target, friend, rules_with, shipped_rules, yaml};
use crate::support::{OverAtEnd, PATIENCE, ROOT, Server, Turn};

const SCRAPE: Duration = Duration::from_millis(500);

/// What only some machines can answer, by what stands in a query: those with a GPU, or with limits.
const ELSEWHERE: [&str; 3] = ["torchpod_gpu_", "torchpod_cpu_throttled_", "torchpod_memory_limit_"];

/// What the one who looks has chosen, and what Grafana makes of its own variables.
const CHOSEN: [(&str, &str); 6] = [
    ("$namespace", "ml"),
    ("$track", "stable"),
    ("$pod", POD),
    ("$model", "digits"),
    ("$__rate_interval", "5s"),
    ("$__interval", "1s"),
];

/// As a ReplicaSet calls its pods: Flagger's queries go by it.
const POD: &str = "ml-model-6d5f9c7b8d-x2x7z";

pub(crate) fn dashboard() -> Value {
    let path = Path::new(ROOT).join("k8s/components/monitoring/dashboard.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// With `variables` put in their places, as Grafana does.
pub(crate) fn chosen(expr: &str, variables: &[(&str, &str)]) -> String {
    variables.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

/// Something that is asked, and the labels that its answers must have.
struct Query {
    /// Who asks.
    whose: String,
    expr: String,
    labels: Vec<String>,
}

impl Query {
    fn new(whose: &Value, expr: &str, labels: &[&str]) -> Self {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Self { whose: whose.to_string(), expr: chosen(expr, &CHOSEN), labels }
    }

    fn has(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.expr.contains(part))
    }

    /// Whether there is an answer: a number, since a quantile of nothing is none, and under every label.
    fn is_answered(&self, prometheus: &Prometheus) -> bool {
        let series = prometheus.query(&self.expr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let is_number = |one: &Value| one["value"][1].as_str().is_some_and(|text| text != "NaN");
        let has_labels = |one: &Value| self.labels.iter().all(|label| one["metric"][label].is_string());
        series.iter().any(is_number) && series.iter().all(has_labels)
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} asks by {:?}: {}", self.whose, self.labels, self.expr)
    }
}

/// The texts between `open` and `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// What panels ask, those in rows as well. A legend names labels, and a table has those that it groups by.
fn asked_by_panels(panels: &Value) -> Vec<Query> {
    let query = |panel: &Value, query: &Value| {
        let expr = query["expr"].as_str().unwrap();
        let labels = match query["legendFormat"].as_str() {
            Some(legend) => between(legend, "{{", "}}"),
            None => between(expr, " by (", ")")[0].split(", ").collect(),
        };
        Query::new(&panel["title"], expr, &labels)
    };
    let mut asked = Vec::new();
    for panel in panels.as_array().into_iter().flatten() {
        asked.extend(panel["targets"].as_array().into_iter().flatten().map(|target| query(panel, target)));
        asked.extend(asked_by_panels(&panel["panels"]));
    }
    asked
}

/// What fills the lists to choose from, such as `label_values(torchpod_phase, pod)`.
fn asked_by_variables(dashboard: &Value) -> Vec<Query> {
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let queries = variables.filter_map(|variable| Some((&variable["name"], variable["query"]["query"].as_str()?)));
    let asked = queries.map(|(name, query)| {
        let (series, label) = between(query, "label_values(", ")")[0].rsplit_once(", ").unwrap();
        Query::new(name, &format!("count by ({label}) ({series})"), &[label])
    });
    asked.collect()
}

/// What Flagger asks by the templates that are shipped, in variables of its own.
fn asked_by_flagger() -> Vec<Query> {
    let variables = [("{{ namespace }}", "ml"), ("{{ target }}", "ml-model"), ("{{ interval }}", "1m")];
    let templates = yaml("k8s/strategies/canary-flagger/metric-template.yaml");
    let asked = templates.iter().map(|template| {
        let query = chosen(template["spec"]["query"].as_str().unwrap(), &variables);
        Query::new(&template["metadata"]["name"], &query, &[])
    });
    asked.collect()
}

/// Requests of every kind, and probes, until it is over.
fn load(server: &Server<'_>, over: &AtomicBool) {
    block_on(async {
        let mut grpc = connect(server.grpc).await;
        let mut connection = Connection::open(server.address).unwrap();
        let rows: Value = serde_json::from_slice(SAMPLE).unwrap();
        let v1 = json!({"instances": [rows["inputs"]]}).to_string();
        let v2 =
            json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": [rows["inputs"]]}]});
        let requests = [
            posting("/predict", &[], SAMPLE),
            posting("/v1/models/digits:predict", &[], v1.as_bytes()),
            posting("/v2/models/digits/infer", &[], v2.to_string().as_bytes()),
            client::get_request("/startup"),
            client::get_request("/health"),
            client::get_request("/ready"),
        ];
        while !over.load(Ordering::Relaxed) {
            for request in &requests {
                let answer = connection.ask(request).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            grpc.model_infer(request(1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn whatever_the_dashboard_the_rules_and_flagger_ask_is_answered_under_load() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--dependency", &friend()]));
    let labels = json!({"namespace": "ml", "track": "stable", "pod": POD});
    let target = Target { address: server.probe.unwrap(), labels };
    let prometheus = Prometheus::start(SCRAPE, &[target], &shipped_rules());

    let (dashboard, rules) = (dashboard(), shipped_rules());
    let recorded =
        rules_with(&rules, "record").map(|rule| Query::new(&json!("a rule"), rule["record"].as_str().unwrap(), &[]));
    let mut left: Vec<_> = recorded.chain(asked_by_flagger()).collect();
    left.extend(asked_by_panels(&dashboard["panels"]));
    left.extend(asked_by_variables(&dashboard));
    assert!(left.len() > 70, "the queries were found: {left:?}");
    let elsewhere: Vec<_> = left.extract_if(.., |query| query.has(&ELSEWHERE)).collect();

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = OverAtEnd(&over);
        scope.spawn(|| load(&server, &over));
        let started = Instant::now();
        while !left.is_empty() {
            assert!(started.elapsed() < PATIENCE, "not answered: {left:#?}");
            left.retain(|query| !query.is_answered(&prometheus));
            thread::sleep(Duration::from_millis(200));
        }
    });
    for query in elsewhere {
        query.is_answered(&prometheus); // It is right, at least.
    }
    let rules = prometheus.get("rules", &[]).unwrap();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
