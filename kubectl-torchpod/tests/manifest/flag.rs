//! That what manifests and their page tell `torchpod` is what it understands: flags, variables, commands, metrics.

use std::collections::BTreeSet;

use crate::manifest::{all_rendered, files, list, read, text, variables, walk};

/// The texts in quotes that follow `prefix` in the server's command line.
fn declared(prefix: &str) -> BTreeSet<String> {
    let sources: Vec<_> = files("src/cli", ".rs").iter().map(|path| read(path)).chain([read("src/cli.rs")]).collect();
    let found = sources.iter().flat_map(|source| source.split(prefix).skip(1));
    let found: BTreeSet<_> = found.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect();
    assert!(found.len() > 20, "{prefix} is how the sources write it: {found:?}");
    found
}

/// Every variable; and since each flag is one, every flag as well.
fn known_variables() -> BTreeSet<String> {
    declared("env = \"")
}

fn is_flag(flag: &str, known: &BTreeSet<String>) -> bool {
    let name = flag.trim_start_matches("--").split('=').next().unwrap_or_default();
    known.contains(&format!("TORCHPOD_{}", name.to_uppercase().replace('-', "_")))
        || known.contains(&format!("TORCHPOD_PROBE_{}", name.to_uppercase()))
}

#[test]
fn every_flag_and_variable_is_one_of_torchpods() {
    let known = known_variables();
    let mut checked = BTreeSet::new();
    for file in all_rendered() {
        for pod in file.pods() {
            let Some(server) = pod.server() else { continue };
            for name in variables(server).into_keys().filter(|name| name.starts_with("TORCHPOD_")) {
                assert!(known.contains(name), "{}: {} sets {name}", file.name, pod.owner);
                checked.insert(name.to_owned());
            }
            for flag in list(&server["args"]).iter().map(text).filter(|argument| argument.starts_with("--")) {
                assert!(is_flag(flag, &known), "{}: {} says {flag}", file.name, pod.owner);
                checked.insert(flag.to_owned());
            }
        }
    }
    assert!(checked.len() > 8, "flags were found: {checked:?}");
    assert!(!is_flag("--drain-dealy", &known) && !known.contains("TORCHPOD_DRAIN_DEALY"));
}

#[test]
fn every_exec_probe_asks_what_torchpod_answers() {
    let known = known_variables();
    let mut asked = BTreeSet::new();
    for file in all_rendered() {
        for command in file.objects.iter().flat_map(walk).filter_map(|map| map.get("exec")) {
            let command: Vec<_> = list(&command["command"]).iter().map(text).collect();
            if let ["torchpod", "probe", question, rest @ ..] = &command[..] {
                assert!(["startup", "health", "ready"].contains(question), "{}: {command:?}", file.name);
                let mut flags = rest.iter().filter(|argument| argument.starts_with("--"));
                assert!(flags.all(|flag| is_flag(flag, &known)), "{}: {command:?}", file.name);
                asked.insert((*question).to_owned());
            }
        }
    }
    assert_eq!(asked.len(), 3, "all three are asked by somebody: {asked:?}");
}

#[test]
fn every_path_that_is_probed_is_one_of_torchpods() {
    let mut paths = BTreeSet::new();
    for file in all_rendered() {
        let probes = file.pods().into_iter().filter_map(|pod| pod.server());
        let probes =
            probes.flat_map(walk).filter_map(|map| map.get("httpGet")).map(|get| text(&get["path"]).to_owned());
        paths.extend(probes);
    }
    assert_eq!(paths, ["/health", "/ready", "/startup"].map(str::to_owned).into());
}

#[test]
fn every_metric_is_one_that_torchpod_has() {
    let names = read("src/telemetry/table.rs");
    let mut asked = BTreeSet::new();
    for path in files("k8s", ".yaml").into_iter().chain(["k8s/README.md".to_owned()]) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let whole = read(&path);
        let words = whole.split(|c: char| !is_name(c)).filter(|word| word.starts_with("torchpod_"));
        // What Prometheus makes of a histogram, and the adapter of that.
        let base = |word: &str| {
            let ends = ["_bucket", "_sum", "_count", "_mean"];
            ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
        };
        asked.extend(words.map(base));
    }
    assert!(asked.len() >= 3, "metrics were found: {asked:?}");
    for name in asked {
        assert!(names.contains(&format!("\"{name}\"")), "{name}");
    }
}
