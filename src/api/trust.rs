//! Who may load and unload models, and change what is logged.

use axum::http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Error, Kind, Shared};
use crate::batch::control::Refused;

/// A load that says what to load.
pub fn no_parameter(name: &str) -> Error {
    Error::bad_input(format!("parameter {name:?}: expected none, since what is in the model's folder is loaded"))
}

/// Whom a listener lets order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Whoever comes by it.
    Everyone,
    /// Whoever brings the token.
    Token,
}

impl Trust {
    /// Whether whoever sent `headers` may load and unload models.
    pub fn orders(self, state: &Shared, headers: &HeaderMap) -> Result<(), Error> {
        if self == Self::Token && state.control_token.is_none() && !state.control.is_explicit() {
            return Err(state.refused(Refused::Off));
        }
        self.allows(state, headers, "models are loaded and unloaded")
    }

    /// Whether whoever sent `headers` may order something; `what` says what, as in "models are loaded".
    pub fn allows(self, state: &Shared, headers: &HeaderMap, what: &str) -> Result<(), Error> {
        if self == Self::Everyone {
            return Ok(());
        }
        match &state.control_token {
            Some(token) if bears(headers, token) => Ok(()),
            Some(_) => {
                Err(Error::new(Kind::Unauthorized, "expected Authorization: Bearer and the control token".to_owned()))
            }
            None => {
                let text = format!("{what} on --probe-listen, or here where --control-token is set");
                Err(Error::new(Kind::Forbidden, text))
            }
        }
    }
}

/// Whether the client has the token. How long this takes tells nothing about it.
fn bears(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
    // Digests, since their lengths are equal whatever was given.
    let (given, token) = (Sha256::digest(given), Sha256::digest(token.expose_secret()));
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.as_slice().ct_eq(token.as_slice()))
}
