//! Whether a client would rather have a page than a line: only one that names `text/html`, as browsers do. Pure.

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};

/// Whether `text/html` is named, and wanted at least as much as `text/plain`. curl, probes and programs say `*/*` or
/// nothing, which both would do for: they get the line.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
    let text = values.collect::<Vec<_>>().join(",");
    let ranges: Vec<(&str, f32)> = text.split(',').map(range).collect();
    let weight = |wanted: &str| {
        let named = ranges.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, weight)| *weight);
        named.reduce(f32::max)
    };
    let plain = ["text/plain", "text/*", "*/*"].into_iter().find_map(weight).unwrap_or(0.0);
    weight("text/html").is_some_and(|html| html > 0.0 && html >= plain)
}

/// A media range and its weight: 1 where it has none, 0 where that is no number.
fn range(item: &str) -> (&str, f32) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.filter_map(|part| part.split_once('=')).find(|(key, _)| key.trim().eq_ignore_ascii_case("q"));
    let weight = weight.map_or(Some(1.0), |(_, value)| value.trim().parse().ok());
    (name, weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_the_page_and_everybody_else_the_line() {
        let prefers_html = |values: &[&'static str]| {
            let values = values.iter().map(|value| (ACCEPT, HeaderValue::from_static(value)));
            prefers_html(&values.collect())
        };
        for browsers in [
            // Firefox, Chromium, Safari, and those that say little.
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
             application/signed-exchange;v=b3;q=0.7",
            "text/html, application/xhtml+xml, image/jxr, */*",
            "text/html",
            "TEXT/HTML;charset=utf-8 ; Q=0.5",
            "text/plain;q=0.5, text/html",
            "text/html, text/plain",
        ] {
            assert!(prefers_html(&[browsers]), "{browsers}");
        }
        assert!(prefers_html(&["application/json", "text/html"]), "of two headers as of one");
        for others in [
            "*/*",
            "",
            "text/*",
            "text/plain",
            "application/json",
            "application/xhtml+xml",
            "text/html;q=0",
            "text/html;q=0, */*",
            "text/html;q=much",
            "text/html;q=0.4, text/plain",
            "text/html;q=0.4, text/*;q=0.5",
            "text/html;q=0.1, */*",
            "text/htmlx",
        ] {
            assert!(!prefers_html(&[others]), "{others}");
        }
        assert!(!prefers_html(&[]));
    }
}
