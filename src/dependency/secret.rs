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

/// `text` as an error may show it, whether or not it is a URL: without its user and password, nor the parameters of HTTP,
/// among which a token may be.
pub(super) fn hidden(text: &str) -> String {
    let shown = without_userinfo(text);
    match shown.split_once('?') {
        Some((before, after)) if shown.starts_with("http") => {
            format!("{before}?***{}", after.find('#').map_or("", |options| &after[options..]))
        }
        _ => shown,
    }
}

fn without_userinfo(text: &str) -> String {
    if let Some(userinfo) = userinfo(text) {
        let (before, host) = text.rsplit_once('@').unwrap_or_default();
        return format!("{}***@{host}", before.strip_suffix(userinfo).unwrap_or_default());
    }
    let start = text.find("://").map_or(0, |place| place + "://".len());
    let authority = text[start..].split(['/', '?', '#']).next().unwrap_or_default();
    // Where a port should be and is not, the host may have been forgotten.
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.bytes().all(|byte| byte.is_ascii_digit() || byte == b']') => {
            let end = start + authority.len();
            format!("{}***{}", &text[..end - port.len()], &text[end..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials_however_badly_it_is_written() {
        let table = [
            ("redis://:secret@cache:6379", "redis://***@cache:6379"),
            ("redis://cache:6379#optional", "redis://cache:6379#optional"),
            ("redis:user:secret@cache", "***@cache"),
            ("postgres://me:se/cr?et#1@db/app", "postgres://***@db/app"),
            ("mysql://me:se@cret@db", "mysql://***@db"),
            ("@", "***@"),
            ("redis://:secret#optional", "redis://:***#optional"),
            ("https://api/x?token=secret#optional", "https://api/x?***#optional"),
            ("tcp://[::1]:80", "tcp://[::1]:80"),
        ];
        for (text, expected) in table {
            assert_eq!(hidden(text), expected);
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
