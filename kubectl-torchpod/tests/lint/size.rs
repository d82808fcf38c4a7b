//! Large files. What takes a second when optimised may take ten here, of this thread's own time: others share
//! the cores.

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

/// Reads, checks and tells, in so much of this thread's processor time.
fn linted(text: String) -> (Manifests, usize, String, Duration) {
    let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = spent();
    let manifests = Manifests::parse(vec![Source { name: "many.yaml".to_owned(), text, found: false }]);
    let findings = lint::check(&manifests, &Given::default());
    let told = lint::write(Format::Text, &manifests, &findings, false);
    (manifests, findings.len(), told, spent().saturating_sub(start))
}

#[test]
fn five_thousand_documents_are_read_in_seconds() {
    let (manifests, findings, told, time) = linted(many());
    println!("{DOCUMENTS} documents in {time:?}");
    assert_eq!((manifests.objects.len(), findings), (DOCUMENTS, 0), "{told}");
    assert!(time < Duration::from_secs(10), "{time:?}");
}

#[test]
fn as_many_findings_are_told_in_seconds() {
    // No selector finds its pods any more: not a Deployment's, not a Service's.
    let (_, findings, told, time) = linted(many().replace("labels: { app: web-", "labels: { app: webb-"));
    println!("{findings} findings in {time:?}");
    assert!(findings >= DOCUMENTS / 4 && told.len() > findings * 100);
    assert!(time < Duration::from_secs(20), "{time:?}");
}
