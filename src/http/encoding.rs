//! Compressed bodies, both ways: which coding a request's body has, and which its answer may have.
//!
//! Bodies are whole in memory when they are decoded or encoded, and large ones are, away from the threads that answer
//! probes. tower-http's layers would do it on those, several megabytes in one turn, and leave answers without a length.

mod answer;
mod body;

use std::sync::LazyLock;
use std::thread::available_parallelism;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue};

pub(super) use answer::encoded;
pub(super) use body::decoded;

use tokio::sync::Semaphore;

use super::error::{Error, Kind, shown};
use crate::api;

/// Large bodies that are coded at a time: each takes a core, and probes need one, too.
static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new((available_parallelism().map_or(1, usize::from) / 2).max(1)));

/// Does what is heavy where `bytes` are many, away from the threads that answer probes.
async fn coded<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    // It is never closed, so that there is always a place in the end.
    let _place = if bytes > api::INLINE { PLACES.acquire().await.ok() } else { None };
    api::heavy(bytes, work).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// RFC 9110's `deflate`, which is zlib's format.
    Deflate,
    Zstd,
}

impl Coding {
    /// Those that serve a client best first.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }

    /// Of a request's body; `None` where it is as it is.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let name = text.trim();
        match Self::from_name(name).filter(|_| values.next().is_none()) {
            Some(coding) => Ok(Some(coding)),
            None if name.eq_ignore_ascii_case("identity") => Ok(None),
            None => {
                let message = format!("Content-Encoding is {:?}, expected gzip, deflate or zstd", shown(name));
                Err(Error::new(Kind::UnsupportedEncoding, message))
            }
        }
    }
}

/// What a client takes as an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    best: Option<Coding>,
    /// Whether it names this coding and nothing else, as a client does that was told to ask for it.
    is_only: bool,
}

impl Accepted {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Self::default();
        }
        let values = headers.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
        Self::read(&values.collect::<Vec<_>>().join(","))
    }

    fn read(text: &str) -> Self {
        let wishes: Vec<(&str, f32)> = text.split(',').map(wish).filter(|(name, _)| !name.is_empty()).collect();
        let named =
            |is_it: &dyn Fn(&str) -> bool| wishes.iter().find(|(name, _)| is_it(name)).map(|(_, weight)| *weight);
        let any = named(&|name| name == "*");
        let plain = named(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0.0);
        let mut best: Option<(Coding, f32)> = None;
        for coding in Coding::ALL {
            let weight = named(&|name| Coding::from_name(name) == Some(coding)).or(any).unwrap_or(0.0);
            if weight > 0.0 && weight >= plain && best.is_none_or(|(_, other)| weight > other) {
                best = Some((coding, weight));
            }
        }
        let is_only = matches!(*wishes, [(name, _)] if name != "*");
        Self { best: best.map(|(coding, _)| coding), is_only: is_only && best.is_some() }
    }
}

/// A coding and its weight, 1 where it has none, 0 where that is no number.
fn wish(item: &str) -> (&str, f32) {
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let (key, value) = parameters.split_once('=').unwrap_or(("", "1"));
    let is_weight = key.trim().is_empty() || key.trim().eq_ignore_ascii_case("q");
    let weight = value.trim().parse().ok().filter(|weight| is_weight && (0.0..=1.0).contains(weight));
    (name.trim(), weight.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_with_the_highest_weight_is_taken_and_ours_where_weights_are_equal() {
        use Coding::{Deflate, Gzip, Zstd};
        for (text, best, is_only) in [
            ("", None, false),
            ("gzip", Some(Gzip), true),
            ("GZip ; q=0.5", Some(Gzip), true),
            ("x-gzip", Some(Gzip), true),
            ("gzip, deflate, br, zstd", Some(Zstd), false),
            ("gzip, deflate", Some(Gzip), false),
            ("gzip;q=0.3, deflate;q=0.8", Some(Deflate), false),
            ("br", None, false),
            ("*", Some(Zstd), false),
            ("zstd;q=0, *;q=0.1", Some(Gzip), false),
            ("gzip;q=0", None, false),
            ("identity, gzip;q=0.5", None, false),
            ("identity;q=0.5, gzip", Some(Gzip), false),
            ("gzip;q=2, deflate;q=high, zstd;level=3", None, false),
            (",,gzip,,", Some(Gzip), true),
        ] {
            assert_eq!(Accepted::read(text), Accepted { best, is_only }, "{text:?}");
        }
    }

    #[test]
    fn a_body_has_one_coding_that_is_known_or_none() {
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| (CONTENT_ENCODING, HeaderValue::from_static(value)));
            Coding::of_body(&values.collect())
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["identity"]).unwrap(), None);
        assert_eq!(of(&[" Zstd"]).unwrap(), Some(Coding::Zstd));
        for odd in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &[""]] {
            let error = of(odd).unwrap_err();
            assert_eq!(error.status(), 415);
            assert!(error.message().contains("expected gzip, deflate or zstd"), "{error:?}");
        }
    }
}
