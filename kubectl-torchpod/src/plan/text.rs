//! For people: the picture, line by line, and what it comes to.

use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::group::{Group, groups};
use super::traffic::{Share, shares};
use crate::rollout::Strategy;
use crate::rollout::simulation::{Start, View};

/// Lines of the picture, at most.
const LINES: usize = 40;
/// How long a share has to hold to be told.
const LASTING: Duration = Duration::from_secs(1);
/// Pods up to which each one is drawn.
const DRAWN: i32 = 14;

pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for told in &plan.deployments {
        let pods = if told.pods == 1 { "1 pod" } else { &format!("{} pods", told.pods) };
        let _ = writeln!(out, "Deployment/{}: {pods}, {}", told.name, told.strategy);
    }
    out += "[ready]  (starting)  [X] ending\n\n";
    let groups = groups(&plan.outcome.steps, Duration::from_millis(250), LINES);
    let drawn: Vec<(String, &Group<'_>)> = groups.iter().map(|group| (picture(plan, group.after()), group)).collect();
    let width = drawn.iter().map(|(picture, _)| picture.chars().count()).max().unwrap_or(0);
    for (picture, group) in drawn {
        let line = format!("{:>11}  {picture:width$}  {}", time(group.at), group.words(plan).join(", "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push('\n');
    out + &summary(plan)
}

/// Every pod: ready, starting, ending.
fn picture(plan: &Plan, sets: &[View]) -> String {
    let all: i32 = sets.iter().map(|view| view.pods + view.terminating).sum();
    let mut parts = Vec::new();
    let mut draw = |text: String, count: i32| match count {
        ..=0 => {}
        _ if all <= DRAWN => parts.extend((0..count).map(|_| text.clone())),
        _ => parts.push(format!("{text}×{count}")),
    };
    for view in sets {
        let name = plan.version(view.deployment, view.template.0);
        draw(format!("[{name}]"), view.ready);
        draw("[X]".to_owned(), view.terminating);
        draw(format!("({name})"), view.pods - view.ready);
    }
    if parts.is_empty() { "no pods".to_owned() } else { parts.join(" ") }
}

fn summary(plan: &Plan) -> String {
    let outcome = &plan.outcome;
    let wanted: i32 =
        plan.scenario.workloads.iter().filter(|one| one.start == Start::Running).map(|one| one.spec.replicas).sum();
    let mut out = String::new();
    let mut line = |label: &str, text: String| {
        let _ = writeln!(out, "{label:<13}{text}");
    };
    let gone = outcome.last_gone.map_or(String::new(), |at| format!(", the last old pod is gone after {}", time(at)));
    match (outcome.duration, outcome.deadline) {
        (Some(duration), None) => line("complete", format!("after {}{gone}", time(duration))),
        (Some(duration), Some(late)) => {
            line(
                "too late",
                format!("the deadline passes after {}, complete after {}{gone}", time(late), time(duration)),
            );
        }
        (None, Some(late)) => {
            line(plan.end(), format!("it does not complete; the deadline passes after {}", time(late)));
        }
        (None, None) => line(plan.end(), "it does not complete".to_owned()),
    }
    let mean = format!("{:.1} in the mean", outcome.mean_available);
    line("available", format!("never fewer than {} of {wanted}, {mean}{}", outcome.min_available, promise(plan)));
    let gap = super::traffic::gap(plan);
    if !gap.is_zero() {
        line("gap", format!("{} in which no pod is ready", time(gap)));
    }
    let ending = outcome.max_pods_with_terminating;
    line("pods", format!("at most {}, with those that are ending {ending}", outcome.max_pods));
    if outcome.max_gpus > 0 {
        line("GPUs", format!("at most {} in use", outcome.max_gpus));
    }
    line("requests", requests(plan));
    for note in &plan.notes {
        line("note", note.clone());
    }
    out
}

/// What the strategy promises, where one version follows another in the same Deployment.
fn promise(plan: &Plan) -> String {
    match &plan.scenario.workloads[..] {
        [only] if matches!(only.spec.strategy, Strategy::Rolling { .. }) => {
            format!(" (promised: {} to {} pods)", only.spec.least(), only.spec.most())
        }
        _ => String::new(),
    }
}

/// How requests move to the new version, at the quarters or, of a canary, at every change.
fn requests(plan: &Plan) -> String {
    let shares = shares(plan);
    let last = shares.last().map_or(0, |share| share.parts.len());
    let newest = last.saturating_sub(1);
    let part = |share: &Share| share.parts.get(newest).copied().unwrap_or(0.0);
    let name = plan.set(newest);
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    if shares.iter().all(|share| part(share) == 0.0) {
        let who = if last > 1 { format!("{name} gets none") } else { "as before".to_owned() };
        return who + if plan.deployments.len() > 1 { ", until the Service selects it" } else { "" };
    }
    let mut told: Vec<String> = Vec::new();
    let mut tell = |share: &Share| told.push(format!("{} from {}", percent(part(share)), time(share.at)));
    if plan.deployments.len() > 1 {
        settled(&shares).into_iter().filter(|share| part(share) > 0.0).for_each(&mut tell);
    } else {
        let mut next = 0.25;
        for share in &shares {
            if part(share) >= next {
                tell(share);
                next = ((part(share) / 0.25).floor() + 1.0) * 0.25;
            }
        }
    }
    if told.is_empty() {
        // It stopped before a quarter.
        return format!("{name} answers {} at the end", percent(shares.last().map_or(0.0, part)));
    }
    format!("{name} answers {}", told.join(", "))
}

/// Those that last, of changes that come in quick succession.
fn settled(shares: &[Share]) -> Vec<&Share> {
    let ends = shares.iter().skip(1).map(|share| share.at).chain([Duration::MAX]);
    let lasting = shares.iter().zip(ends).filter(|(share, end)| end.saturating_sub(share.at) >= LASTING);
    lasting.map(|(share, _)| share).collect()
}

/// Seconds with a tenth, or minutes and hours, where there are many.
pub(super) fn time(at: Duration) -> String {
    let seconds = at.as_secs();
    match seconds {
        0..600 => format!("{:.1} s", at.as_secs_f64()),
        600..7_200 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}
