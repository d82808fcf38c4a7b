//! What an error of a client comes to, in one short line: the innermost cause, in the words of whoever is on call.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;

const LONGEST: usize = 200;

/// The cause at the bottom of `error`.
pub(super) fn of(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    let mut next = Some(error);
    while let Some(cause) = next {
        // redis shares its causes, and an `Arc` hides what it holds.
        let cause = cause.downcast_ref::<Arc<dyn Error + Send + Sync>>().map_or(cause, |shared| &**shared);
        if let Some(words) = cause.downcast_ref::<io::Error>().and_then(known) {
            return words.to_owned();
        }
        last = cause;
        next = cause.source();
    }
    line(&last.to_string())
}

/// As `of`, for an error that has no causes to look into.
pub(super) fn of_io(error: &io::Error) -> String {
    known(error).map_or_else(|| line(&error.to_string()), str::to_owned)
}

/// The first line of `text`, cut where it is too long for a log line or a probe's body.
pub(super) fn line(text: &str) -> String {
    let first = text.trim().lines().next().unwrap_or_default().trim_end();
    match first.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}

/// Without numbers of errors, and the same from every client.
fn known(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset by the other side",
        ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => "connection closed by the other side",
        ErrorKind::HostUnreachable => "no route to the host",
        ErrorKind::NetworkUnreachable => "network unreachable",
        ErrorKind::TimedOut => "the network gave up: connection timed out",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("error sending request for url (http://user:secret@api/)")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("it broke")]
    struct Shared(#[source] Arc<dyn Error + Send + Sync>);

    #[test]
    fn the_innermost_cause_is_told_in_one_line() {
        assert_eq!(of(&Outer(ErrorKind::ConnectionRefused.into())), "connection refused");
        let shared = Arc::new(io::Error::from(ErrorKind::ConnectionReset));
        assert_eq!(of(&Shared(shared)), "connection reset by the other side");
        assert_eq!(of(&Outer(io::Error::other("bad certificate\nat line 3"))), "bad certificate");
        assert_eq!(line(&"ä".repeat(300)).chars().count(), LONGEST + 1);
    }
}
