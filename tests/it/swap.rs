//! A new version takes the old one's place while clients ask: nobody is lost, and a candidate that is not fit changes
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::client::{self, Connection};
use crate::models::{Repository, ask, computed_by, described, index, order, posting, weights, without_golden};
use crate::support::{ANY_PORT, OverAtEnd, Server, Turn, poll};

/// Does `work` while a client asks for /ready again and again; every answer must be 200.
fn ready_throughout<T>(server: &Server<'_>, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = OverAtEnd(&done);
        let probes = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) || asked == 0 {
                let answer = client::get(server.address, "/ready");
                assert_eq!(answer.status, 200, "{}", answer.text());
                asked += 1;
            }
        });
        let result = work();
        drop(over);
        probes.join().unwrap();
        result
    })
}

#[test]
fn twenty_swaps_under_load_lose_no_request_and_leave_no_version_behind() {
    const CLIENTS: usize = 4;
    const LAST: u32 = 21;
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    let (done, seen) = (AtomicBool::new(false), Mutex::new(BTreeMap::<u32, (String, usize)>::new()));
    let keep_asking = || {
        let mut connection = Connection::open(server.address).unwrap();
        while !done.load(Ordering::Relaxed) {
            let answer = connection.ask(&posting("/predict", &[], client::SAMPLE)).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let version = computed_by(&answer);
            assert_eq!(answer.json()["version"], version.to_string());
            assert_eq!(answer.header("torchpod-model-version"), Some(version.to_string().as_str()));
            let digest = answer.header("torchpod-model-digest").unwrap().to_owned();
            let mut seen = seen.lock().unwrap();
            let known = seen.entry(version).or_insert_with(|| (digest.clone(), 0));
            assert_eq!(known.0, digest, "one version, one digest");
            known.1 += 1;
        }
    };
    let (mut early, mut swaps) = (0, Vec::new());
    ready_throughout(&server, || {
        thread::scope(|scope| {
            let over = OverAtEnd(&done);
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(keep_asking)).collect();
            for version in 2..=LAST {
                repository.add("digits", version);
                let asked = Instant::now();
                let answer = order(server.probe, "load", "digits");
                swaps.push(asked.elapsed());
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(client::get(server.address, "/").text(), format!("digits@{version}\n"));
                // Whoever asks from now on is answered by the new version; each is to be seen at work.
                poll("the new version answers", || {
                    assert!(!clients.iter().any(thread::ScopedJoinHandle::is_finished), "a client's request failed");
                    seen.lock().unwrap().contains_key(&version)
                });
                if version == 5 {
                    early = server.resident();
                }
            }
            drop(over);
            for client in clients {
                client.join().unwrap();
            }
        });
    });
    let seen = seen.into_inner().unwrap();
    let digests: std::collections::BTreeSet<_> = seen.values().map(|(digest, _)| digest).collect();
    assert_eq!(digests.len(), seen.len(), "every version has a digest of its own: {seen:?}");
    let asked: usize = seen.values().map(|(_, count)| count).sum();
    swaps.sort();
    let grown = server.resident().saturating_sub(early) >> 10;
    println!(
        "{asked} requests by {} versions, a swap {:?}, {grown} KiB more after 16",
        seen.len(),
        swaps[swaps.len() / 2]
    );

    // The others are listed for as long as they are in memory.
    poll("the old versions are freed", || {
        index(server.address) == [(format!("digits@{LAST}"), "READY".to_owned(), String::new())]
    });
    assert!(grown < 32 << 10, "resident memory grew by {grown} KiB over 16 swaps");
    let metrics = client::get(server.address, "/metrics").text();
    let versions = metrics.lines().filter(|line| line.starts_with("torchpod_batch_rows_count{")).count();
    assert!(versions <= 10, "{versions} versions have series:\n{metrics}");
    let loads = client::metric(server.address, "torchpod_loads_total{outcome=\"ok\"}");
    assert_eq!(loads, Some(f64::from(LAST - 1)));
}

/// Orders a load that must fail, and leave version 1 serving.
fn load_in_vain(server: &Server<'_>, status: u16, says: &[&str]) {
    let answer = ready_throughout(server, || order(server.probe, "load", "digits"));
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    for part in says {
        assert!(error.contains(part), "{part:?} in {error:?}");
    }
    assert!(!error.contains("/tmp"), "no path leads out of the repository: {error:?}");
    let answer = ask(server.address, "/predict");
    assert_eq!((answer.status, &answer.json()["version"]), (200, &json!("1")));
    assert_eq!(client::get(server.address, "/health").status, 200);
}

#[test]
fn a_candidate_that_is_not_fit_is_refused_with_its_reason_and_changes_nothing() {
    let (turn, repository) = (Turn::shared(), Repository::empty());
    repository.describe("digits", &described());
    repository.put("digits", 1, &fs::read("models/digits/1/model.pt").unwrap());
    let server = turn.serve(&repository.explicit(&[]));

    let whole = weights(2);
    repository.put("digits", 2, &whole[..whole.len() / 2]);
    load_in_vain(&server, 500, &["digits@2", "TorchScript"]);
    let states = index(server.address);
    assert_eq!(states[0], ("digits@1".to_owned(), "READY".to_owned(), String::new()));
    assert!(states[1].0 == "digits@2" && states[1].1 == "UNAVAILABLE" && !states[1].2.is_empty(), "{states:?}");
    let verbose = client::get(server.address, "/ready?verbose").json();
    assert_eq!(verbose["verbose"]["models"][1]["state"], "UNAVAILABLE", "{verbose}");

    repository.put("digits", 2, &whole);
    load_in_vain(&server, 500, &["digits@2", "golden", "logits: element 0 is"]);

    repository.describe("digits", &described().replace("max_size = 32", "max_sise = 32"));
    load_in_vain(&server, 400, &["max_sise", "digits/model.toml"]);

    for (outcome, count) in [("failed", 2.0), ("bad_folder", 1.0), ("ok", 0.0)] {
        assert_eq!(
            client::metric(server.address, &format!("torchpod_loads_total{{outcome=\"{outcome}\"}}")),
            Some(count)
        );
    }
    repository.describe("digits", &without_golden());
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 2);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_served_under_the_digest_of_another() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "load-delay=500ms"]));
    let file = weights(3);
    repository.add("digits", 2);
    let says = ["digits@2", "its file changed while it was being read"];
    thread::scope(|scope| {
        let load = scope.spawn(|| load_in_vain(&server, 500, &says));
        while !load.is_finished() {
            repository.put("digits", 2, &file);
        }
        load.join().unwrap();
    });
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 3);
}

#[test]
fn a_candidate_that_hangs_is_given_up_and_later_ones_are_not() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let limits = ["--chaos", "candidate-hang=1", "--load-timeout", "2s", "--stall-limit", "500ms"];
    let server = turn.serve(&repository.explicit(&limits));
    repository.add("digits", 2);
    load_in_vain(&server, 504, &["digits", "--load-timeout 2s", "given up"]);
    assert!(!server.log.text().contains("\"hung\""), "a candidate is no fault: {}", server.log.text());
    server.log.wait_for("a word of it", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("load given up"))
    });
    assert_eq!(client::metric(server.address, "torchpod_stuck_loads"), Some(1.0));
    assert_eq!(client::metric(server.address, "torchpod_loads_total{outcome=\"timed_out\"}"), Some(1.0));
    let answer = ready_throughout(&server, || order(server.probe, "load", "digits"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(computed_by(&ask(server.address, "/predict")), 2);
}

#[test]
fn only_what_has_changed_is_loaded_again() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    let reads = || server.log.text().matches("\"model read\"").count();
    assert_eq!((order(server.probe, "load", "digits").status, reads()), (200, 1), "nothing has changed");

    // Other weights under the same number.
    repository.put("digits", 1, &weights(7));
    assert_eq!((order(server.probe, "load", "digits").status, reads()), (200, 2));
    let answer = ask(server.address, "/predict/digits/1");
    assert_eq!((computed_by(&answer), answer.header("torchpod-model-version")), (7, Some("1")));

    // Another description of the same weights.
    repository.describe("digits", &without_golden().replace("scores = \"softmax\"", "scores = \"none\""));
    assert_eq!((order(server.probe, "load", "digits").status, reads()), (200, 3));
    assert!(ask(server.address, "/predict").json()["predictions"][0]["score"].as_f64().unwrap() > 1.0);

    // One version more is no reason to read its neighbour again.
    let toml = fs::read_to_string(repository.folder("digits").join("model.toml")).unwrap();
    repository.describe("digits", &format!("versions = \"all\"\n{toml}"));
    repository.add("digits", 2);
    assert_eq!((order(server.probe, "load", "digits").status, reads()), (200, 4));
    assert_eq!([1, 2].map(|version| computed_by(&ask(server.address, &format!("/predict/digits/{version}")))), [7, 2]);

    // A model that nothing describes.
    repository.add("plain", 1);
    assert_eq!((order(server.probe, "load", "plain").status, reads()), (200, 5));
    assert_eq!((order(server.probe, "load", "plain").status, reads()), (200, 5));
}

#[test]
fn a_version_whose_folder_is_gone_gives_its_place_back() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&[]));
    repository.add("digits", 2);
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    fs::remove_dir_all(repository.folder("digits").join("2")).unwrap();
    assert_eq!(computed_by(&ask(server.address, "/predict")), 2, "what is in memory serves on");
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 1);
    fs::remove_dir_all(repository.folder("digits")).unwrap();
    assert_eq!(order(server.probe, "load", "digits").status, 404);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 1);
}

#[test]
fn a_single_file_is_loaded_again_by_the_name_that_it_has() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let file = repository.folder("digits").join("1/model.pt");
    let server = turn.serve(&[file.to_str().unwrap(), "--model-control", "explicit", "--probe-listen", ANY_PORT]);
    repository.put("digits", 1, &weights(7));
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    assert_eq!(computed_by(&ask(server.address, "/predict")), 7);
}

#[test]
fn a_request_that_is_being_computed_ends_on_the_version_that_it_began_with() {
    let (turn, repository) = (Turn::shared(), Repository::of("digits"));
    let server = turn.serve(&repository.explicit(&["--chaos", "batch-delay=3s"]));
    let mut slow = Connection::open(server.address).unwrap();
    slow.send(&posting("/predict", &[], client::SAMPLE)).unwrap();
    poll("it is in flight", || crate::probes::in_flight(&server) == 1);
    repository.add("digits", 2);
    assert_eq!(order(server.probe, "load", "digits").status, 200);
    let states = index(server.address);
    let expected = [("digits@1", "UNLOADING"), ("digits@2", "READY")];
    let got: Vec<_> = states.iter().map(|(id, state, _)| (id.as_str(), state.as_str())).collect();
    assert_eq!(got, expected, "the old one is there for as long as it computes");
    let answer = slow.answer().unwrap();
    assert_eq!((answer.status, computed_by(&answer), answer.header("torchpod-model-version")), (200, 1, Some("1")));
    poll("the old one is freed", || index(server.address).len() == 1);
}
