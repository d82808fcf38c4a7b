//! Large files. What takes a second when optimised may take ten here, of this thread's own time: others share the cores.

use std::time::Duration;

use kubectl_torchpod::lint::{self, Format, Given};
use kubectl_torchpod::manifest::{Manifests, Source};
use rustix::time::{ClockId, clock_gettime};

const DOCUMENTS: usize = 5_000;

/// Deployments with probes, each with a Service, a budget and an autoscaler, all of one namespace.
fn many() -> String {
    let four = include_str!("../data/four.yaml");
    (0..DOCUMENTS / 4).map(|number| four.replace("NUMBER", &number.to_string())).collect()
}

/// The processor time of this thread so far.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn five_thousand_documents_are_read_in_seconds() {
    let text = many();
    let start = spent();
    let manifests = Manifests::parse(vec![Source { name: "many.yaml".to_owned(), text, found: false }]);
    let parsed = spent() - start;
    let findings = lint::check(&manifests, &Given::default());
    let checked = spent() - start;
    let told = lint::write(Format::Text, &manifests, &findings, false);
    let total = spent() - start;
    println!("{DOCUMENTS} documents: {parsed:?} to read, {checked:?} with rules, {total:?} with the text");
    assert_eq!(manifests.objects.len(), DOCUMENTS);
    assert!(findings.is_empty(), "{told}");
    assert!(total < Duration::from_secs(10), "{total:?}");
}

#[test]
fn as_many_findings_are_told_in_seconds() {
    // No selector finds its pods any more: not a Deployment's, not a Service's.
    let text = many().replace("labels: { app: web-", "labels: { app: webb-");
    let start = spent();
    let manifests = Manifests::parse(vec![Source { name: "many.yaml".to_owned(), text, found: false }]);
    let findings = lint::check(&manifests, &Given::default());
    let checked = spent() - start;
    let told = lint::write(Format::Text, &manifests, &findings, false);
    println!("{checked:?} to check; {} findings in {:?}", findings.len(), spent() - start);
    assert!(findings.len() >= DOCUMENTS / 4 && told.len() > findings.len() * 100);
    assert!(spent() - start < Duration::from_secs(20), "{:?}", spent() - start);
}
