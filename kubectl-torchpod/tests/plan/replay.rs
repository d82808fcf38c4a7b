//! Recordings of a real cluster, played again: the same bounds, the same sizes in the same order, as long as it took.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubectl_torchpod::rollout::simulation::{Act, End, Outcome, Phase, Planned, Scenario, Start, What, Workload, run};
use kubectl_torchpod::rollout::{Load, Needs, Probe, Probes, Spec, Strategy, Template};
use serde_json::Value;

/// One file of `tests/data/traces`.
struct Recording {
    name: String,
    json: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces")
}

pub(crate) fn file(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

/// Those of rollouts.
fn recordings() -> Vec<Recording> {
    let entries =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let names = entries.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("probes-")).collect();
    names.sort();
    names.into_iter().map(|name| Recording { json: file(&name), name }).collect()
}

/// How far the second had come at time 0.
pub(crate) fn wall_clock(json: &Value) -> Duration {
    let recorded = json["recorded"].as_str().unwrap();
    let fraction =
        recorded.split_once('.').and_then(|(_, rest)| rest.split_once('+')).expect("a time with a fraction").0;
    Duration::from_secs_f64(format!("0.{fraction}").parse().unwrap())
}

pub(crate) fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap_or_else(|| panic!("{value} is a time")))
}

pub(crate) fn number(value: &Value) -> i32 {
    value.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or_else(|| panic!("{value} is a number"))
}

fn amount(value: &Value) -> IntOrString {
    value.as_str().map_or_else(|| IntOrString::Int(number(value)), |text| IntOrString::String(text.to_owned()))
}

fn probe(value: &Value) -> Probe {
    let or = |key: &str, default| value.get(key).map_or(default, |value| u32::try_from(number(value)).unwrap());
    Probe {
        delay: Duration::ZERO,
        period: seconds(&value["periodSeconds"]),
        successes: or("successThreshold", 1),
        failures: or("failureThreshold", 3),
    }
}

impl Recording {
    fn spec(&self) -> Spec {
        let spec = &self.json["spec"];
        let rolling =
            || Strategy::Rolling { surge: amount(&spec["maxSurge"]), unavailable: amount(&spec["maxUnavailable"]) };
        Spec {
            template: Template(0),
            replicas: number(&spec["replicas"]),
            strategy: if spec["strategy"] == "Recreate" { Strategy::Recreate } else { rolling() },
            min_ready: seconds(&spec["minReadySeconds"]),
            deadline: Some(seconds(&spec["progressDeadlineSeconds"])),
            paused: false,
        }
    }

    fn versions(&self) -> Vec<Load> {
        let spec = &self.json["spec"];
        let load = seconds(&spec["load_s"]);
        let new = match spec["new_version_behaviour"].as_str().unwrap() {
            "ok" => Load::Serves(load),
            "never-ready" => Load::NeverReady(load),
            "crash" => Load::Crashes,
            other => panic!("{other}"),
        };
        // A third version, where there is one, is a good one.
        vec![Load::Serves(seconds(&spec["load_s_old"])), new, Load::Serves(load)]
    }

    fn actions(&self) -> Vec<Planned> {
        let actions = self.json["actions"].as_array().unwrap().iter();
        actions
            .map(|action| {
                let what = action["what"].as_str().unwrap();
                let act = match what.split(' ').collect::<Vec<_>>()[..] {
                    ["apply-rev2"] => Act::Update(1),
                    ["apply-rev3"] => Act::Update(2),
                    ["undo"] => Act::Undo,
                    ["pause"] => Act::Pause,
                    ["resume"] => Act::Resume,
                    ["scale", replicas] => Act::Scale(replicas.parse().unwrap()),
                    _ => panic!("{what}"),
                };
                Planned { at: seconds(&action["t"]), workload: 0, act }
            })
            .collect()
    }

    fn scenario(&self, phase: Phase) -> Scenario {
        let spec = &self.json["spec"];
        let probes = &spec["probes"];
        let workload = Workload {
            spec: self.spec(),
            start: Start::Running,
            versions: self.versions(),
            probes: Probes { startup: Some(probe(&probes["startup"])), readiness: Some(probe(&probes["readiness"])) },
            volumes: spec["service_account_token"].as_bool().unwrap(),
            stop: seconds(&spec["drain_s"]),
            needs: Needs::default(),
            asks: Vec::new(),
            budget: None,
        };
        Scenario { workloads: vec![workload], nodes: 1, gpus: 0, quota: Vec::new(), actions: self.actions(), phase }
    }

    /// What the cluster's clocks showed at the beginning: the wall clock, and when pods of the first revision, before
    /// that, became ready at a listing.
    fn phase(&self) -> Phase {
        let pods = self.json["pods"].as_array().unwrap().iter();
        let early = pods.filter(|pod| pod["ready"].as_f64().is_some_and(|ready| ready < 0.0));
        let waited = early.filter(|pod| pod["ready"].as_f64().unwrap() - pod["startup_passed"].as_f64().unwrap() > 0.1);
        let mut listings: Vec<f64> =
            waited.map(|pod| (pod["ready"].as_f64().unwrap() - 0.015).rem_euclid(1.0)).collect();
        listings.sort_by(f64::total_cmp);
        let listing =
            listings.get(listings.len() / 4).map_or(Phase::default().listing, |at| Duration::from_secs_f64(*at));
        Phase { listing, second: wall_clock(&self.json) }
    }

    /// When the Deployment said that its deadline had passed.
    fn deadline_at(&self) -> f64 {
        let mut events = self.json["events"].as_array().unwrap().iter();
        let late = events.find(|event| event["Progressing"] == "False/ProgressDeadlineExceeded");
        late.expect("the deadline passed")["t"].as_f64().unwrap()
    }

    /// Every new size of a ReplicaSet, in order.
    fn sizes(&self) -> Vec<(String, i64)> {
        let mut events: Vec<&Value> =
            self.json["events"].as_array().unwrap().iter().filter(|event| event["k"] == "rs").collect();
        events.sort_by_key(|event| event["rv"].as_i64());
        let mut last = vec![("old".to_owned(), self.json["spec"]["replicas"].as_i64().unwrap())];
        let mut sizes = Vec::new();
        for event in events {
            let size = (event["rev"].as_str().unwrap().to_owned(), event["spec"].as_i64().unwrap());
            if !last.contains(&size) {
                last.retain(|(rev, _)| *rev != size.0);
                last.push(size.clone());
                sizes.push(size);
            }
        }
        sizes
    }
}

fn sizes(outcome: &Outcome) -> Vec<(String, i64)> {
    let names = ["old", "new", "third"];
    let steps = outcome.steps.iter().filter_map(|step| match step.what {
        What::Sized { set, to, .. } => Some((names[set].to_owned(), i64::from(to))),
        _ => None,
    });
    steps.collect()
}

/// Recordings that took one turn more than another one that began just alike: where pods become ready within one turn of
/// the controller, chance decides whether it takes them in one step or in two.
const BY_CHANCE: [&str; 1] = ["r10-s25p-u25p-b"];

/// Whether `few` is `all` without some.
fn is_part<T: PartialEq>(few: &[T], all: &[T]) -> bool {
    let mut all = all.iter();
    few.iter().all(|one| all.any(|other| other == one))
}

fn is_near(outcome: &Outcome, recorded: &Value) -> bool {
    let (duration, recorded) = (outcome.duration.expect("it completes").as_secs_f64(), recorded.as_f64().unwrap());
    let off = (duration - recorded).abs();
    off <= 1.0 || off <= recorded / 10.0
}

fn assert_bounds(recording: &Recording, outcome: &Outcome) {
    let summary = &recording.json["summary"];
    let name = &recording.name;
    assert_eq!(outcome.min_available, number(&summary["min_available"]), "{name}: the lowest availability");
    assert_eq!(outcome.max_pods, number(&summary["max_pods_nonterminating"]), "{name}: the most pods");
    assert_eq!(
        outcome.max_pods_with_terminating,
        number(&summary["max_pods_total"]),
        "{name}: the most with ending ones"
    );
}

#[test]
fn every_recording_comes_out_with_its_bounds_its_sizes_and_its_duration() {
    let recordings = recordings();
    assert!(recordings.len() >= 22, "the recordings were found");
    for recording in recordings {
        let outcome = run(&recording.scenario(recording.phase()));
        assert_bounds(&recording, &outcome);
        let (played, recorded) = (sizes(&outcome), recording.sizes());
        let by_chance = BY_CHANCE.contains(&recording.name.as_str()) && is_part(&played, &recorded);
        assert!(played == recorded || by_chance, "{}: {played:?} for {recorded:?}", recording.name);
        let summary = &recording.json["summary"];
        match summary["result"].as_str().unwrap() {
            "complete" => {
                assert_eq!(outcome.end, End::Complete, "{}", recording.name);
                let recorded = &summary["duration_s"];
                assert!(is_near(&outcome, recorded), "{}: {:?} for {recorded} s", recording.name, outcome.duration);
            }
            "deadline" => {
                assert_eq!((outcome.end, outcome.duration), (End::Deadline, None), "{}", recording.name);
                let recorded = recording.deadline_at();
                let played = outcome.deadline.unwrap().as_secs_f64();
                assert!((played - recorded).abs() < 0.1, "{}: late at {played}, {recorded} recorded", recording.name);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn bounds_and_sizes_do_not_depend_on_what_nobody_can_know() {
    for recording in recordings() {
        let outcome = run(&recording.scenario(Phase::default()));
        assert_bounds(&recording, &outcome);
        assert!(is_part(&sizes(&outcome), &recording.sizes()), "{}", recording.name);
        if outcome.duration.is_some() {
            let recorded = &recording.json["summary"]["duration_s"];
            assert!(is_near(&outcome, recorded), "{}: {:?} for {recorded} s", recording.name, outcome.duration);
        }
    }
}

#[test]
fn the_last_pod_goes_when_it_went() {
    for recording in recordings() {
        let outcome = run(&recording.scenario(recording.phase()));
        let Some(recorded) = recording.json["summary"]["last_pod_gone_s"].as_f64() else {
            assert_eq!(outcome.last_gone, None, "{}", recording.name);
            continue;
        };
        let played = outcome.last_gone.unwrap().as_secs_f64();
        assert!((played - recorded).abs() < 1.2, "{}: {played} s for {recorded} s", recording.name);
    }
}
