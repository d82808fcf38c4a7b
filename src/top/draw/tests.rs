use std::net::SocketAddr;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::top::fleet::News;
use crate::top::sample::{self, SECOND};
use crate::top::state::State;

const INK: Ink = Ink { colored: true };

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 8081).into()
}

/// Pods of one name, each with what it told a second ago and tells now.
fn fleet(told: &[[Result<State, &str>; 2]]) -> Fleet {
    let mut fleet = Fleet::new(["pods:8081".to_owned()].into_iter(), SECOND);
    let addresses: Vec<SocketAddr> = (1..).take(told.len()).map(address).collect();
    fleet.hear(News::Found { name: 0, found: Ok(addresses.clone()) }, SECOND);
    for (looks, address) in told.iter().zip(addresses) {
        for (look, now) in looks.iter().zip([SECOND, 2 * SECOND]) {
            let found = look.clone().map(Box::new).map_err(str::to_owned);
            fleet.hear(News::Looked { address, found }, now);
        }
    }
    fleet
}

fn one(state: &State) -> Fleet {
    fleet(&[[Ok(state.clone()), Ok(state.clone())]])
}

/// Four, each in another trouble or none.
fn many() -> Fleet {
    let twice = |state: State| [Ok(state.clone()), Ok(state)];
    fleet(&[
        [Ok(sample::busy(0)), Ok(sample::busy(264))],
        twice(sample::loading("reading digits@1", 0.42)),
        [Ok(sample::state("serving")), Err("connection refused")],
        twice(sample::down("redis://cache:6379")),
    ])
}

fn buffer(fleet: &Fleet, view: &View, ink: Ink, (width, height): (u16, u16)) -> (Buffer, usize) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut scrollable = 0;
    terminal.draw(|frame| scrollable = draw(frame, fleet, view, Pen { ink, now: 2 * SECOND })).unwrap();
    (terminal.backend().buffer().clone(), scrollable)
}

/// The lines of the screen.
fn text(buffer: &Buffer) -> Vec<String> {
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn screen(fleet: &Fleet, view: &View, size: (u16, u16)) -> Vec<String> {
    text(&buffer(fleet, view, INK, size).0)
}

fn press(view: &mut View, fleet: &Fleet, code: KeyCode) {
    assert!(!view.press(KeyEvent::new(code, KeyModifiers::NONE), fleet));
}

/// Where the first line with `part` is.
fn place(lines: &[String], part: &str) -> usize {
    lines
        .iter()
        .position(|line| line.contains(part))
        .unwrap_or_else(|| panic!("{part} is not in\n{}", lines.join("\n")))
}

#[test]
fn the_table_has_a_line_for_each_replica_the_worst_first() {
    let lines = screen(&many(), &View::new(), (100, 24));
    println!("{}", lines.join("\n"));
    assert_eq!(lines[0], " 4 replicas   ✖ 1 no answer   ▲ 1 not ready   ◌ 1 starting   ● 1 ready");
    assert!(
        lines[1].starts_with(" 264 req/s   0 failed/s   9.2 ms p50   9.98 ms p99   2 rows a batch"),
        "{}",
        lines[1]
    );
    let first = place(&lines, "REPLICA") + 1;
    let starts = [
        " ✖ 10.0.0.3:8081  no answer 0 s     connection refused",
        " ▲ 10.0.0.4:8081  serving 2 min     ✔ ✔ ✘        0       0        –       4  down: redis://cache:6…",
        " ◌ 10.0.0.2:8081  loading 2 min     ✘ ✔ ✘        0       0        –       0  42 %, reading digits@1",
        " ● 10.0.0.1:8081  serving 2 min     ✔ ✔ ✔      264       0  9.98 ms       4  digits@1",
    ];
    for (line, start) in lines[first..].iter().zip(starts) {
        assert_eq!(line, start);
    }
    place(&lines, "█");
}

#[test]
fn on_a_narrow_terminal_what_matters_is_kept() {
    let lines = screen(&many(), &View::new(), (60, 20));
    println!("{}", lines.join("\n"));
    let rows = place(&lines, "REPLICA");
    for part in ["PHASE", "REQ/S", "WHAT"] {
        assert!(lines[rows].contains(part), "{part}");
    }
    let alone = screen(&one(&sample::busy(1)), &View::new(), (60, 20));
    println!("{}", alone.join("\n"));
    place(&alone, "starting›loading›warming›serving›draining›stopped");
    assert!(lines[rows + 1].contains("no answer 0 s") && lines[rows + 1].ends_with("connection refused"));
}

#[test]
fn the_chosen_row_stands_out_and_stays_on_the_screen() {
    let states = vec![[Ok(sample::busy(0)), Ok(sample::busy(1))]; 40];
    let (fleet, mut view) = (fleet(&states), View::new());
    for _ in 0..30 {
        press(&mut view, &fleet, KeyCode::Down);
    }
    let (buffer, _) = buffer(&fleet, &view, INK, (80, 20));
    let row = place(&text(&buffer), "10.0.0.31:8081");
    let row = u16::try_from(row).unwrap();
    assert!(buffer[(5, row)].modifier.contains(Modifier::REVERSED));
    assert!(!buffer[(5, row - 1)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn a_replica_alone_shows_everything_on_80_by_24() {
    let fleet = fleet(&[[Ok(sample::busy(0)), Ok(sample::busy(20))]]);
    let lines = screen(&fleet, &View::new(), (80, 24));
    println!("{}", lines.join("\n"));
    assert!(lines[0].starts_with(" ● digits@1  at pods:8081"), "{}", lines[0]);
    assert!(lines[0].ends_with("torchpod 0.1.0, up 2 min 5 s"));
    assert_eq!(lines[1], " serving for 2 min: every model is loaded, checked and warm");
    let machine = place(&lines, "starting ─▶ loading ─▶ warming ─▶ serving ─▶ draining ─▶ stopped");
    assert_eq!(lines[machine + 1].split_whitespace().collect::<Vec<_>>().join(" "), "3 ms 1 s 400 ms 2 min");
    for (probe, expected) in ["/startup", "/health", "/ready"].into_iter().zip([
        " ✔ /startup 200 ready",
        " ✔ /health  200 healthy",
        " ✔ /ready   200 ready    ",
    ]) {
        assert!(lines[place(&lines, probe)].starts_with(expected), "{lines:?}");
    }
    assert!(lines[place(&lines, "/ready")].contains("for 2 min"));
    for part in ["20 req/s", "9.98 ms p99", "3 in flight", "4 waiting (8 rows)", "3 MiB of 1 GiB", "█", "Models"] {
        place(&lines, part);
    }
    assert!(lines[place(&lines, "Models") + 1].starts_with(" digits@1  ready on cpu"));
    place(&lines, "sha256:0123456789ab");
    place(&lines, "Transitions");
    place(&lines, "03:04:05Z  2 min ago   warming → serving after 400 ms: every model is warm");
}

#[test]
fn what_is_the_matter_is_said_first() {
    let table = [
        (sample::faulty("hung"), "Fault: hung. The kubelet restarts this container if it lasts."),
        (sample::down("redis://cache:6379"), "Not ready: redis://cache:6379 is down. Services send it no requests."),
        (sample::state("draining"), "Draining for 2 min, after SIGTERM."),
        (sample::state("failed"), "Loading failed: SIGTERM."),
    ];
    for (state, start) in table {
        let lines = screen(&one(&state), &View::new(), (100, 40));
        assert!(lines[1].trim_start().starts_with(start), "{}", lines[1]);
    }
    let silent = fleet(&[[Ok(sample::state("serving")), Err("connection refused")]]);
    let lines = screen(&silent, &View::new(), (80, 24));
    assert!(lines[1].starts_with(" No answer for 0 µs (connection refused). It was serving, and said no farewell."));
    place(&lines, "Models");
    let unknown = fleet(&[[Err("connection refused"), Err("connection refused")]]);
    let lines = screen(&unknown, &View::new(), (80, 24));
    assert_eq!(lines[1], " No answer so far, for 1.0 s: connection refused.");
}

#[test]
fn loading_shows_how_far_it_is() {
    let lines = screen(&one(&sample::loading("reading digits@1", 0.5)), &View::new(), (80, 24));
    assert_eq!(lines[1], " loading for 2 min: reading digits@1 ████████████░░░░░░░░░░░░ 50 %");
    assert!(lines[place(&lines, "/startup")].contains("503 loading: loading"));
    place(&lines, "none yet");
}

#[test]
fn a_large_terminal_has_boxes_and_two_columns() {
    let lines = screen(&one(&sample::down("redis://cache:6379")), &View::new(), (140, 40));
    println!("{}", lines.join("\n"));
    place(&lines, "│  starting  │────▶│  loading   │");
    let boxes = place(&lines, "┃  serving   ┃");
    assert!(lines[boxes - 1].contains("┏━━━━━━━━━━━━┓") && lines[boxes + 1].contains("┃   2 min    ┃"));
    assert_eq!(place(&lines, "Models"), place(&lines, "Transitions"), "side by side");
    assert!(lines[place(&lines, "Dependencies") + 1].starts_with(" redis://cache:6379  down for 12 s  required"));
    assert!(lines[place(&lines, "/ready")].contains("Services send no requests here"));
}

#[test]
fn what_has_no_room_can_be_scrolled_to() {
    let mut state = sample::busy(0);
    for number in 0..50 {
        state.transitions.push(crate::top::state::Transition { subject: format!("it{number}"), ..Default::default() });
    }
    let (fleet, mut view) = (one(&state), View::new());
    let (before, scrollable) = buffer(&fleet, &view, INK, (80, 24));
    assert!(scrollable > 40 && !text(&before).iter().any(|line| line.contains("started")), "{scrollable}");
    press(&mut view, &fleet, KeyCode::End);
    let lines = screen(&fleet, &view, (80, 24));
    place(&lines, "started");
    place(&lines, "/ready");
}

#[test]
fn colours_say_nothing_that_is_not_written() {
    let (plain, view) = (Ink { colored: false }, View::new());
    let all = [many(), one(&sample::faulty("hung")), one(&sample::loading("reading", 0.5)), one(&sample::busy(1))];
    for fleet in &all {
        let [(colored, _), (colorless, _)] = [INK, plain].map(|ink| buffer(fleet, &view, ink, (100, 30)));
        assert_eq!(text(&colored), text(&colorless));
        assert!(colorless.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
        assert!(colored.content.iter().any(|cell| cell.fg != Color::Reset));
    }
}

#[test]
fn what_servers_say_cannot_steer_the_terminal() {
    let mut state = sample::down("redis://\u{1b}[31mcache");
    state.who = "a\u{1b}]0;title\u{7}".into();
    state.models[0].reason = "b\u{9b}2J".into();
    for size in [(80, 24), (140, 40)] {
        let (buffer, _) = buffer(&one(&state), &View::new(), INK, size);
        assert!(!text(&buffer).concat().contains(char::is_control));
    }
}

#[test]
fn the_help_tells_every_key_sign_and_column_on_80_by_24() {
    let (fleet, mut view) = (many(), View::new());
    press(&mut view, &fleet, KeyCode::Char('?'));
    let lines = screen(&fleet, &view, (80, 24));
    println!("{}", lines.join("\n"));
    for part in ["Enter", "Ctrl-C", "w n r f l u", "✖ no answer", "● ready", "PROBES", "FLIGHT", "any key"] {
        place(&lines, part);
    }
}

#[test]
fn no_size_is_too_small_and_none_too_large() {
    let (many, view) = (many(), View::new());
    let mut helped = View::new();
    press(&mut helped, &many, KeyCode::Char('?'));
    let silent = fleet(&[[Ok(sample::state("serving")), Err("connection refused")]]);
    let others = [sample::down("redis://cache:6379"), sample::state("failed"), sample::loading("reading", 0.5)];
    let fleets: Vec<Fleet> = others.iter().map(one).chain([many, silent]).collect();
    for width in [1, 2, 5, 20, 60, 79, 99, 100, 300] {
        for height in [1, 2, 5, 12, 24, 31, 100] {
            for fleet in &fleets {
                buffer(fleet, &view, INK, (width, height));
            }
            buffer(&fleets[0], &helped, INK, (width, height));
        }
    }
}
