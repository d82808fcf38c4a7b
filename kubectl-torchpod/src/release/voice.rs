//! What a command says while it goes on: lines for what has happened, and on a terminal one line more for what is going
//! on. Programs get an object a line.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

pub struct Voice {
    format: Format,
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    /// The last of what is going on, so that without a terminal it is said once.
    last: RefCell<String>,
}

impl Voice {
    pub fn new(format: Format) -> Voice {
        let is_live = format == Format::Text && stderr().is_terminal();
        let bar = if is_live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        if is_live {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Voice { format, bar, last: RefCell::default() }
    }

    /// Something that has happened. `detail` is for programs.
    pub fn say(&self, event: &str, text: &str, detail: &Value) {
        self.last.borrow_mut().clear();
        let line = match self.format {
            Format::Text => format!("{}  {text}", clock()),
            Format::Json => {
                let mut object = json!({"time": format!("{:.3}", Timestamp::now()), "event": event, "text": text});
                if let (Some(object), Some(detail)) = (object.as_object_mut(), detail.as_object()) {
                    object.extend(detail.clone());
                }
                object.to_string()
            }
        };
        // A reader that has left is no reason to leave a canary half-way.
        self.bar.suspend(|| drop(writeln!(stdout(), "{line}").and_then(|()| stdout().flush())));
    }

    /// What is going on, in words that stay the same while it does.
    pub fn wait(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if self.bar.is_hidden() && *self.last.borrow() != text {
            self.say("wait", text, &json!({}));
            text.clone_into(&mut self.last.borrow_mut());
        }
    }

    /// How far it is, for whoever looks on.
    pub fn tick(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Why it stopped, for programs; people are told by stderr.
    pub fn end_with(&self, text: &str, detail: &Value) {
        if self.format == Format::Json {
            self.say("stopped", text, detail);
        }
    }

    /// The live line goes.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Of the day, in UTC as in the cluster's own logs.
fn clock() -> String {
    Timestamp::now().strftime("%H:%M:%S").to_string()
}
