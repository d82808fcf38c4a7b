//! The strategies in `k8s/`: what they promise is what comes out.

use serde_json::{Value, json};

use crate::command::{rendered, text, told};

fn of(name: &str) -> Value {
    told(&[rendered(name).to_str().unwrap(), "--load-time", "20s"], "")
}

fn assert_fields(told: &Value, fields: &[(&str, i32)]) {
    for (key, value) in fields {
        assert_eq!(told[key], *value, "{key}");
    }
    assert_eq!(told["outcome"], "complete");
}

#[test]
fn the_default_rollout_stays_between_nine_and_twelve_pods() {
    let fields = [("min_available", 9), ("max_pods", 12), ("least_promised", 9), ("most_promised", 12)];
    assert_fields(&of("strategy-rolling"), &fields);
}

#[test]
fn the_conservative_rollout_never_has_fewer_than_ten() {
    assert_fields(&of("strategy-rolling-conservative"), &[("min_available", 10), ("max_pods", 11)]);
}

#[test]
fn the_aggressive_rollout_is_faster_and_thinner() {
    let aggressive = of("strategy-rolling-aggressive");
    assert_fields(&aggressive, &[("min_available", 8), ("max_pods", 13)]);
    let duration = |told: &Value| told["duration_s"].as_f64().unwrap();
    let (rolling, conservative) = (of("strategy-rolling"), of("strategy-rolling-conservative"));
    assert!(duration(&aggressive) < duration(&rolling) && duration(&rolling) < duration(&conservative));
}

#[test]
fn recreate_has_a_gap_of_a_drain_and_a_load() {
    let told = of("strategy-recreate");
    assert_fields(&told, &[("min_available", 0), ("max_pods", 3)]);
    let gap = told["gap_s"].as_f64().unwrap();
    // 5 s of preStop, 20 s of loading, and up to 10 s until two readiness probes have passed.
    assert!((25.0..37.0).contains(&gap), "{gap}");
}

#[test]
fn green_is_made_beside_blue_and_gets_no_request() {
    let told = of("strategy-blue-green");
    assert_fields(&told, &[("min_available", 3), ("max_pods", 6)]);
    let last = &told["traffic"].as_array().unwrap().last().unwrap()["shares"];
    assert_eq!(*last, json!([{"name": "blue", "share": 1.0}, {"name": "green", "share": 0.0}]));
}

#[test]
fn one_canary_beside_nine_gets_a_tenth_and_then_what_one_scales_it_to() {
    let told = of("strategy-canary");
    assert_fields(&told, &[("min_available", 9), ("max_pods", 10)]);
    let last = |told: &Value| told["traffic"].as_array().unwrap().last().unwrap()["shares"].clone();
    assert_eq!(last(&told), json!([{"name": "stable", "share": 0.9}, {"name": "canary", "share": 0.1}]));
    let path = rendered("strategy-canary");
    let steps = ["--at", "60s=ml-model-stable/scale:6", "--at", "60s=ml-model-canary/scale:2"];
    let arguments = [&[path.to_str().unwrap(), "--load-time", "20s"], &steps[..]].concat();
    let text = text(&arguments, "");
    assert!(text.contains("canary answers 10 % from 30.1 s, 14 % from 60.0 s, 25 % from 90.1 s"), "{text}");
    let told = crate::command::told(&arguments, "");
    assert_eq!(last(&told), json!([{"name": "stable", "share": 0.75}, {"name": "canary", "share": 0.25}]));
}

#[test]
fn every_strategy_and_the_tutorial_can_be_planned() {
    for name in ["strategy-canary-flagger", "tutorial"] {
        let text = text(&[rendered(name).to_str().unwrap(), "--load-time", "5s"], "");
        assert!(text.contains("complete     after"), "{name}: {text}");
    }
}
