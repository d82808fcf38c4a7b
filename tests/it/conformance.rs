//! The clients that people have, as published, against a server of identity models: `tests/conformance` holds the cases.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::models::{self, Repository};
use crate::support::{BINARY, ROOT, Turn};

/// What they bring when they load and unload.
const TOKEN: &str = "conformance";

/// Runs one script of cases to its end; its lines are shown where any case fails.
fn cases(script: &str) {
    let python = Path::new(ROOT).join(".venvs/clients/bin/python");
    assert!(python.exists(), "the clients are not installed: run `make test-clients`");
    let models = [&models::IDENTITIES[..], &["row_sum"]].concat();
    let (turn, repository) = (Turn::shared(), Repository::odd(&models));
    fs::write(repository.folder("row_sum").join("model.toml"), models::ROW_SUM).unwrap();
    repository.shipped("digits");
    // Of 50 MiB, an unoptimised server on a busy machine makes much work.
    let arguments = [repository.path(), "--model-control", "explicit", "--request-timeout", "5m"];
    let server = turn.start_with(&[("TORCHPOD_CONTROL_TOKEN", TOKEN)], &arguments);
    server.wait_until("serving");
    let (http, grpc) = (server.address.to_string(), server.grpc.to_string());
    let mut run = Command::new(python);
    run.arg("-B").arg(format!("tests/conformance/{script}.py")).args([&http, &grpc]).current_dir(ROOT);
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn the_server_does_as_its_description_says_whatever_it_is_asked() {
    asked_by_the_description("20");
}

#[test]
#[ignore = "soak: twenty minutes"]
fn the_server_does_as_its_description_says_for_twenty_minutes() {
    asked_by_the_description("600");
}

/// Two rounds, each of so many seconds.
fn asked_by_the_description(seconds: &str) {
    let _turn = Turn::shared();
    let mut run = Command::new("tests/conformance/schemathesis.sh");
    let output = run.args([BINARY, seconds]).current_dir(ROOT).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn tritons_clients_find_what_they_expect() {
    cases("triton");
}

#[test]
fn kserves_clients_find_what_they_expect() {
    cases("kserve_client");
}
