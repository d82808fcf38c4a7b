//! The console: who gets it, what it may do, and whether what it asks for is what the probes and the models say.
//! `tests/console` looks at it with a browser.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{self, Answer, JSON, SAMPLE};
use crate::support::{Server, Turn, poll};

const FIREFOX: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const LINE: &str = "digits@1\n";

fn front(server: &Server, method: &str, headers: &[&str]) -> Answer {
    client::ask(server.address, &client::request(method, "/", headers, b"")).unwrap()
}

fn is_page(answer: &Answer) -> bool {
    answer.status == 200 && answer.header("content-type") == Some("text/html; charset=utf-8")
}

fn state(server: &Server) -> Value {
    let answer = client::get(server.address, "/console/state");
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    answer.json()
}

#[test]
fn browsers_get_the_console_and_everybody_else_the_line() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    for browser in [&[FIREFOX][..], &["Accept: text/html"], &["Accept: text/plain;q=0.3", "Accept: text/html;q=0.4"]] {
        let answer = front(&server, "GET", browser);
        assert!(is_page(&answer), "{browser:?}: {answer:?}");
        assert_eq!(answer.header("vary").map(|vary| vary.starts_with("Accept")), Some(true));
    }
    for other in [&[][..], &["Accept: */*"], &["Accept: text/html;q=0"], &["Accept: text/html;q=0.2, text/plain"]] {
        let answer = front(&server, "GET", other);
        assert_eq!((answer.status, answer.text().as_str()), (200, LINE), "{other:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("vary"), Some("Accept"), "caches must tell them apart");
    }
}

#[test]
fn a_head_is_that_of_what_a_get_would_bring() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    for headers in [&[FIREFOX][..], &[]] {
        let (head, get) = (front(&server, "HEAD", headers), front(&server, "GET", headers));
        for name in ["content-type", "content-length", "content-security-policy", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
        assert!(head.body.is_empty());
    }
}

/// What stands between the two, which are there once.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start} is there"));
    assert!(!rest.contains(start), "{start} is there once");
    rest.split_once(end).unwrap().0
}

#[test]
fn the_page_may_run_what_was_built_into_it_and_ask_its_own_server_and_nothing_else() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let answer = front(&server, "GET", &[FIREFOX]);
    let (page, policy) = (answer.text(), answer.header("content-security-policy").unwrap());
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let script = hash(between(&page, "<script type=\"module\">", "</script>"));
    let style = hash(between(&page, "<style>", "</style>"));
    let mut wanted = vec![
        "base-uri 'none'".to_owned(),
        "connect-src 'self'".to_owned(),
        "default-src 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
        "img-src data:".to_owned(),
        "require-trusted-types-for 'script'".to_owned(),
        format!("script-src {script}"),
        format!("style-src {style}"),
    ];
    wanted.sort();
    let mut rules: Vec<&str> = policy.split("; ").collect();
    rules.sort_unstable();
    assert_eq!(rules, wanted);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(page.len() < 100 << 10, "{} bytes", page.len());
    // The name of SVG is no address.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for part in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "style=\""] {
        assert!(!page.contains(part), "the page has {part:?}");
    }
}

#[test]
fn without_a_console_everybody_gets_the_line() {
    let turn = Turn::shared();
    let by_flag = turn.serve(&["--no-console"]);
    let by_variable = turn.start_with(&[("TORCHPOD_NO_CONSOLE", "true")], &[]);
    by_variable.wait_until("serving");
    for server in [by_flag, by_variable] {
        assert_eq!(front(&server, "GET", &[FIREFOX]).text(), LINE);
        assert_eq!(client::get(server.address, "/console/state").status, 404);
    }
}

#[test]
fn the_state_shows_the_probes_as_they_answer() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=2s", "--drain-delay", "10s"]);
    server.wait_until("loading");
    let compare = || {
        let state = state(&server);
        for probe in state["probes"].as_array().unwrap() {
            let answer = client::get(server.address, probe["path"].as_str().unwrap());
            assert_eq!(json!(answer.status), probe["status"], "{probe}");
            for word in ["status", "reason"] {
                assert_eq!(answer.json()[word], probe["body"][word], "{probe}");
            }
        }
        state
    };
    let loading = compare();
    assert_eq!((&loading["phase"], &loading["models"]), (&json!("loading"), &json!([])));
    assert!(loading["probes"][0]["since"].is_null(), "it has not passed since the start");

    server.wait_until("serving");
    let serving = compare();
    assert_eq!(serving["started"], loading["started"]);
    let statuses = |made: &Value| ["to", "startup", "health", "ready"].map(|name| made[name].clone());
    let made: Vec<_> = serving["transitions"].as_array().unwrap().iter().map(statuses).collect();
    let expected = [("serving", 200, 200), ("warming", 503, 503), ("loading", 503, 503)];
    assert_eq!(made, expected.map(|(to, startup, ready)| [json!(to), json!(startup), json!(200), json!(ready)]));
    let turned = |probe: usize| serving["probes"][probe]["since"].clone();
    assert_eq!([turned(0), turned(1), turned(2)], [serving["transitions"][0]["at"].clone(), Value::Null, turned(0)]);

    server.signal(Signal::TERM);
    server.wait_until("draining");
    let draining = compare();
    assert_eq!(draining["probes"][2]["since"], draining["transitions"][0]["at"]);
    assert_eq!((&draining["phase"], &draining["transition"]), (&json!("draining"), &json!("SIGTERM")));
}

#[test]
fn the_state_counts_requests_rows_and_how_long_they_took() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=100ms"]);
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
    assert_eq!(client::predict(server.address, JSON, b"{\"inputs\": 7}").status, 400);
    let figures = || state(&server)["models"][0]["figures"].clone();
    poll("both are counted", || figures()["ok"] == 1 && figures()["failed"] == 1);
    let figures = figures();
    assert_eq!([&figures["rows"], &figures["batches"], &figures["max_batch_rows"]], [1, 1, 32]);
    let [pair] = &figures["latency"].as_array().unwrap()[..] else { panic!("{figures}") };
    assert!(pair[0].as_f64().unwrap() > 0.1 && pair[1] == 1, "one bucket, above the batch's delay: {pair}");
    let known = &state(&server)["models"][0];
    assert_eq!((&known["name"], &known["version"], &known["state"]), (&json!("digits"), &json!("1"), &json!("READY")));
    assert_eq!(known["digest"].as_str(), Some(crate::models::digest_of_digits().as_str()));
}
