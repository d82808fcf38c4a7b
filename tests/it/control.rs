//! Loading and unloading while serving: who may order it, what it does to the probes, and several models side by side.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{self, Answer, Connection, SAMPLE};
use crate::models::{Repository, ask, computed_by, index, order, post, posting, without_golden};
use crate::support::{ANY_PORT, Server, Turn, poll};

/// What the three probes say: /startup, /health, /ready.
fn probes(server: &Server<'_>) -> [u16; 3] {
    ["/startup", "/health", "/ready"].map(|path| client::get(server.address, path).status)
}

fn reason(server: &Server<'_>) -> Value {
    client::get(server.address, "/ready").json()["reason"].clone()
}

fn code(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["error"]["code"].clone())
}

#[test]
fn a_server_without_a_model_waits_for_one_and_serves_from_then_on() {
    let (turn, repository) = (Turn::shared(), Repository::empty());
    let server = turn.start(&repository.explicit(&[]));
    poll("it waits", || client::get(server.address, "/ready").json()["stage"] == "waiting for a model");
    assert_eq!(probes(&server), [503, 200, 503]);
    assert_eq!(code(&ask(server.address, "/predict")), (503, json!("not_ready")));
    assert_eq!(order(server.probe, "load", "digits").status, 404);

    // A first candidate that is not fit leaves it waiting.
    repository.describe("digits", &without_golden());
    repository.put("digits", 1, b"no archive");
    assert_eq!(order(server.probe, "load", "digits").status, 500);
    assert_eq!((probes(&server), reason(&server)), ([503, 200, 503], json!("loading")));
    poll("it waits again", || client::get(server.address, "/ready").json()["stage"] == "waiting for a model");

    repository.add("digits", 1);
    let answer = order(server.probe, "load", "digits");
    assert_eq!((answer.status, probes(&server)), (200, [200, 200, 200]), "{}", answer.text());
    assert_eq!(computed_by(&ask(server.address, "/predict")), 1);
}

#[test]
fn the_last_model_gone_leaves_a_server_that_is_alive_started_and_not_ready() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--ready-while-draining"]));
    assert_eq!(order(server.probe, "unload", "digits").status, 200);
    assert_eq!((probes(&server), reason(&server)), ([200, 200, 503], json!("no_model")));
    assert_eq!(code(&ask(server.address, "/predict")), (503, json!("not_ready")));
    assert_eq!(code(&ask(server.address, "/predict/digits")), (404, json!("not_found")));
    assert_eq!(client::get(server.address, "/").text(), "torchpod (serving)\n");
    let verbose = client::get(server.address, "/ready?verbose").json()["verbose"].clone();
    assert_eq!(
        (&verbose["transitions"][0]["subject"], &verbose["transitions"][0]["to"]),
        (&json!("models"), &json!("none"))
    );
    poll("it has left", || {
        index(server.address) == [("digits@1".to_owned(), "UNAVAILABLE".to_owned(), "unloaded".to_owned())]
    });
    let unloaded = r#"torchpod_model_state{model="digits",version="1",state="unavailable"}"#;
    assert_eq!(client::metric(server.address, unloaded), Some(1.0));
    assert_eq!(order(server.probe, "unload", "digits").status, 404);

    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    let is_said = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("nothing to load"));
    server.log.wait_for("a load that changes nothing says so", is_said);
    let elsewhere = client::get(server.probe.unwrap(), "/predict").text();
    assert!(elsewhere.contains("predictions are made on --listen"), "{elsewhere}");
    assert_eq!((probes(&server), reason(&server)), ([200, 200, 200], Value::Null));
    assert_eq!(computed_by(&ask(server.address, "/predict")), 1);
}

#[test]
fn an_unload_leaves_nobody_without_an_answer() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "batch-delay=500ms"]));
    let mut waiting: Vec<_> = (0..4).map(|_| Connection::open(server.address).unwrap()).collect();
    for connection in &mut waiting {
        connection.send(&posting("/predict", &[], SAMPLE)).unwrap();
    }
    poll("all are in flight", || crate::probes::in_flight(&server) == 4);
    assert_eq!(order(server.probe, "unload", "digits").status, 200);
    assert_eq!(index(server.address)[0].1, "UNLOADING");
    for connection in &mut waiting {
        assert_eq!(computed_by(&connection.answer().unwrap()), 1);
    }
}

/// Two models, of which each computes with weights of its own.
fn two() -> Repository {
    let repository = Repository::of("digits");
    repository.describe("other", &without_golden());
    repository.add("other", 2);
    repository
}

#[test]
fn several_models_are_served_by_their_names_and_one_may_be_the_default() {
    let (turn, repository) = (Turn::shared(), two());
    let server = turn.serve(&[repository.path()]);
    assert_eq!(client::get(server.address, "/").text(), "digits@1, other@2\n");
    for (path, version) in
        [("/predict/digits", 1), ("/predict/digits/1", 1), ("/predict/other", 2), ("/predict/other/2", 2)]
    {
        let answer = ask(server.address, path);
        assert_eq!((answer.status, computed_by(&answer)), (200, version), "{path}");
    }
    for path in ["/predict", "/predict/gone", "/predict/digits/2", "/predict/digits/one"] {
        let answer = ask(server.address, path);
        assert_eq!(code(&answer), (404, json!("not_found")), "{path}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("digits@1, other@2"), "{}", answer.text());
        assert_eq!(answer.header("torchpod-model"), None);
    }
    assert!(ask(server.address, "/predict").text().contains("--default-model"));
    drop(server);

    let server = turn.serve(&[repository.path(), "--default-model", "other"]);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 2);
    assert_eq!(client::get(server.address, "/").text(), "other@2\n");
    for (model, version) in [("digits", "1"), ("other", "2")] {
        let info = client::get(server.address, "/metrics").text();
        let series = format!("torchpod_model_info{{model=\"{model}\",version=\"{version}\",digest=\"sha256:");
        assert!(info.lines().any(|line| line.starts_with(&series) && line.ends_with("device=\"cpu\"} 1")), "{info}");
    }
}

#[test]
fn one_model_of_several_comes_and_goes_without_touching_the_other() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    repository.describe("other", &without_golden());
    repository.add("other", 2);
    let listed = || index(server.address).into_iter().map(|(id, state, _)| id + " " + &state).collect::<Vec<_>>();
    assert_eq!(listed(), ["digits@1 READY", "other@ UNAVAILABLE"], "what lies there and was never loaded is listed");
    assert_eq!(order(server.probe, "load", "other").status, 200);
    assert_eq!(listed(), ["digits@1 READY", "other@2 READY"]);
    assert_eq!(computed_by(&ask(server.address, "/predict/other")), 2);
    assert_eq!(order(server.probe, "unload", "digits").status, 200);
    assert_eq!((probes(&server), computed_by(&ask(server.address, "/predict"))), ([200; 3], 2), "the only one left");
    let ready = post(server.address, "/v2/repository/index", br#"{"ready": true}"#).json();
    assert_eq!(ready.as_array().unwrap().len(), 1, "{ready}");
}

/// Orders by the main listener, with a header.
fn order_with(address: SocketAddr, what: &str, header: &[&str]) -> Answer {
    client::ask(address, &posting(&format!("/v2/repository/models/digits/{what}"), header, b"{}")).unwrap()
}

#[test]
fn the_main_listener_wants_the_token_and_the_probe_listener_none() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    for what in ["load", "unload"] {
        let answer = order_with(server.address, what, &["Authorization: Bearer x"]);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(
            answer.status == 403 && error.contains("--probe-listen") && error.contains("--control-token"),
            "{error}"
        );
    }
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    drop(server);

    let token = [("TORCHPOD_CONTROL_TOKEN", "s3cret-token")];
    let server = turn.start_with(&token, &repository.explicit(&["--log-filter", "debug"]));
    server.wait_until("serving");
    let odd =
        ["Bearer s3cret-tokem", "Bearer s3cret-token2", "Bearer ", "Basic s3cret-token", "s3cret-token", "Bearer"];
    let odd = odd.map(|value| format!("Authorization: {value}"));
    for headers in odd.iter().map(|line| vec![line.as_str()]).chain([vec![]]) {
        let answer = order_with(server.address, "unload", &headers);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{headers:?}");
    }
    assert_eq!(ask(server.address, "/predict").status, 200, "nobody unloaded anything");
    assert_eq!(order_with(server.address, "load", &["Authorization: Bearer s3cret-token"]).status, 200);
    assert_eq!(order_with(server.address, "unload", &["authorization: bearer s3cret-token"]).status, 200);
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert!(!server.log.text().contains("s3cret-token"), "the token is in no log line");
}

#[test]
fn without_explicit_control_nothing_is_loaded_and_the_index_can_be_read() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&[repository.path(), "--probe-listen", ANY_PORT]);
    for address in [server.address, server.probe.unwrap()] {
        for what in ["load", "unload"] {
            let answer = order(Some(address), what, "digits");
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(answer.status == 403 && error.contains("--model-control explicit"), "{error}");
        }
        assert_eq!(index(address), [("digits@1".to_owned(), "READY".to_owned(), String::new())]);
    }
}

#[test]
fn no_name_leads_out_of_the_repository_and_no_parameter_is_passed_over() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    let probe = server.probe.unwrap();
    let outside = format!("..%2F{}", repository.path().rsplit('/').next().unwrap());
    for name in ["gone", "..", "%2e%2e", ".", "digits%2F1", &outside, "%00", "%ff", "digits%0a"] {
        for what in ["load", "unload"] {
            let answer = order(server.probe, what, name);
            assert_eq!(answer.status, 404, "{what} {name}: {}", answer.text());
            assert!(answer.json()["error"].is_string() || name.starts_with('.'), "{}", answer.text());
        }
    }
    let load = "/v2/repository/models/digits/load";
    for (body, status) in [
        (&br#"{"parameters":{"config":"{}"}}"#[..], 400),
        (b"nonsense", 400),
        (b"[]", 400),
        (&vec![b' '; 70_000], 413),
        (br#"{"parameters":{}}"#, 200),
    ] {
        let answer = post(probe, load, body);
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    // What Triton's clients send.
    let unload = "/v2/repository/models/digits/unload";
    assert_eq!(post(probe, unload, br#"{"parameters":{"unload_dependents":false}}"#).status, 200);
}

#[test]
fn a_signal_during_a_load_ends_the_server_soon_and_cleanly() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "candidate-hang=1", "--drain-delay", "0s"]));
    repository.add("digits", 2);
    let probe = server.probe.unwrap();
    thread::scope(|scope| {
        // On both listeners, and one of them waits for its turn.
        let loads = [probe, probe].map(|address| scope.spawn(move || order(Some(address), "load", "digits")));
        server.log.wait_for("the candidate is in its warm-up", |line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("REHEARSAL: this candidate hangs"))
        });
        poll("both wait", || crate::probes::in_flight(&server) == 2);
        server.signal(Signal::TERM);
        for load in loads {
            let answer = load.join().unwrap();
            assert!(answer.status == 503 && answer.text().contains("draining"), "{}", answer.text());
        }
    });
    let ended = server.end_within(Duration::from_secs(2));
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}

#[test]
fn a_signal_during_the_first_load_ends_the_server_soon_and_cleanly() {
    let (turn, repository) = (Turn::shared(), Repository::empty());
    let server = turn.start(&repository.explicit(&["--chaos", "load-delay=1h"]));
    poll("it waits", || client::get(server.address, "/ready").json()["stage"] == "waiting for a model");
    repository.describe("digits", &without_golden());
    repository.add("digits", 1);
    thread::scope(|scope| {
        let load = scope.spawn(|| order(server.probe, "load", "digits"));
        poll("it is being read", || client::get(server.address, "/ready").json()["stage"] == "reading digits@1");
        server.signal(Signal::TERM);
        assert_eq!(load.join().unwrap().status, 503);
    });
    let ended = server.end_within(Duration::from_secs(2));
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}

#[test]
fn a_draining_server_keeps_its_models_as_they_are() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--drain-delay", "20s"]));
    server.signal(Signal::TERM);
    server.wait_until("draining");
    for what in ["load", "unload"] {
        let answer = order(server.probe, what, "digits");
        assert!(answer.status == 503 && answer.text().contains("draining"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(ask(server.address, "/predict").status, 200, "whoever is still routed here is served");
}

#[test]
fn a_client_that_leaves_does_not_call_its_order_off() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "load-delay=500ms"]));
    repository.add("digits", 2);
    let mut client = Connection::open(server.probe.unwrap()).unwrap();
    client.send(&posting("/v2/repository/models/digits/load", &[], b"")).unwrap();
    poll("it is being loaded", || index(server.address).iter().any(|(_, state, _)| state == "LOADING"));
    drop(client);
    poll("it serves", || client::get(server.address, "/").text() == "digits@2\n");
}

#[test]
fn an_unload_wins_over_a_load_that_was_ordered_before_it() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "load-delay=1s"]));
    repository.add("digits", 2);
    thread::scope(|scope| {
        let load = scope.spawn(|| order(server.probe, "load", "digits"));
        poll("it is being loaded", || index(server.address).iter().any(|(_, state, _)| state == "LOADING"));
        assert_eq!(order(server.probe, "unload", "digits").status, 200);
        assert_eq!(reason(&server), "no_model");
        assert_eq!(load.join().unwrap().status, 409);
    });
    assert_eq!(reason(&server), "no_model");
}
