//! `torchpod top`: what the consoles of running servers show, in a terminal, for one replica or many.
//!
//! It is a client and knows nothing of the server. `watch` asks, each replica by a task of its own; `fleet` is what is known,
//! `view` what whoever looks has chosen, and `draw` makes a picture of both: pure functions, all three. `screen` is the
//! terminal, and `once` the table where there is none.

mod column;
mod draw;
mod fleet;
mod ink;
mod look;
mod once;
mod recent;
mod replica;
#[cfg(test)]
mod sample;
mod screen;
mod state;
mod target;
mod text;
mod view;
mod watch;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::TopArgs;
use crate::probe;
use fleet::Fleet;
use ink::Ink;
pub use state::State;
use target::Target;

/// Flags that make sense.
#[derive(Debug)]
struct Asked {
    targets: Vec<Target>,
    interval: Duration,
    timeout: Duration,
}

/// Looks until it is told to end, or once, and returns 1 where somebody did not answer then.
pub fn run(args: &TopArgs) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let asked = match Asked::new(args, variable) {
        Ok(asked) => asked,
        Err(wrong) => {
            let _ = writeln!(io::stderr(), "torchpod: {}; `torchpod top --help` tells more", wrong.join("; "));
            return ExitCode::from(2);
        }
    };
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let well = runtime.block_on(async {
            if args.once || !io::stdout().is_terminal() {
                return Ok(once::run(&asked).await);
            }
            screen::run(&asked, Ink::new(variable)).await.map(|()| true)
        });
        runtime.shutdown_background(); // A name that is still being looked up holds nobody.
        well
    };
    let well = look().unwrap_or_else(|error: io::Error| {
        let _ = writeln!(io::stderr(), "torchpod: the terminal cannot be used: {error}; --once needs none");
        false
    });
    ExitCode::from(u8::from(!well))
}

impl Asked {
    fn new(args: &TopArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let own = if args.urls.is_empty() { vec![probe::own_url(false, variable)] } else { Vec::new() };
        let mut targets = Vec::new();
        for text in args.urls.iter().chain(&own) {
            match Target::parse(text) {
                Ok(target) if targets.contains(&target) => {}
                Ok(target) => targets.push(target),
                Err(expected) => wrong.push(format!("URL{}: {expected}", probe::shown(text))),
            }
        }
        let mut duration = |flag: &str, text: &str| {
            let time = humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
            time.unwrap_or_else(|| {
                wrong.push(format!("{flag} {text}: expected a duration above 0s, such as 1s or 200ms"));
                Duration::ZERO
            })
        };
        let (interval, timeout) = (duration("--interval", &args.interval), duration("--timeout", &args.timeout));
        if wrong.is_empty() { Ok(Self { targets, interval, timeout }) } else { Err(wrong) }
    }

    fn fleet(&self) -> Fleet {
        Fleet::new(self.targets.iter().map(ToString::to_string), self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(urls: &[&str], interval: &str) -> Result<Asked, Vec<String>> {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        let args = TopArgs { urls, once: false, interval: interval.into(), timeout: "2s".into() };
        Asked::new(&args, |name| (name == "TORCHPOD_PROBE_LISTEN").then(|| "0.0.0.0:8081".to_owned()))
    }

    #[test]
    fn the_server_of_the_same_environment_is_looked_at_where_none_is_named() {
        let names = |asked: &Asked| asked.targets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&asked(&[], "1s").unwrap()), ["127.0.0.1:8081"]);
        assert_eq!(names(&asked(&["a:1", "http://b", "a:1"], "1s").unwrap()), ["a:1", "b:80"], "each of them once");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_password() {
        let wrong = asked(&["http://me:hunter2@host", "host:0", "https://host"], "soon").unwrap_err();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(!wrong.concat().contains("hunter2"), "{wrong:?}");
        assert!(wrong[1].starts_with("URL host:0: ") && wrong[3].starts_with("--interval soon: "), "{wrong:?}");
    }
}
