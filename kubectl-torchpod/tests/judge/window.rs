//! What pods say, and what becomes of it in a window.

use kubectl_torchpod::judge::{Reading, Seen, Tally, Unreadable, What, Window};

/// Of a server that has answered five requests with a result, by two protocols, and rejected one.
const PAGE: &str = include_str!("../data/metrics.txt");

fn page(text: &str) -> Result<Reading, String> {
    Reading::parse(text).map_err(|why| why.to_string())
}

/// A page after so many results and failures.
fn counted(ok: u32, failed: u32) -> String {
    format!(
        "torchpod_phase{{phase=\"serving\"}} 1\n\
         torchpod_requests_total{{model=\"m\",version=\"1\",outcome=\"ok\"}} {ok}\n\
         torchpod_requests_total{{model=\"m\",version=\"1\",outcome=\"server_error\"}} {failed}\n"
    )
}

fn seen(name: &str, text: &str) -> Seen {
    Seen { uid: format!("uid of {name}"), name: name.to_owned(), page: page(text) }
}

fn silent(name: &str) -> Seen {
    Seen { page: Err("no route to host".to_owned()), ..seen(name, PAGE) }
}

fn tally(rounds: Vec<Vec<Seen>>) -> Tally {
    let mut window = Window::default();
    for round in rounds {
        window.round(round);
    }
    window.tally()
}

#[test]
fn a_servers_page_is_read_by_outcome_and_by_time() {
    let later = PAGE
        .replace("\"predict\",outcome=\"ok\"} 3", "\"predict\",outcome=\"ok\"} 10")
        .replace("\"predict\",outcome=\"server_error\"} 0", "\"predict\",outcome=\"server_error\"} 3")
        .replace("\"v2\",outcome=\"refused\"} 0", "\"v2\",outcome=\"refused\"} 1")
        .replace("\"grpc\",outcome=\"deadline\"} 0", "\"grpc\",outcome=\"deadline\"} 1")
        .replace("\"v1\",outcome=\"client_error\"} 1", "\"v1\",outcome=\"client_error\"} 5")
        .replace(
            "duration_seconds_bucket{model=\"digits\",version=\"1\",le=\"+Inf\"} 6",
            "duration_seconds_bucket{model=\"digits\",version=\"1\",le=\"+Inf\"} 22",
        )
        .replace(
            "request_duration_seconds_bucket{model=\"digits\",version=\"1\",le=\"30\"} 6",
            "request_duration_seconds_bucket{model=\"digits\",version=\"1\",le=\"30\"} 21",
        );
    let tally = tally(vec![vec![seen("a", PAGE)], vec![seen("a", &later)]]);
    assert_eq!(tally.faults, []);
    let all = tally.all;
    let of = |share: kubectl_torchpod::judge::Share| (share.count, share.of);
    assert_eq!((of(all.failed), of(all.unserved), of(all.rejected)), ((3, 12), (2, 12), (4, 16)));
    assert_eq!(of(all.slower[&30_000_000_000]), (1, 16));
    assert_eq!(of(all.slower[&50_000]), (16, 16));
    assert_eq!(all.slower.len(), 19, "the endless bound is none");
    assert_eq!(tally.models["digits"].failed.count, 3);
}

#[test]
fn what_is_no_page_of_ours_is_refused_with_its_line() {
    assert_eq!(Reading::parse("<html>502 Bad Gateway</html>"), Err(Unreadable::Foreign));
    assert_eq!(Reading::parse(""), Err(Unreadable::Foreign));
    let bucket = |le, count| {
        format!(
            "torchpod_phase 1\ntorchpod_request_duration_seconds_bucket{{model=\"m\",version=\"1\",le=\"{le}\"}} {count}\n"
        )
    };
    let total = |count| format!("torchpod_phase 1\ntorchpod_requests_total{{outcome=\"ok\"}} {count}\n");
    for text in [bucket("soon", 1), bucket("-1", 1), bucket("0.1", -1), total("-3"), total("1.5e300"), total("")] {
        match Reading::parse(&text) {
            Err(Unreadable::Line { line: 2, .. }) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    let falling = bucket("0.1", 5) + &bucket("0.2", 4);
    assert!(matches!(Reading::parse(&falling), Err(Unreadable::Line { line: 4, .. })));
}

#[test]
fn a_pod_counts_from_its_first_page_on() {
    let rounds = vec![
        vec![seen("a", &counted(100, 7))],
        vec![seen("a", &counted(110, 8)), seen("b", &counted(1000, 500))],
        vec![seen("a", &counted(120, 8)), seen("b", &counted(1010, 500))],
    ];
    let all = tally(rounds).all.failed;
    assert_eq!((all.count, all.of, all.slices), (1, 31, 3));
}

#[test]
fn a_version_that_comes_counts_from_its_start_and_one_that_goes_is_no_restart() {
    let second = counted(4, 1).replace("version=\"1\"", "version=\"2\"");
    let both = counted(12, 0) + &second;
    let rounds = vec![vec![seen("a", &counted(10, 0))], vec![seen("a", &both)], vec![seen("a", &second)]];
    let tally = tally(rounds);
    assert_eq!((tally.all.failed.count, tally.all.failed.of), (1, 7));
    assert_eq!(tally.faults, []);
}

#[test]
fn a_pod_that_restarts_vanishes_or_is_silent_is_named() {
    let (before, after, zero) = (counted(100, 0), counted(110, 0), counted(3, 0));
    let table = [
        (vec![vec![seen("a", &before)], vec![seen("a", &zero)]], vec![("a", What::Restarted)], 0),
        // What it does after that counts again.
        (
            vec![vec![seen("a", &before)], vec![seen("a", &zero)], vec![seen("a", &before)]],
            vec![("a", What::Restarted)],
            97,
        ),
        (vec![vec![seen("a", &before)], vec![]], vec![("a", What::Vanished)], 0),
        (vec![vec![silent("a")], vec![]], vec![("a", What::Vanished)], 0),
        (
            vec![vec![seen("a", &before)], vec![silent("a")]],
            vec![("a", What::Silent("no route to host".to_owned()))],
            0,
        ),
        // Once is none, if it has counted on.
        (vec![vec![seen("a", &before)], vec![silent("a")], vec![seen("a", &after)]], vec![], 10),
        (vec![vec![seen("a", &before)], vec![silent("a")], vec![seen("a", &zero)]], vec![("a", What::Restarted)], 0),
        (vec![vec![seen("a", &before), seen("b", &before)], vec![seen("b", &after)]], vec![("a", What::Vanished)], 10),
    ];
    for (rounds, expected, requests) in table {
        let told = format!("{rounds:?}");
        let tally = tally(rounds);
        let faults: Vec<_> = tally.faults.iter().map(|fault| (fault.pod.as_str(), fault.what.clone())).collect();
        assert_eq!((faults, tally.all.failed.of), (expected, requests), "{told}");
    }
}

#[test]
fn a_pod_of_the_same_name_is_another_one() {
    let reborn = Seen { uid: "another".to_owned(), ..seen("a", &counted(500, 0)) };
    let tally = tally(vec![vec![seen("a", &counted(100, 0))], vec![reborn]]);
    assert_eq!((tally.faults.len(), tally.all.failed.of), (1, 0));
}

#[test]
fn a_tally_is_the_same_after_it_was_written_and_read() {
    let rounds = (1..30).map(|round| vec![seen("a", &counted(10 * round, round / 7)), seen("b", PAGE)]).collect();
    let tally = tally(rounds);
    let text = serde_json::to_string(&tally).unwrap();
    assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    assert!(text.len() < 8192, "it fits into an annotation with room to spare: {} bytes", text.len());
}
