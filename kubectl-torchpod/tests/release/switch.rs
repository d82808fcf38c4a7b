//! What a cutover decides, row by row.

use std::time::Duration;

use kubectl_torchpod::release::cutover::{Action, Front, Plan, Seen, back, next, switch};

use crate::world::{NEW, OLD, now, track};

fn seen() -> Seen {
    let front = Front {
        service: "web".to_owned(),
        version: "7".to_owned(),
        key: "version".to_owned(),
        value: "blue".to_owned(),
        previous: None,
        moved: None,
    };
    Seen {
        front,
        to: "green".to_owned(),
        new: track("web-green", NEW, 3),
        old: Some(track("web-blue", OLD, 3)),
        smoke: Some(Ok("answers".to_owned())),
        endpoints: (3, 0),
        idle: None,
        was_selected: false,
    }
}

fn plan() -> Plan {
    Plan { may_be_fewer: false, retire: None, cause: "kubectl torchpod cutover web --to green".to_owned() }
}

fn with(edit: impl FnOnce(&mut Seen)) -> Seen {
    let mut seen = seen();
    edit(&mut seen);
    seen
}

/// After the patch.
fn selected(edit: impl FnOnce(&mut Seen)) -> Seen {
    with(|seen| {
        (seen.front.value, seen.front.previous) = ("green".to_owned(), Some("blue".to_owned()));
        edit(seen);
    })
}

fn told(seen: &Seen, plan: &Plan) -> String {
    match next(seen, plan, now()) {
        Action::Smoke => "smoke".to_owned(),
        Action::WatchOld => "watch the old one".to_owned(),
        Action::Select { what, .. } | Action::Retire { what, .. } => what,
        Action::Wait(text) => format!("wait: {text}"),
        Action::End(text) => format!("end: {text}"),
        Action::Refuse(why) => format!("refuse: {why}"),
    }
}

#[test]
fn nobody_is_sent_to_what_is_not_complete_or_does_not_answer() {
    for (seen, expected) in [
        (with(|seen| seen.new.ready = 2), "refuse: web-green has 2 of 3 pods ready"),
        (with(|seen| seen.new.is_settled = false), "refuse: web-green has 3 of 3 pods ready"),
        (with(|seen| (seen.new.size, seen.new.ready) = (0, 0)), "refuse: web-green has 0 of 0 pods ready"),
        (with(|seen| (seen.new.size, seen.new.ready) = (2, 2)), "refuse: web-green has 2 pods, and web-blue has 3"),
        (with(|seen| seen.smoke = None), "smoke"),
        (with(|seen| seen.smoke = Some(Err("500".to_owned()))), "refuse: web-green does not answer as it should: 500"),
        (with(|seen| seen.was_selected = true), "refuse: somebody made web select version=blue meanwhile"),
        (seen(), "web selects version=green, and no longer blue"),
    ] {
        let told = told(&seen, &plan());
        assert!(told.starts_with(expected), "{told}");
    }
    let fewer = with(|seen| (seen.new.size, seen.new.ready) = (2, 2));
    assert!(told(&fewer, &Plan { may_be_fewer: true, ..plan() }).starts_with("web selects version=green"));
}

#[test]
fn it_is_done_once_only_new_pods_are_behind_it_and_the_old_ones_go_once_they_are_idle() {
    let retire = Plan { retire: Some(Duration::from_mins(1)), ..plan() };
    let idle = |seconds| selected(|seen| seen.idle = Some(Duration::from_secs(seconds)));
    for (seen, plan, expected) in [
        (selected(|seen| seen.endpoints = (2, 0)), plan(), "wait: web: 2 of 3 new endpoints, 0 old ones"),
        (selected(|seen| seen.endpoints = (3, 1)), plan(), "wait: web: 3 of 3 new endpoints, 1 old ones"),
        (selected(|_| ()), plan(), "end: web sends to web-green (version=green); web-blue keeps its 3 pods"),
        (selected(|_| ()), retire.clone(), "watch the old one"),
        (idle(59), retire.clone(), "watch the old one"),
        (idle(60), retire.clone(), "web-blue: no request for 1m, 3 → 0"),
        (selected(|seen| seen.old.as_mut().unwrap().size = 0), retire, "end: web sends to web-green"),
        (selected(|seen| seen.old = None), plan(), "end: web sends to web-green"),
    ] {
        let told = told(&seen, &plan);
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn the_patch_is_one_and_remembers_the_way_back() {
    let Action::Select { body, .. } = next(&seen(), &plan(), now()) else { panic!() };
    assert_eq!(body["spec"]["selector"]["version"], "green");
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(body["metadata"]["annotations"]["torchpod.dev/previous"], "blue");
    assert_eq!(body["metadata"]["annotations"]["kubernetes.io/change-cause"], plan().cause);
}

#[test]
fn the_way_back_needs_somebody_there() {
    let (there, blue) = (selected(|_| ()), track("web-blue", OLD, 3));
    let (what, body) = back(&there.front, Some(&blue), "x", now()).unwrap();
    assert_eq!(what, "web selects version=blue again, and no longer green");
    assert_eq!(body["spec"]["selector"]["version"], "blue");
    let mut unready = blue.clone();
    unready.ready = 1;
    let gone = kubectl_torchpod::release::track::Track { size: 0, ready: 0, ..blue.clone() };
    for (front, old, hint) in [
        (&there.front, None, "there is no way back"),
        (&there.front, Some(&unready), "1 of 3 pods ready: bring it up first"),
        (&there.front, Some(&gone), "0 of 0 pods ready: bring it up first"),
        (&seen().front, Some(&blue), "was not cut over"),
    ] {
        let why = back(front, old, "x", now()).unwrap_err();
        assert!(why.contains(hint), "{why}");
    }
}

#[test]
fn one_label_that_differs_is_the_switch() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let green = labels(&[("app", "web"), ("version", "green")]);
    for (selector, expected) in [
        (labels(&[("app", "web"), ("version", "blue")]), Some("version")),
        (labels(&[("version", "blue")]), Some("version")),
        (labels(&[("app", "web")]), None),
        (labels(&[("app", "db"), ("version", "blue")]), None),
        (labels(&[("app", "web"), ("color", "blue")]), None),
    ] {
        assert_eq!(switch(&selector, &green).as_deref(), expected, "{selector:?}");
    }
}
