//! The rollout as a drawing: pods over time, stacked by what they do, as plain SVG that any browser shows.

use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::group::groups;
use super::text::time;
use crate::rollout::Strategy;
use crate::rollout::simulation::View;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 52.0;
/// Of versions, the oldest first; they differ in lightness, too.
const COLOURS: [&str; 4] = ["#8fb3d9", "#1f6f5c", "#b5651d", "#6a4c93"];
const ENDING: &str = "#d0d0d0";
const POINTS: usize = 600;

/// One band of the stack.
struct Band {
    label: String,
    fill: String,
    /// Pods, at each of the times.
    values: Vec<i32>,
}

pub fn chart(plan: &Plan) -> String {
    let groups = groups(&plan.outcome.steps, Duration::from_millis(50), POINTS);
    let times: Vec<f64> = groups.iter().map(|group| group.at.as_secs_f64()).collect();
    let views: Vec<&[View]> = groups.iter().map(super::group::Group::after).collect();
    let bands = bands(plan, &views);
    let end = times.last().copied().unwrap_or(0.0).max(1.0) * 1.02;
    let most = views.iter().map(|sets| sets.iter().map(|view| view.pods + view.terminating).sum::<i32>()).max();
    let frame = Frame { end, most: f64::from(most.unwrap_or(0).max(1)) * 1.08 };
    let mut out = String::new();
    let _ = writeln!(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">");
    let _ = writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>");
    out += &hatches();
    out += &head(plan, &bands);
    out += &frame.axes();
    out += &frame.stack(&times, &bands);
    out += &frame.promise(plan);
    out + "</svg>\n"
}

/// Ready pods of each version, then those that start, then those that end.
fn bands(plan: &Plan, views: &[&[View]]) -> Vec<Band> {
    let sets = views.last().map_or(0, |sets| sets.len());
    let values = |part: &dyn Fn(&[View]) -> i32| views.iter().map(|sets| part(sets)).collect::<Vec<i32>>();
    let mut bands = Vec::new();
    for set in 0..sets {
        let ready = values(&|sets| sets.get(set).map_or(0, |view| view.ready));
        bands.push(Band { label: format!("{} ready", plan.set(set)), fill: COLOURS[set % COLOURS.len()].to_owned(), values: ready });
    }
    for set in 0..sets {
        let starting = values(&|sets| sets.get(set).map_or(0, |view| view.pods - view.ready));
        let fill = format!("url(#starting{})", set % COLOURS.len());
        bands.push(Band { label: format!("{} starting", plan.set(set)), fill, values: starting });
    }
    let ending = values(&|sets| sets.iter().map(|view| view.terminating).sum());
    bands.push(Band { label: "ending".to_owned(), fill: ENDING.to_owned(), values: ending });
    bands.retain(|band| band.values.iter().any(|value| *value > 0));
    bands
}

fn hatches() -> String {
    let mut out = "<defs>\n".to_owned();
    for (number, colour) in COLOURS.iter().enumerate() {
        let _ = writeln!(
            out,
            "<pattern id=\"starting{number}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#ffffff\"/><rect width=\"3\" height=\"6\" fill=\"{colour}\"/></pattern>"
        );
    }
    out + "</defs>\n"
}

fn head(plan: &Plan, bands: &[Band]) -> String {
    let names: Vec<&str> = plan.deployments.iter().map(|told| told.name.as_str()).collect();
    let end = match (plan.outcome.duration, plan.outcome.deadline) {
        (Some(duration), None) => format!("complete after {}", time(duration)),
        (_, Some(deadline)) => format!("its deadline passes after {}", time(deadline)),
        (None, None) => "it does not complete".to_owned(),
    };
    let title = format!("{}: {end}, never fewer than {} available", names.join(" and "), plan.outcome.min_available);
    let mut out = format!("<text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{}</text>\n", escaped(&title));
    let mut x = LEFT;
    for band in bands {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.0}\" y=\"42\" width=\"14\" height=\"14\" fill=\"{}\" stroke=\"#666666\" stroke-width=\"0.5\"/><text x=\"{:.0}\" y=\"54\">{}</text>",
            band.fill,
            x + 20.0,
            escaped(&band.label)
        );
        let width = u32::try_from(band.label.chars().count()).unwrap_or(0);
        x += 44.0 + 7.4 * f64::from(width);
    }
    out
}

struct Frame {
    /// Seconds, and pods, at the far ends.
    end: f64,
    most: f64,
}

impl Frame {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, pods: f64) -> f64 {
        HEIGHT - BOTTOM - pods / self.most * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self) -> String {
        let mut out = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for pods in ticks(self.most, true) {
            let y = self.y(pods);
            let _ = writeln!(out, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e6e6e6\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{pods}</text>", LEFT - 8.0, y + 4.5);
        }
        for seconds in ticks(self.end, false) {
            let x = self.x(seconds);
            let _ = writeln!(out, "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#333333\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 5.0, bottom + 20.0, (seconds * 10.0).round() / 10.0);
        }
        let _ = writeln!(out, "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"#333333\"/>");
        let _ = writeln!(out, "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">seconds since it was applied</text>", f64::midpoint(LEFT, right), HEIGHT - 12.0);
        let middle = f64::midpoint(TOP, bottom);
        let _ = writeln!(out, "<text x=\"18\" y=\"{middle:.0}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {middle:.0})\">pods</text>");
        out
    }

    /// Bands on each other, in steps: a number holds until the next one.
    fn stack(&self, times: &[f64], bands: &[Band]) -> String {
        let mut out = String::new();
        let mut below = vec![0; times.len()];
        for band in bands {
            let above: Vec<i32> = below.iter().zip(&band.values).map(|(below, value)| below + value).collect();
            let mut points = self.outline(times, &above);
            points.extend(self.outline(times, &below).into_iter().rev());
            let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(out, "<polygon points=\"{}\" fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"0.5\"/>", points.join(" "), band.fill);
            below = above;
        }
        out
    }

    fn outline(&self, times: &[f64], values: &[i32]) -> Vec<(f64, f64)> {
        let ends = times.iter().copied().skip(1).chain([self.end]);
        let steps = times.iter().zip(ends).zip(values);
        steps.flat_map(|((from, to), value)| [(self.x(*from), self.y(f64::from(*value))), (self.x(to), self.y(f64::from(*value)))]).collect()
    }

    fn promise(&self, plan: &Plan) -> String {
        let [only] = &plan.scenario.workloads[..] else { return String::new() };
        if only.spec.strategy == Strategy::Recreate {
            return String::new();
        }
        let mut out = String::new();
        for (pods, label) in [(only.spec.least(), "promised"), (only.spec.most(), "at most")] {
            let (y, right) = (self.y(f64::from(pods)), WIDTH - RIGHT);
            let _ = writeln!(out, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#c0392b\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"/><text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#c0392b\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{label}: {pods}</text>", y - 5.0);
        }
        out
    }
}

/// About six round numbers from 0 to `end`.
fn ticks(end: f64, whole: bool) -> Vec<f64> {
    let rough = end / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(rough);
    let step = if whole { step.max(1.0) } else { step };
    (0..20).map(|number| f64::from(number) * step).take_while(|tick| *tick <= end).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
