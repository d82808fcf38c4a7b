//! Every rule's two examples.

use std::collections::BTreeSet;
use std::time::Duration;

use kubectl_torchpod::lint::{self, Given, Rule, Version};
use kubectl_torchpod::manifest::{Manifests, Source};

/// What the examples are read with: the first line of some says which flag they need.
fn given(example: &str) -> Given {
    let flag = |name: &str| {
        let head = example.lines().next()?.strip_prefix("# With --")?;
        head.trim_end_matches('.').strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
    };
    let load_time = flag("load-time").map(|text| humantime::parse_duration(&text).unwrap());
    let version = flag("kubernetes-version").map(|text| text.parse::<Version>().unwrap());
    assert!(!example.starts_with("# With") || load_time.is_some() || version.is_some(), "{example}");
    let default = Given::default();
    Given { load_time, version: version.unwrap_or(default.version), drain_time: None::<Duration> }
}

/// The rules that find something, with what they say.
fn reported(rule: &Rule, example: &str) -> BTreeSet<String> {
    let source = |number| Source { name: format!("{}-{number}.yaml", rule.id), text: example.to_owned(), found: false };
    let copies = if example.starts_with("# Beside a copy of itself.") { 2 } else { 1 };
    let manifests = Manifests::parse((0..copies).map(source).collect());
    let findings = lint::check(&manifests, &given(example));
    findings.iter().map(|finding| format!("{}: {}", finding.rule.id, finding.found.what)).collect()
}

#[test]
fn every_failing_example_is_reported_by_its_rule_and_by_no_other() {
    let mut wrong = Vec::new();
    for rule in lint::rules() {
        let reported = reported(rule, rule.fails);
        let own = |text: &String| text.starts_with(&format!("{}: ", rule.id));
        if reported.is_empty() || !reported.iter().all(own) {
            wrong.push(format!("{}: {reported:?}", rule.id));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_passing_example_passes_every_rule() {
    let mut wrong = Vec::new();
    for rule in lint::rules() {
        let reported = reported(rule, rule.passes);
        if !reported.is_empty() || rule.passes.trim().is_empty() {
            wrong.push(format!("{}: {reported:?}", rule.id));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_has_a_name_of_its_own_and_sentences_that_end_without_a_full_stop() {
    let rules: Vec<&Rule> = lint::rules().collect();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.id).collect();
    assert_eq!(names.len(), rules.len());
    assert!(rules.len() >= 35, "{}", rules.len());
    for rule in rules {
        assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id);
        for sentence in [rule.why, rule.fix] {
            assert!(
                sentence.len() > 10 && !sentence.ends_with('.') && !sentence.contains("  "),
                "{}: {sentence}",
                rule.id
            );
        }
    }
}
