//! API servers that refuse, or are none: what is said, and that it is said soon. Its answers are those of a real one, word
//! for word; the cluster on loopback knows no rights.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use serde_json::json;

/// What the program says to an API server that answers everything so, but for its version.
fn said(code: u16, reason: &str, message: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    thread::Builder::new()
        .name("api".to_owned())
        .spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && reader.read_until(b'\n', &mut head).unwrap() > 0 {}
                let is_version = head.starts_with(b"GET /version");
                let (code, body) = if is_version { (200, "{}".to_owned()) } else { (code, status.to_string()) };
                let length = body.len();
                let head = format!("HTTP/1.1 {code} Answer\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                reader.into_inner().write_all((head + &body).as_bytes()).unwrap();
            }
        })
        .unwrap();
    let output = plugin(&server).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn plugin(server: &str) -> Command {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "one", "user": {}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one", "namespace": "ml"}}],
    });
    let folder = tempfile::tempdir().unwrap().keep();
    std::fs::write(folder.join("config"), config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-torchpod"));
    command.env("KUBECONFIG", folder.join("config"));
    command
}

#[test]
fn a_missing_right_is_named_with_the_role_that_grants_it() {
    let message = "deployments.apps \"web-stable\" is forbidden: User \"ann\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"ml\"";
    let (code, said) = said(403, "Forbidden", message, &["canary", "web", "--image", "torchpod:2"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("not allowed to get deployments.apps in namespace ml"), "{said}");
    assert!(said.contains("User \"ann\" cannot") && said.contains("k8s/release-rights"), "{said}");
}

#[test]
fn what_an_api_server_will_never_take_is_not_tried_again() {
    let (code, said) = said(401, "Unauthorized", "Unauthorized", &["status", "web"]);
    assert_eq!(code, Some(2), "{said}");
    // Both are asked for at once, and whichever is refused first is told.
    let told =
        ["deployments.apps", "services"].map(|what| format!("the API server refuses to list {what}: Unauthorized"));
    assert!(told.iter().any(|told| said.contains(told)), "{said}");
}

#[test]
fn an_address_where_nobody_is_ends_it_before_anything_is_changed() {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = plugin(&format!("http://{free}"));
    let output = command.args(["canary", "web", "--patience", "1s"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("onnection refused") && said.contains("nothing was changed"), "{said}");
}

#[test]
fn a_kubeconfig_or_a_context_that_is_not_there_is_named() {
    for (arguments, hint) in [
        (["status", "web", "--kubeconfig", "/nowhere/config"], "/nowhere/config"),
        (["status", "web", "--context", "elsewhere"], "elsewhere"),
    ] {
        let output = plugin("http://127.0.0.1:1").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot tell where the cluster is") && said.contains(hint), "{said}");
    }
}
