//! Packages of `AOTInductor`: what is theirs alone. Whatever holds for the shipped model in both forms is tested elsewhere.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::{self, Answer, JSON};
use crate::models::{PACKAGE, Repository, ask, digest_of, order, without_golden};
use crate::support::{ROOT, Server, Turn};

fn predict(server: &Server<'_>, inputs: &Value) -> Answer {
    client::predict(server.address, JSON, json!({ "inputs": inputs }).to_string().as_bytes())
}

/// The folders that libtorch unpacks packages into: those of `/tmp` that hold one.
fn unpacked() -> Vec<String> {
    let folders = fs::read_dir("/tmp").unwrap().map(|folder| folder.unwrap().path());
    let holds = |folder: &Path| folder.join("model/data/aotinductor").is_dir();
    let mut found: Vec<_> = folders.filter(|folder| holds(folder)).map(|folder| folder.display().to_string()).collect();
    found.sort();
    found
}

#[test]
fn a_file_of_its_own_describes_itself_and_calls_its_outputs_by_their_keys() {
    let (turn, file) = (Turn::shared(), format!("{ROOT}/tests/models/aoti/words.pt2"));
    let before = unpacked();
    let server = turn.serve(&[&file]);
    let answer = predict(&server, &json!({"ids": [[3, 1], [0, 0]], "weights": [[1, 2], [0, 1]]}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["outputs"], json!({"sum": [[10.0, 13.0], [0.0, 1.0]], "twice": [[2.0, 4.0], [0.0, 2.0]]}));
    assert_eq!((&answer.json()["model"], answer.header("torchpod-model")), (&json!("words"), Some("words")));
    let unpacked: Vec<_> = unpacked().into_iter().filter(|folder| !before.contains(folder)).collect();
    assert!(unpacked.is_empty(), "machine code is not left behind: {unpacked:?}");
}

#[test]
fn inputs_whose_lengths_must_be_one_length_never_reach_the_code_with_two() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["words"]));
    let server = turn.serve(&[repository.path()]);
    let refused = predict(&server, &json!({"ids": [[1, 1, 1, 1, 1, 1]], "weights": [[1]]}));
    assert_eq!(refused.status, 500, "{}", refused.text());
    let said = "input 1 has the length 1 in dimension 1, expected that of another input, [6]";
    assert_eq!(refused.json()["error"]["message"], said);
    assert_eq!(predict(&server, &json!({"ids": [[1, 1]], "weights": [[1]]})).status, 500);
    assert_eq!(predict(&server, &json!({"ids": [[1]], "weights": [[1]]})).status, 200);
}

#[test]
fn what_a_package_objects_to_is_told_and_stays_out_of_stderr() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["words"]));
    let server = turn.serve(&[repository.path()]);
    let answer = predict(&server, &json!({"ids": [[99]], "weights": [[1]]}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (500, &json!("model_failed")));
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("the model raised: index out of bounds"), "{message}");
    // Every line of the log is JSON: the harness would have failed at another one.
    let line = server.log.wait_for("batch failed", |line| line["message"] == "batch failed");
    assert!(line["error"].as_str().unwrap().starts_with("the package raised: "), "{line}");
    assert_eq!(predict(&server, &json!({"ids": [[3]], "weights": [[1]]})).status, 200);
}

#[test]
fn a_package_that_shows_nothing_is_served_as_it_is_described() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["package_silent"]));
    let inputs = ["--input", "ids:INT64[-1,-1]", "--input", "weights:FP32[-1,-1]"];
    let server = turn.serve(&[&[repository.path()], &inputs[..]].concat());
    let answer = predict(&server, &json!({"ids": [[3]], "weights": [[2]]}));
    assert_eq!(answer.json()["outputs"], json!({"output_0": [[12.0, 14.0]], "output_1": [[4.0]]}), "{}", answer.text());
}

#[test]
fn a_package_takes_a_scripts_place_while_clients_ask_and_several_instances_share_it() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let toml = without_golden().replace("count = 1", "count = 3");
    repository.describe("digits", &toml);
    let server = turn.serve(&repository.explicit(&[]));
    assert_eq!(ask(server.address, "/predict").json()["version"], "1");
    repository.put_package("digits", 2);
    let loaded = order(server.probe, "load", "digits");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let answer = ask(server.address, "/predict");
                    assert_eq!((answer.label(), &answer.json()["version"]), (json!("7"), &json!("2")));
                    assert_eq!(answer.header("torchpod-model-digest"), Some(digest_of(PACKAGE).as_str()));
                }
            });
        }
    });
}
