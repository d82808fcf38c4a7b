//! Every answer says which version gave it, and which request it answers.

use crate::client::{self, Answer, Connection, JSON, SAMPLE};
use crate::models::{Repository, ask, digest_of_digits, post, posting};
use crate::support::{ANY_PORT, Turn};

fn identity(answer: &Answer) -> [Option<&str>; 3] {
    ["torchpod-model", "torchpod-model-version", "torchpod-model-digest"].map(|name| answer.header(name))
}

#[test]
fn every_answer_of_a_model_names_the_version_and_its_files_digest() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let digest = digest_of_digits();
    let expected = [Some("digits"), Some("1"), Some(digest.as_str())];
    let good = ask(server.address, "/predict");
    assert_eq!((good.status, identity(&good)), (200, expected));
    let bad = post(server.address, "/predict/digits", b"{}");
    assert_eq!((bad.status, identity(&bad)), (400, expected));
    let odd = client::predict(server.address, "image/png", SAMPLE);
    assert_eq!((odd.status, identity(&odd)), (415, expected));
    assert_eq!(identity(&ask(server.address, "/predict/gone")), [None; 3]);
    let verbose = client::get(server.address, "/ready?verbose").json();
    assert_eq!(verbose["verbose"]["models"][0]["digest"], digest);
}

#[test]
fn a_models_name_that_no_header_can_hold_is_encoded_in_it() {
    let (turn, repository) = (Turn::shared(), Repository::of("größe 2"));
    let server = turn.serve(&[repository.path()]);
    let answer = ask(server.address, "/predict/gr%C3%B6%C3%9Fe%202");
    assert_eq!((answer.status, identity(&answer)[0]), (200, Some("gr%C3%B6%C3%9Fe 2")), "{}", answer.text());
    assert_eq!(answer.json()["model"], "größe 2");
}

fn with_id(path: &str, id: &str) -> Vec<u8> {
    posting(path, &[&format!("X-Request-Id: {id}")], SAMPLE)
}

#[test]
fn a_request_keeps_its_id_and_gets_one_where_it_has_none() {
    let turn = Turn::shared();
    let server = turn.serve(&["--probe-listen", ANY_PORT]);
    let mut connection = Connection::open(server.address).unwrap();
    let mut ask = |id: &str| connection.ask(&with_id("/predict", id)).unwrap();
    let of = |answer: &Answer| answer.header("x-request-id").unwrap_or_default().to_owned();
    let longest = "x".repeat(128);
    for id in ["a", "1-2_3.4:5/6+7=8@9", &longest] {
        assert_eq!(of(&ask(id)), id);
    }
    let is_uuid = |id: &str| id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    for odd in ["", "two words", "\"quoted\"", "größe", "a;b", &"x".repeat(129)] {
        let id = of(&ask(odd));
        assert!(is_uuid(&id), "{odd:?} became {id:?}");
    }
    let twice = posting("/predict", &["X-Request-Id: a", "X-Request-Id: b"], SAMPLE);
    assert!(is_uuid(&of(&client::ask(server.address, &twice).unwrap())));
    let ids = [(); 2].map(|()| of(&crate::models::ask(server.address, "/predict")));
    assert!(ids[0] != ids[1] && ids.iter().all(|id| is_uuid(id)), "{ids:?}");

    // Whatever else is answered, and by whichever listener.
    for (address, path) in
        [(server.address, "/nothing"), (server.address, "/predict/gone"), (server.probe.unwrap(), "/nothing")]
    {
        let answer = client::ask(address, &with_id(path, "mine")).unwrap();
        assert_eq!((answer.status, of(&answer)), (404, "mine".to_owned()), "{path}");
    }
    let huge = posting("/predict", &["X-Request-Id: mine", &format!("X-Huge: {}", "x".repeat(66_000))], SAMPLE);
    let answer = client::ask(server.address, &huge).unwrap();
    assert_eq!((answer.status, of(&answer)), (431, "mine".to_owned()));
    // Probes are spared it: an id costs more than the rest of their answer.
    for path in ["/startup", "/health", "/ready", "/metrics"] {
        assert_eq!(client::get(server.address, path).header("x-request-id"), None);
    }
}

#[test]
fn a_request_that_failed_is_found_in_the_log_by_its_id() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "worker-panic-after=0s"]);
    let answer = client::ask(server.address, &with_id("/predict", "find-me")).unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (500, Some("find-me")));
    assert_eq!(identity(&answer)[1], Some("1"));
    let line = server.log.wait_for("the failed request", |line| line["request_id"] == "find-me");
    assert_eq!((&line["level"], &line["model"]), (&"WARN".into(), &"digits@1".into()), "{line}");
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
}
