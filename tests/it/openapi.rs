//! `/openapi.json` tells of every route there is and of no other, and `/docs` shows it without asking anybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client;
use crate::support::{ANY_PORT, ROOT, Server, Turn};

fn document(server: &Server) -> Value {
    let answer = client::get(server.address, "/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

fn paths(document: &Value) -> BTreeSet<String> {
    document["paths"].as_object().expect("paths are an object").keys().cloned().collect()
}

/// The route of a path: for a router, `:predict` is a part of the model's name.
fn route(path: &str) -> &str {
    path.trim_end_matches(":predict")
}

#[test]
fn every_documented_route_is_there_with_the_methods_that_are_documented() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let document = document(&server);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let (mut ids, mut methods) = (BTreeSet::new(), BTreeMap::<&str, BTreeSet<String>>::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        let documented = item.as_object().unwrap().keys().map(|name| name.to_uppercase());
        methods.entry(route(path)).or_default().extend(documented);
        for operation in item.as_object().unwrap().values() {
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{path}: {} is there twice",
                operation["operationId"]
            );
            assert!(operation["summary"].is_string(), "{path} has a summary");
        }
    }
    for (path, documented) in methods {
        let target = path.replace("{model}", "digits").replace("{version}", "1");
        let answer = client::ask(server.address, &client::request("PROPFIND", &target, &[], b"")).unwrap();
        assert_eq!(answer.status, 405, "{path}: {}", answer.text());
        let allowed = answer.header("allow").unwrap().split(',').filter(|name| *name != "HEAD").map(str::to_owned);
        assert_eq!(allowed.collect::<BTreeSet<_>>(), documented, "{path}");
    }
}

/// What no router knows: `http/front` hands these to their handlers, as `http/target` reads them.
const PREDICTIONS: [&str; 5] = [
    "/predict",
    "/predict/{model}",
    "/predict/{model}/{version}",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
];

/// Every text in `folder`'s files that is given to a router as a path.
fn routed() -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![PathBuf::from(ROOT).join("src/http")]);
    let mut files = vec![Path::new(ROOT).join("src/http.rs")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        // A file that gives several paths the same routes has them in a list, and what follows them behind `{model}`.
        let quoted = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let models: Vec<String> =
            text.lines().filter(|line| line.contains("for model in [")).flat_map(quoted).collect();
        found.extend(models.iter().cloned());
        for (place, _) in text.match_indices(".route(") {
            let Some(path) = quoted(&text[place..]).into_iter().next() else { continue };
            let argument = text[place + ".route(".len()..].trim_start();
            match path.strip_prefix("{model}") {
                Some(rest) if argument.starts_with("&format!(") => {
                    found.extend(models.iter().map(|model| format!("{model}{rest}")));
                }
                _ if argument.starts_with('"') => drop(found.insert(path)),
                _ => assert!(argument.starts_with("model,"), "{}: a path that is found nowhere", file.display()),
            }
        }
    }
    found
}

#[test]
fn every_route_is_documented() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let mut routed = routed();
    routed.extend(PREDICTIONS.map(str::to_owned));
    assert!(routed.len() > 20, "the routes are found: {routed:?}");
    let documented = paths(&document(&server));
    assert_eq!(documented.iter().map(|path| route(path).to_owned()).collect::<BTreeSet<_>>(), routed);
}

#[test]
fn whoever_asks_for_what_is_not_there_hears_of_documented_routes_only() {
    let turn = Turn::shared();
    let server = turn.serve(&["--probe-listen", ANY_PORT]);
    let documented = paths(&document(&server));
    let mut named = 0;
    for address in [server.address, server.probe.unwrap()] {
        let hint = client::get(address, "/nothing").json()["error"]["hint"].as_str().unwrap().to_owned();
        for word in hint.split([' ', ',', ';']).filter(|word| word.starts_with('/')) {
            // What may be there or not, or is one of several, ends what is compared.
            let path = word.split(['[', '|']).next().unwrap().replace("MODEL", "{model}");
            assert!(documented.iter().any(|known| *known == path), "{word} is not documented");
            named += 1;
        }
    }
    assert!(named > 12, "the hints name routes");
    let hint = client::get(server.address, "/nothing").json()["error"]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("/docs /openapi.json"), "{hint}");
    assert_eq!(client::get(server.probe.unwrap(), "/openapi.json").status, 404, "it is the main listener's");
}

#[test]
fn the_page_shows_every_route_and_needs_no_other_host() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let page = client::get(server.address, "/docs");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let text = page.text();
    for path in paths(&document(&server)) {
        assert!(text.contains(&format!("<code>{path}</code>")), "{path} is shown");
    }
    for part in ["//", "<script", "src=", "@import", "url("] {
        assert!(!text.contains(part), "the page has {part:?}");
    }
    for link in text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let is_here = link.strip_prefix('#').is_some_and(|id| text.contains(&format!("id=\"{id}\"")));
        assert!(is_here || link == "/openapi.json", "{link}");
    }
}
