//! The terminal: what is drawn when, keys and resizes, and that it is left as it was found, whatever ends it.

use std::io::{self, Write as _};
use std::panic;
use std::thread;
use std::time::Duration;

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Asked;
use super::draw::{Pen, draw};
use super::ink::Ink;
use super::view::View;
use super::watch::Watch;
use crate::signal;

/// The least between two pictures that nobody asked for by a key: many replicas answer at many moments.
const FRAME: Duration = Duration::from_millis(100);
/// As a process ends that panicked.
const PANICKED: i32 = 101;

/// Looks until a key or a signal ends it.
pub(super) async fn run(asked: &Asked, ink: Ink) -> io::Result<()> {
    let (end, _) = signal::first_and_second()?;
    let mut end = std::pin::pin!(end);
    end_with_a_panic();
    let _left = Left;
    let mut terminal = ratatui::try_init()?;
    let mut events = events()?;
    let (mut watch, mut fleet, mut view) = (Watch::new(asked), asked.fleet(), View::new());
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_new, mut drawn) = (true, 0);
    loop {
        tokio::select! {
            _ = &mut end => return Ok(()),
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.is_press() && view.press(key, &fleet) => return Ok(()),
                Some(_) => {}
                None => return Err(io::Error::other("it is gone")),
            },
            () = watch.hear(&mut fleet) => {
                is_new = true;
                continue;
            }
            _ = frames.tick() => {
                // Times go on where nothing else does.
                if !is_new && drawn == watch.now().as_secs() {
                    continue;
                }
            }
        }
        let now = watch.now();
        let mut scrollable = 0;
        terminal.draw(|frame| scrollable = draw(frame, &fleet, &view, Pen { ink, now }))?;
        view.scroll = view.scroll.min(scrollable);
        (is_new, drawn) = (false, now.as_secs());
    }
}

/// What happens at the terminal, read by a thread of its own: reading waits.
fn events() -> io::Result<mpsc::UnboundedReceiver<Event>> {
    let (say, events) = mpsc::unbounded_channel();
    let read = move || {
        while let Ok(event) = event::read() {
            if say.send(event).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(events)
}

/// Leaves the terminal as it was found when it is dropped.
struct Left;

impl Drop for Left {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Nothing is left to be done where that fails.
    let _ = ratatui::try_restore();
    let _ = execute!(io::stdout(), Show);
}

/// A task that panics would leave half a picture, or a message in the middle of one.
fn end_with_a_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore();
        tell(info);
        let _ = io::stderr().flush();
        signal_hook::low_level::exit(PANICKED);
    }));
}
