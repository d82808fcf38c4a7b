//! One replica, whole: what is the matter first, then the phase, the probes, the load, and what there may be much of.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::table::figure;
use super::{Pen, chart, ends, flow, lines, lists, machine, split};
use crate::top::column::pass_sign;
use crate::top::ink::{self, Ink};
use crate::top::recent::Rates;
use crate::top::replica::{Condition, Replica};
use crate::top::state::{Probe, State};
use crate::top::text;

/// From this width on, things stand side by side.
const WIDE: usize = 100;
/// From this height on, the state machine is drawn with boxes, and there is air between the parts.
const TALL: u16 = 30;
/// The least that is kept for models, dependencies and transitions.
const LISTS: u16 = 5;
/// The highest that bars become.
const BARS: u16 = 6;

/// A replica that has told something, and how it is drawn.
struct Page<'a> {
    replica: &'a Replica,
    state: &'a State,
    ink: Ink,
    now: Duration,
    width: usize,
}

/// Returns how many lines can be scrolled away.
pub(super) fn draw(replica: &Replica, scroll: usize, pen: Pen, area: Rect, buffer: &mut Buffer) -> usize {
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let (Pen { ink, now }, width) = (pen, usize::from(area.width));
    let Some(state) = replica.state() else {
        lines(&unknown(replica, pen, width), area, buffer);
        return 0;
    };
    Page { replica, state, ink, now, width }.draw(scroll, area, buffer)
}

/// Of a replica that has told nothing so far.
fn unknown(replica: &Replica, Pen { ink, now }: Pen, width: usize) -> Vec<Line<'static>> {
    let style = ink.condition(replica.condition());
    let sign = Span::styled(format!("{} ", replica.condition().sign()), style);
    let mut lines = vec![Line::from(vec![sign, Span::styled(text::plain(&replica.name), ink::strong())])];
    let why = replica.silence().map_or("Asked, and not answered yet.".to_owned(), |silence| {
        let lasted = text::lasted(now.saturating_sub(silence.since).as_secs_f64());
        format!("No answer so far, for {lasted}: {}.", silence.why)
    });
    lines.extend(flow::parts(flow::words(&text::plain(&why), style), 1, 0, width));
    lines
}

fn rows(lines: &[Line]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

impl Page<'_> {
    fn draw(&self, scroll: usize, area: Rect, buffer: &mut Buffer) -> usize {
        let is_tall = area.height >= TALL;
        let condition = (self.ink, self.replica.condition());
        let head = self.head();
        let mut body = machine::lines(self.state, self.phase_seconds(), condition, self.width, is_tall);
        body.push(Line::default());
        body.extend(self.state.probes.iter().filter_map(|probe| self.probe(probe)));
        body.push(Line::default());
        body.extend(self.load());

        let [top, below] = split(area, rows(&head));
        lines(&head, top, buffer);
        let [middle, rest] = split(below, rows(&body));
        lines(&body, middle, buffer);
        let spare = rest.height.saturating_sub(LISTS + 1);
        let [bars, rest] = split(rest, (spare / 2).min(if is_tall { BARS } else { 2 }));
        self.charts(bars, buffer);
        // Between the bars and the lists, unless there is no room at all.
        let rest = if rest.height > LISTS { split(rest, 1)[1] } else { rest };
        let left_over = self.lists(scroll, rest, buffer);
        if self.replica.silence().is_some() {
            // How things were: only why it says nothing is news.
            buffer.set_style(below, ink::quiet());
        }
        left_over
    }

    /// How long ago the state was told. Time goes on for as long as somebody tells that it does.
    fn age(&self) -> Duration {
        if self.replica.silence().is_some() { Duration::ZERO } else { self.replica.age(self.now) }
    }

    fn phase_seconds(&self) -> f64 {
        self.state.seconds + self.age().as_secs_f64()
    }

    /// Who it is, what is the matter, and what is going on.
    fn head(&self) -> Vec<Line<'static>> {
        let condition = self.replica.condition();
        let style = self.ink.condition(condition).patch(ink::strong());
        let mut lines = vec![self.title()];
        lines.extend(flow::parts(flow::words(&text::plain(&self.trouble()), style), 1, 0, self.width));
        if !matches!(condition, Condition::Draining | Condition::Failed) {
            lines.extend(self.sentence());
        }
        lines.push(Line::default());
        lines
    }

    fn title(&self) -> Line<'static> {
        let (state, condition) = (self.state, self.replica.condition());
        let left = vec![
            Span::styled(format!("{} ", condition.sign()), self.ink.condition(condition)),
            Span::styled(text::plain(&state.who), ink::strong()),
            Span::styled(format!("  at {}", text::plain(&self.replica.name)), ink::quiet()),
        ];
        let up = state.ago(&state.started).map(|up| (up + self.age()).as_secs_f64());
        let up = up.map(|up| format!(", up {}", text::lasted(up))).unwrap_or_default();
        let again = match self.replica.processes {
            0 | 1 => String::new(),
            count => format!(", process {count} seen here"),
        };
        let right = format!("torchpod {}{up}{again}", text::plain(&state.version));
        ends(left.into(), Line::styled(right, ink::quiet()), self.width)
    }

    /// What somebody who looks should know at once.
    fn trouble(&self) -> String {
        let (replica, state) = (self.replica, self.state);
        if let Some(silence) = replica.silence() {
            let lasted = text::lasted(self.now.saturating_sub(silence.since).as_secs_f64());
            let last = match replica.condition() {
                Condition::Ended => "It was draining, so it has most likely ended as it was asked to.".to_owned(),
                _ => format!("It was {}, and said no farewell.", state.phase),
            };
            return format!("No answer for {lasted} ({}). {last} What is shown is how things were.", silence.why);
        }
        let lasted = text::lasted(self.phase_seconds());
        match replica.condition() {
            Condition::Draining if state.passes("/startup") => format!(
                "Draining for {lasted}, after {}. Requests are still answered; new ones should go to another server.",
                state.transition
            ),
            Condition::Draining => format!("Draining for {lasted}, after {}. It never served.", state.transition),
            Condition::Failed => format!("Loading failed: {}. The process is ending.", state.transition),
            Condition::Faulty => {
                format!("Fault: {}. The kubelet restarts this container if it lasts.", state.faults.join(", "))
            }
            Condition::Unready => {
                let why = match state.down()[..] {
                    [] => replica.remark(),
                    [name] => format!("{name} is down"),
                    ref names => format!("{} are down", names.join(", ")),
                };
                format!("Not ready: {why}. Services send it no requests.")
            }
            _ => String::new(),
        }
    }

    /// What is going on, and how much of it is done.
    fn sentence(&self) -> Vec<Line<'static>> {
        const BAR: usize = 24;
        let style = self.ink.condition(self.replica.condition()).patch(ink::strong());
        let phase = Span::styled(text::plain(&self.state.phase), style);
        let (doing, done) = match self.state.stage() {
            Some((stage, progress)) => (stage.to_owned(), Some(progress)),
            None => (machine::meaning(&self.state.phase).to_owned(), None),
        };
        let lasted = format!(" for {}:", text::lasted(self.phase_seconds()));
        let mut parts = vec![Line::from(vec![phase, Span::raw(lasted)])];
        parts.extend(flow::words(&text::plain(&doing), Style::new()));
        if let Some(done) = done {
            let full = usize::try_from(text::whole(done * text::real(BAR as u64))).unwrap_or_default().min(BAR);
            parts.push(Line::from(vec![
                Span::styled("█".repeat(full), self.ink.rising()),
                Span::styled("░".repeat(BAR - full), ink::quiet()),
                Span::raw(format!(" {}", text::percent(done))),
            ]));
        }
        flow::parts(parts, 1, 0, self.width)
    }

    /// What a probe answers, since when, and what follows from it; on a narrow screen, not all of that.
    fn probe(&self, probe: &Probe) -> Option<Line<'static>> {
        let is_pass = probe.passes();
        let style = self.ink.pass(is_pass);
        let reason = probe.body.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let since = probe.since.as_deref().and_then(|since| self.state.ago(since));
        let since = since.map_or("since the start".to_owned(), |ago| {
            format!("for {}", text::lasted((ago + self.age()).as_secs_f64()))
        });
        let verdict = format!("{} {}{reason}", probe.status, probe.body.status);
        let head = vec![
            Span::styled(format!("{} ", pass_sign(is_pass)), style),
            Span::raw(format!("{:<9}", text::plain(&probe.path))),
            Span::styled(format!("{:<30}", text::plain(&verdict)), style),
        ];
        let parts = vec![
            Line::from(head),
            Line::styled(format!("{since:<15}"), ink::quiet()),
            Line::styled(follows(&probe.path, is_pass), ink::quiet()),
        ];
        flow::parts(parts, 2, 2, self.width).into_iter().next()
    }

    fn load(&self) -> Vec<Line<'static>> {
        let state = self.state;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let rates = self.replica.rates();
        let of = |tell: fn(&Rates) -> Option<String>| or_none(rates.and_then(tell));
        let mut failed = figure(of(|rates| Some(text::number(rates.failed))), "failed/s");
        if rates.is_some_and(|rates| rates.failed > 0.0) {
            failed = failed.patch_style(self.ink.bad());
        }
        let (requests, rows) = state.waiting();
        let oldest = (state.oldest_batch_seconds > 0.0).then(|| text::took(state.oldest_batch_seconds));
        let memory = text::bytes(state.request_memory_bytes);
        // Each at least as wide as it mostly is, so that what stands behind it keeps its place.
        let parts = [
            (12, figure(of(|rates| Some(text::number(rates.ok))), "req/s")),
            (10, failed),
            (11, figure(of(|rates| rates.p50.map(text::took)), "p50")),
            (11, figure(of(|rates| rates.p99.map(text::took)), "p99")),
            (16, figure(of(|rates| rates.rows_a_batch.map(text::number)), "rows a batch")),
            (11, figure(text::count(state.in_flight), "in flight")),
            (18, figure(text::count(requests), &format!("waiting ({})", text::counted(rows, "row")))),
            (19, figure(or_none(oldest), "oldest batch")),
            (0, figure(memory, &format!("of {} held", text::bytes(state.request_memory_limit_bytes)))),
        ];
        let parts = parts.map(|(width, part)| flow::padded(part, width)).into();
        flow::parts(parts, 3, 0, self.width)
    }

    fn charts(&self, area: Rect, buffer: &mut Buffer) {
        let requests = ("req/s", text::number as fn(f64) -> String);
        let recent = &self.replica.recent;
        let ok = |area| recent.line(self.now, chart::seconds(area), |rates| Some(rates.ok));
        if usize::from(area.width) < WIDE {
            return chart::draw(&ok(area), requests, self.ink.rising(), area, buffer);
        }
        let half = (area.width - 2) / 2;
        let [left, right] = [Rect { width: half, ..area }, Rect { x: area.x + half + 2, width: half, ..area }];
        chart::draw(&ok(left), requests, self.ink.rising(), left, buffer);
        let p99 = recent.line(self.now, chart::seconds(right), |rates| rates.p99);
        chart::draw(&p99, ("p99", text::took), self.ink.wait(), right, buffer);
    }

    /// Side by side, or one below the other; returns how many lines can be scrolled away.
    fn lists(&self, scroll: usize, area: Rect, buffer: &mut Buffer) -> usize {
        let (state, age) = (self.state, self.age());
        let is_wide = usize::from(area.width) >= WIDE;
        let width = if is_wide { (area.width - 2) / 2 } else { area.width };
        let room = usize::from(width);
        let mut left = lists::models(self.replica, state, self.ink, room);
        left.extend(lists::dependencies(state, self.ink, age, room));
        let mut right = lists::transitions(state, self.ink, age, room);
        let columns = if is_wide {
            vec![left, right]
        } else {
            left.push(Line::default());
            left.append(&mut right);
            vec![left]
        };
        let height = usize::from(area.height);
        let most = columns.iter().map(|lines| lines.len().saturating_sub(height)).max().unwrap_or_default();
        for (column, x) in columns.iter().zip((area.x..).step_by(usize::from(width) + 2)) {
            let first = scroll.min(most).min(column.len());
            lines(&column[first..], Rect { x, width, ..area }, buffer);
        }
        most
    }
}

fn follows(path: &str, is_pass: bool) -> &'static str {
    match (path, is_pass) {
        ("/startup", true) => "liveness and readiness are asked from now on",
        ("/startup", false) => "liveness and readiness are not asked yet",
        ("/health", true) => "the container is left running",
        ("/health", false) => "at failureThreshold the container is restarted",
        ("/ready", true) => "Services send requests here",
        ("/ready", false) => "Services send no requests here",
        _ => "",
    }
}
