//! Each alert that is shipped fires in its rehearsal, by a real Prometheus over real servers, and none at a server that is
//! well. A minute of the rules is two seconds here, so that nobody waits for a quarter of an hour.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::dashboard::{chosen, dashboard};
use crate::models::{Repository, order};
use crate::prometheus::{Prometheus, Target, friend, rules_with, shipped_rules};
use crate::support::{OverAtEnd, Server, Turn, poll};

/// How many times as quickly the rules' time passes.
const FASTER: u32 = 30;
/// Ten in the rules' shortest range. A scrape that is not answered until the next one ends what an alert has waited for, so
/// the server of a busy machine needs its time.
const SCRAPE: Duration = Duration::from_secs(1);
/// The longest `for` is half a minute here, and begins anew with each scrape that a busy machine misses.
const PATIENCE: Duration = Duration::from_mins(4);
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(100);

/// A server in trouble. Its name is its namespace, since some alerts are told by model.
struct Rehearsal {
    name: &'static str,
    alert: Option<&'static str>,
    /// What may fire besides, for what it does to callers.
    besides: &'static [&'static str],
    arguments: &'static [&'static str],
    /// How many ask it all the time.
    clients: usize,
}

const REHEARSALS: [Rehearsal; 9] = [
    Rehearsal {
        name: "well",
        alert: None,
        besides: &[],
        // An optional dependency is nobody's trouble.
        arguments: &["--chaos", "dependency-down=extra", "--dependency", "tcp://127.0.0.1:1#name=extra,optional"],
        clients: 2,
    },
    Rehearsal {
        name: "errors",
        alert: Some("TorchpodErrors"),
        besides: &[],
        arguments: &["--chaos", "request-errors=5%"],
        clients: 2,
    },
    Rehearsal {
        name: "refusals",
        alert: Some("TorchpodRefusals"),
        besides: &[],
        arguments: &["--chaos", "batch-delay=100ms", "--max-queue", "1"],
        clients: 6,
    },
    Rehearsal {
        name: "slow",
        alert: Some("TorchpodSlow"),
        besides: &[],
        arguments: &["--chaos", "batch-delay=700ms"],
        clients: 1,
    },
    Rehearsal {
        name: "hung",
        alert: Some("TorchpodFault"),
        besides: &[],
        arguments: &["--chaos", "hang-after=0s", "--stall-limit", "1s"],
        clients: 0,
    },
    Rehearsal {
        name: "loading",
        alert: Some("TorchpodNotServing"),
        besides: &[],
        arguments: &["--chaos", "load-delay=1h"],
        clients: 0,
    },
    Rehearsal {
        name: "alone",
        alert: Some("TorchpodDependencyDown"),
        besides: &[],
        arguments: &["--chaos", "dependency-down=cache", "--dependency", "redis://127.0.0.1:1#name=cache"],
        clients: 1,
    },
    Rehearsal {
        name: "panics",
        alert: Some("TorchpodWorkerRestarts"),
        besides: &["TorchpodErrors"],
        arguments: &["--chaos", "worker-panic-after=0s,worker-panics=4"],
        clients: 1,
    },
    Rehearsal {
        name: "stuck",
        alert: Some("TorchpodStuckLoads"),
        besides: &[],
        arguments: &["--chaos", "candidate-hang=1", "--load-timeout", "5s"],
        clients: 1,
    },
];

/// A time of the rules, such as 5m, as it passes here.
fn hurried(time: &str) -> String {
    let time = humantime::parse_duration(time).unwrap_or_else(|error| panic!("{time}: {error}"));
    format!("{}ms", (time / FASTER).as_millis())
}

/// The rules with their `for`s and their ranges hurried, and nothing else changed.
fn hurried_rules() -> Value {
    let mut rules = shipped_rules();
    let groups = rules["groups"].as_array_mut().unwrap().iter_mut();
    for rule in groups.flat_map(|group| group["rules"].as_array_mut().unwrap()) {
        if let Some(time) = rule["for"].as_str() {
            rule["for"] = hurried(time).into();
        }
        let expr = rule["expr"].as_str().unwrap();
        let mut parts = expr.split('[');
        let mut made = parts.next().unwrap().to_owned();
        for part in parts {
            let (time, rest) = part.split_once(']').unwrap();
            made = made + "[" + &hurried(time) + "]" + rest;
        }
        rule["expr"] = made.into();
    }
    rules
}

#[test]
fn a_rule_is_hurried_in_its_times_alone() {
    let (hurried, shipped) = (hurried_rules(), shipped_rules());
    let rule = |rules: &Value, index: usize| rules["groups"][0]["rules"][index].clone();
    let last = shipped["groups"][0]["rules"].as_array().unwrap().len() - 1;
    let mut expected = rule(&shipped, 0);
    assert!(expected["expr"].as_str().unwrap().contains("[5m]") && expected["record"] == "torchpod:requests:rate5m");
    expected["expr"] = expected["expr"].as_str().unwrap().replace("[5m]", "[10000ms]").into();
    assert_eq!(rule(&hurried, 0), expected);
    let mut expected = rule(&shipped, last);
    assert_eq!(expected["for"], "15m");
    expected["for"] = "30000ms".into();
    assert_eq!(rule(&hurried, last), expected);
}

/// Asks again and again, whatever is answered, and says whether an answer ever took longer than `TorchpodSlow` allows.
fn ask(server: &Server<'_>, over: &AtomicBool) -> bool {
    let (request, mut is_slow) = (client::predict_request(JSON, SAMPLE), false);
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client::ask(server.address, &request).expect("everybody is answered");
        is_slow |= asked.elapsed() > Duration::from_millis(500);
        thread::sleep(PAUSE);
    }
    is_slow
}

/// Alerts by the namespace of their rehearsal.
type Alerts = BTreeSet<(String, String)>;

fn named(labels: &Value) -> (String, String) {
    ["namespace", "alertname"].map(|name| labels[name].as_str().unwrap_or_default().to_owned()).into()
}

/// Those that fire now.
fn firing(prometheus: &Prometheus) -> Alerts {
    let data = prometheus.get("alerts", &[]).unwrap();
    let alerts = data["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
    alerts.map(|alert| named(&alert["labels"])).collect()
}

/// Those that fire now or have.
fn fired(prometheus: &Prometheus) -> Alerts {
    let series = prometheus.query(r#"last_over_time(ALERTS{alertstate="firing"}[1h])"#).unwrap();
    series.iter().map(|series| named(&series["metric"])).collect()
}

#[test]
fn every_alert_fires_in_its_rehearsal_and_none_at_a_server_that_is_well() {
    let rules = shipped_rules();
    let alerts: BTreeSet<_> = rules_with(&rules, "alert").map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(REHEARSALS.iter().filter_map(|one| one.alert).collect::<BTreeSet<_>>(), alerts, "one rehearsal each");

    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let friend = friend();
    let start =
        |one: &Rehearsal| turn.start(&repository.explicit(&[one.arguments, &["--dependency", &friend]].concat()));
    let servers: Vec<_> = REHEARSALS.iter().map(start).collect();
    let server = |name: &str| &servers[REHEARSALS.iter().position(|one| one.name == name).unwrap()];
    for one in REHEARSALS.iter().filter(|one| one.alert != Some("TorchpodNotServing")) {
        server(one.name).wait_until("serving");
    }
    repository.add("digits", 2);
    assert_eq!(order(server("stuck").probe, "load", "digits").status, 504);

    // Nobody is scraped before it serves: on a busy machine that takes longer than ten hurried minutes.
    let target = |one: &Rehearsal| {
        let labels = json!({"namespace": one.name, "track": "stable", "pod": format!("{}-0", one.name)});
        Target { address: server(one.name).probe.unwrap(), labels }
    };
    let targets: Vec<_> = REHEARSALS.iter().map(target).collect();
    let prometheus = Prometheus::start(SCRAPE, &targets, &hurried_rules());
    // And nobody panics before it is known that there was none.
    let all = REHEARSALS.len().to_string();
    poll("all are scraped", || prometheus.query("sum(up)").unwrap().iter().any(|sum| sum["value"][1] == *all));

    let expected: Alerts =
        REHEARSALS.iter().filter_map(|one| Some((one.name.to_owned(), one.alert?.to_owned()))).collect();
    let over = AtomicBool::new(false);
    let slow = thread::scope(|scope| {
        let is_over = OverAtEnd(&over);
        let mut hung = Connection::open(server("hung").address).unwrap();
        hung.send(&client::predict_request(JSON, SAMPLE)).unwrap();
        let (over, server) = (&over, &server);
        let clients = REHEARSALS.iter().flat_map(|one| (0..one.clients).map(move |_| one.name));
        let clients: Vec<_> = clients.map(|name| (name, scope.spawn(move || ask(server(name), over)))).collect();
        let (started, mut seen) = (Instant::now(), Alerts::new());
        while !expected.is_subset(&seen) {
            assert!(started.elapsed() < PATIENCE, "only {seen:?} fired");
            seen.extend(firing(&prometheus));
            thread::sleep(SCRAPE / 2);
        }
        println!("all have fired after {:?}", started.elapsed());
        drop(is_over);
        let slow = clients.into_iter().map(|(name, client)| (name, client.join().expect("everybody is answered")));
        slow.filter_map(|(name, is_slow)| is_slow.then_some(name)).collect::<BTreeSet<_>>()
    });
    for (name, alert) in fired(&prometheus) {
        let one = REHEARSALS.iter().find(|one| one.name == name).unwrap();
        // On a busy machine it may be the truth.
        let is_true = alert == "TorchpodSlow" && slow.contains(&*name);
        assert!(one.alert == Some(&alert) || one.besides.contains(&&*alert) || is_true, "{alert} fired in {name}");
    }
    // The dashboard shows them over its panels.
    let dashboard = dashboard();
    let shown = dashboard["annotations"]["list"].as_array().unwrap().iter().filter_map(|one| one["expr"].as_str());
    for expr in shown {
        assert!(!prometheus.query(&chosen(expr, &[("$namespace", "slow")])).unwrap().is_empty(), "{expr}");
    }
}
