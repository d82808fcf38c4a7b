//! The console's page, put together once: one file, which holds its style and its script, asks no other host, and may run
//! nothing but what was built into it.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

const FRAME: &str = include_str!("page/frame.html");
const STYLE: &str = include_str!("page/style.css");
/// One script of several files, of which each may use what stands in those before it.
const SCRIPT: &str = concat!(
    include_str!("page/element.js"),
    include_str!("page/server.js"),
    include_str!("page/recent.js"),
    include_str!("page/machine.js"),
    include_str!("page/probe.js"),
    include_str!("page/chart.js"),
    include_str!("page/table.js"),
    include_str!("page/digit.js"),
    include_str!("page/trial.js"),
    include_str!("page/main.js"),
);

static PAGE: LazyLock<(HeaderValue, Bytes)> = LazyLock::new(|| {
    let page = FRAME.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1);
    // Base64 is fit for a header.
    let policy = HeaderValue::try_from(policy()).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    (policy, page.into())
});

/// The page, and what a browser may do with it.
pub(super) fn answer() -> Response {
    let (policy, page) = &*PAGE;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // What asks may be a page of an older server at the same address.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (headers, page.clone()).into_response()
}

/// Only this style and this script; requests to this server only; nobody's frame. The icon stands in the page.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_page_ends_what_it_stands_in() {
        for part in ["{style}", "{script}"] {
            assert_eq!(FRAME.matches(part).count(), 1, "{part}");
        }
        let text = SCRIPT.to_ascii_lowercase();
        assert!(
            !text.contains("</script") && !text.contains("<!--") && !STYLE.to_ascii_lowercase().contains("</style")
        );
        assert!(!STYLE.contains("{script}"));
    }
}
