//! `http://` and `https://`: a GET is answered with 2xx. Redirects are not followed: they say where the answer is, not
//! what it is.

use reqwest::header::{CONNECTION, HeaderValue};
use reqwest::{Client, redirect};
use url::Url;

use super::once::Once;
use super::reason;

/// An answer is read to its end, so that its server is not cut off, but not beyond this many bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

#[derive(Clone)]
pub(super) struct Check {
    url: Url,
    client: Once<Client>,
}

impl Check {
    pub(super) fn new(url: &Url) -> Self {
        Self { url: url.clone(), client: Once::default() }
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        let explain = |error: reqwest::Error| reason::of(&error.without_url());
        let request = self.client.get(client).await?.get(self.url.clone());
        let mut answer = request.header(CONNECTION, HeaderValue::from_static("close")).send().await.map_err(explain)?;
        let (status, mut read) = (answer.status(), 0);
        while let Some(chunk) = answer.chunk().await.map_err(explain)? {
            read += chunk.len();
            if read > LONGEST_ANSWER {
                break;
            }
        }
        if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
    }
}

/// Every check makes a connection of its own, as the next request of a model would where its pool is empty.
fn client() -> Result<Client, String> {
    // reqwest asks for the process's provider; an error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("torchpod/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build();
    client.map_err(|error| format!("no TLS client: {}", reason::of(&error)))
}
