//! The credentials of one dependency, kept only to be taken out of every text that might hold them: the last line of
//! defence, behind clients and error texts that should not.

use percent_encoding::percent_decode_str;
use url::Url;

/// Passwords as they were written and as they are meant, longest first.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// What `url` and the whole of `text` it was read from hold. A URL's parser writes some characters differently.
    pub(super) fn of(url: &Url, text: &str) -> Self {
        let written = userinfo(text).and_then(|userinfo| Some(userinfo.split_once(':')?.1));
        let mut secrets = Self::default();
        url.password().into_iter().chain(written).flat_map(both_ways).for_each(|secret| secrets.add(secret));
        secrets
    }

    pub(super) fn add(&mut self, secret: String) {
        if !secret.is_empty() && !self.0.contains(&secret) {
            let place = self.0.partition_point(|known| known.len() > secret.len());
            self.0.insert(place, secret);
        }
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

fn both_ways(written: &str) -> [String; 2] {
    [written.to_owned(), percent_decode_str(written).decode_utf8_lossy().into_owned()]
}

/// What stands before the last `@` of a URL, well formed or not: a `/`, `?` or `#` in a password must be encoded, and
/// where it is not, a parser takes half of the password for something else.
fn userinfo(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once('@')?;
    Some(before.split_once("://").map_or(before, |(_, userinfo)| userinfo))
}

/// Scheme, host and port of a URL that is refused, as an error may show them: nothing where a part of them may be the
/// password of a URL that is badly written, and never more, since tokens stand in paths, queries and fragments too.
pub(super) fn shown(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A second @, or one behind the authority, belongs to a password that should have been encoded.
    let host = match text.matches('@').count() {
        0 => authority,
        1 => authority.split_once('@')?.1,
        _ => return None,
    };
    (is_scheme(scheme) && is_host_and_port(host)).then(|| format!("{scheme}://{host}"))
}

/// Whether `text` may hold credentials, where it was given for something that has none.
pub fn may_hold_password(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["://", "@", "password", "passwd", "pwd=", "secret=", "token="].iter().any(|sign| text.contains(sign))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ['+', '.', '-'].contains(&c))
}

/// Without a host, the password stands where the port should be.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let within = |text: &str, more: [char; 3]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => within(address, [':', '.', ':']),
        None => within(host, ['.', '-', '_']),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_as_scheme_and_host_or_not_at_all() {
        let table = [
            ("redis://:hunter2@cache:6379/1", Some("redis://cache:6379")),
            ("redis://cache#optional", Some("redis://cache")),
            ("tcp://[::1]:80/x", Some("tcp://[::1]:80")),
            ("tcp://me@[::1]", Some("tcp://[::1]")),
            ("http://api:80/h?token=hunter2#intervall=2s", Some("http://api:80")),
            ("postgres://db/app?user=me&password=hunter2", Some("postgres://db")),
            ("amqp://queue/?key=hunter2", Some("amqp://queue")),
            ("jdbc:postgresql://db/app?password=hunter2", None),
            ("redis://:hunter2:6379", None),
            ("redis://:hunter2%40cache:6379", None),
            ("redis://me:hunter2", None),
            ("redis://:hunter2#optional", None),
            ("redis://:123456", None),
            ("redis:user:hunter2@cache", None),
            ("postgres://me:hun/ter2@db/app", None),
            ("postgres://me:hun@ter2/x@db/app", None),
            ("redis://me:12#hunter2@cache", None),
            ("mysql://me:hun@ter2@db", None),
            ("host=db password=hunter2", None),
            ("cache:6379", None),
            ("@", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_may_hold_a_password_is_told_from_an_address() {
        for text in ["redis://:hunter2@cache", "http://x", "me:hunter2@cache", "PASSWORD=hunter2", "?api_token=hunter2"]
        {
            assert!(may_hold_password(text), "{text}");
        }
        for text in ["nowhere", "0.0.0.0:8080", "info,torchpod::http=debug", "dependency-down=redis", "tokenizer"] {
            assert!(!may_hold_password(text), "{text}");
        }
    }

    #[test]
    fn a_secret_is_scrubbed_as_it_is_written_and_as_it_is_meant() {
        let text = "redis://user:p%40ss@w|rd@cache";
        let secrets = Secrets::of(&text.parse().unwrap(), text);
        for spelling in ["p%40ss@w|rd", "p@ss@w|rd", "p%40ss%40w%7Crd"] {
            assert_eq!(secrets.scrub(&format!("{spelling} is wrong: {spelling}")), "*** is wrong: ***", "{spelling}");
        }
        assert_eq!(Secrets::default().scrub("as it was"), "as it was");
    }
}
