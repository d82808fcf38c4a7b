//! torchpod's own flags, as a container's command, arguments and variables tell them.

use std::collections::BTreeSet;
use std::fs;

use kubectl_torchpod::server::{DEFAULTS, PATHS, QUESTIONS, SERVICES};

use crate::reports;

const HEAD: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: web
";

/// A pod with a minute of grace and this container.
fn pod(container: &str) -> String {
    container.lines().fold(HEAD.to_owned(), |pod, line| pod + "    " + line + "\n")
}

#[test]
fn the_defaults_are_those_of_the_server() {
    let cli = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/cli.rs")).unwrap();
    for (name, default) in DEFAULTS {
        let variable = format!("env = \"TORCHPOD_{}\"", name.to_uppercase().replace('-', "_"));
        let (_, rest) = cli.split_once(&variable).unwrap_or_else(|| panic!("there is no {variable}"));
        let declared = rest.split_once("pub ").unwrap().0;
        let value = declared.split_once("default_value = \"").map_or("", |(_, rest)| rest.split_once('"').unwrap().0);
        assert_eq!(value, default, "--{name}");
    }
}

/// What stands in quotes behind each `before` in a file of the server's source.
fn quoted_behind(file: &str, before: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(format!("{}/../src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let tests = source.find("mod tests").unwrap_or(source.len());
    let all = source[..tests].split(before).skip(1).filter_map(|rest| rest.strip_prefix('"')?.split_once('"'));
    all.map(|(text, _)| text.to_owned()).collect()
}

#[test]
fn what_a_probe_may_ask_is_what_the_server_answers() {
    let mut paths = quoted_behind("http.rs", ".route(");
    // The console's state is for whoever looks, and says nothing of whether the server should live.
    paths.retain(|path| !path.starts_with("/predict") && path != "/console/state");
    assert_eq!(paths, PATHS.map(str::to_owned).into());
    let services = quoted_behind("grpc/health.rs", "    (");
    assert_eq!(services, SERVICES.map(str::to_owned).into());
    let mut questions = quoted_behind("probe.rs", " => ");
    questions.retain(|text| text.starts_with('/'));
    assert_eq!(questions, QUESTIONS.map(|name| format!("/{name}")).into());
}

#[test]
fn a_probe_that_torchpod_cannot_answer_is_told() {
    let image = "image: torchpod:1\nlivenessProbe: ";
    for (probe, unknown) in [
        ("{ httpGet: { path: /health, port: 8080 } }", false),
        ("{ httpGet: { path: /health?verbose, port: 8080 } }", false),
        ("{ httpGet: { path: /v2/health/live, port: 8080 } }", false),
        ("{ httpGet: { path: /healthz, port: 8080 } }", true),
        ("{ grpc: { port: 9090 } }", false),
        ("{ grpc: { port: 9090, service: liveness } }", false),
        ("{ grpc: { port: 9090, service: digits } }", true),
        ("{ exec: { command: [torchpod, probe, health] } }", false),
        ("{ exec: { command: [torchpod, probe, --grpc, health] } }", false),
        ("{ exec: { command: [/usr/bin/torchpod, probe, healthy] } }", true),
        ("{ exec: { command: [cat, /tmp/alive] } }", false),
        ("{ tcpSocket: { port: 8080 } }", false),
    ] {
        assert_eq!(reports(&pod(&format!("{image}{probe}")), "probe-question-unknown"), unknown, "{probe}");
    }
    let other = pod("image: web:1\nlivenessProbe: { httpGet: { path: /healthz, port: 8080 } }");
    assert!(!reports(&other, "probe-question-unknown"));
}

#[test]
fn a_setting_that_torchpod_refuses_is_told() {
    for (args, refused) in [
        ("--drain-timeout, 30s", false),
        ("--drain-timeout=0s", false),
        ("--drain-timeout, '30'", true),
        ("--listen, 'localhost:80'", false),
        ("--listen, '8080'", true),
        ("--grpc-listen=off", false),
        ("--probe-listen, $(ADDRESS)", false),
    ] {
        let told = reports(&pod(&format!("image: torchpod:1\nargs: [serve, {args}]")), "server-setting-refused");
        assert_eq!(told, refused, "{args}");
    }
}

#[test]
fn a_drain_is_known_by_flag_by_variable_and_by_default() {
    let image = "image: example.com/ml/torchpod:0.1.0@sha256:00\n";
    for (told, too_long) in [
        ("", false),
        ("args: [serve, --drain-timeout, 60s]", true),
        ("args: [serve, --drain-timeout=1m]", true),
        ("args: [serve, --drain-timeout=1m, --drain-timeout=1s]", false),
        ("command: [/usr/bin/torchpod, serve, --drain-timeout, 60s]", true),
        ("env: [{ name: TORCHPOD_DRAIN_TIMEOUT, value: 60s }]", true),
        ("args: [serve, --drain-timeout=1s]\nenv: [{ name: TORCHPOD_DRAIN_TIMEOUT, value: 60s }]", false),
        // Nobody can tell what these come to.
        ("args: [serve, --drain-timeout, $(DRAIN)]", false),
        ("args: [probe, ready, --drain-timeout, 60s]", false),
        ("command: [python, train.py, --drain-timeout, 60s]", false),
        ("env: [{ name: TORCHPOD_DRAIN_TIMEOUT, valueFrom: { configMapKeyRef: { name: a, key: b } } }]", false),
    ] {
        assert_eq!(reports(&pod(&format!("{image}{told}")), "grace-too-short"), too_long, "{told}");
    }
    assert!(reports(&pod(image).replace("60", "39"), "grace-too-short"), "5 + 30 + 5 s");
    assert!(!reports(&pod(image).replace("60", "40"), "grace-too-short"));
    assert!(!reports(
        &pod(&format!("{image}envFrom: [{{ configMapRef: {{ name: a }} }}]")).replace("60", "9"),
        "grace-too-short"
    ));
}

#[test]
fn a_probe_must_ask_a_port_on_which_the_server_listens() {
    let probed = |args: &str, port: u16| {
        pod(&format!(
            "image: torchpod:1\nargs: [serve{args}]\nreadinessProbe: {{ httpGet: {{ path: /ready, port: {port} }} }}"
        ))
    };
    for (args, port, closed) in [
        ("", 8080, false),
        ("", 9090, false),
        ("", 8081, true),
        (", --probe-listen, '0.0.0.0:8081'", 8081, false),
        (", --listen, '[::]:8000'", 8080, true),
        (", --grpc-listen=off", 9090, true),
        (", --config, /etc/torchpod.toml", 1234, false),
    ] {
        assert_eq!(reports(&probed(args, port), "probe-port-unresolved"), closed, "{args} {port}");
    }
}
