//! Where to ask: what somebody wrote, as a host and a port; and which of a name's addresses are replicas. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

use crate::probe::has_usable_port;

/// The port that a server listens on where nobody says otherwise.
const SERVER_PORT: u16 = 8080;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an address, that of IPv6 without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a URL such as http://10.0.0.7:8080, or host:port";
        if text.contains('@') {
            return Err("expected no credentials: the console asks for none");
        }
        let (is_url, rest) = text.strip_prefix("http://").map_or((false, text), |rest| (true, rest));
        if rest.starts_with("https://") {
            return Err("expected http://: servers speak no TLS, and whoever does it for them hides which one answers");
        }
        if rest.contains("://") {
            return Err(EXPECTED);
        }
        let url: Uri = format!("http://{rest}").parse().map_err(|_| EXPECTED)?;
        let host = url.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        if rest.contains(['?', '#']) || url.path() != "/" {
            return Err("expected nothing behind the port: the console is at the root");
        }
        if !has_usable_port(&url) {
            return Err("expected a port from 1 to 65535");
        }
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = url.port_u16().unwrap_or(if is_url { 80 } else { SERVER_PORT });
        Ok(Self { host: host.to_owned(), port })
    }

    /// Where there is no name to look up.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|address| (address, self.port).into())
    }
}

/// Of a name that has addresses of both kinds, those of IPv4: a pod of two families has one of each, and so has
/// `localhost`, where most servers listen on the first alone.
pub(super) fn replicas(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.collect();
    if found.iter().any(SocketAddr::is_ipv4) {
        found.retain(SocketAddr::is_ipv4);
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_a_url_or_by_its_host_and_port() {
        let table = [
            ("http://10.0.0.7:8080", "10.0.0.7:8080"),
            ("http://10.0.0.7:8080/", "10.0.0.7:8080"),
            ("http://ml-model", "ml-model:80"),
            ("ml-model", "ml-model:8080"),
            ("ml-model-metrics:8081", "ml-model-metrics:8081"),
            ("[::1]:8081", "[::1]:8081"),
            ("http://[fd00::7]", "[fd00::7]:80"),
        ];
        for (text, expected) in table {
            assert_eq!(Target::parse(text).map(|target| target.to_string()), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(Target::parse("[::1]:1").unwrap().address(), Some("[::1]:1".parse().unwrap()));
        assert_eq!(Target::parse("localhost:1").unwrap().address(), None);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_was_expected() {
        let table = [
            ("", "expected a URL"),
            ("http://", "expected a URL"),
            ("a b", "expected a URL"),
            ("ftp://host", "expected"),
            ("https://host", "expected http://"),
            ("me:secret@host:80", "expected no credentials"),
            ("http://host/console/state", "expected nothing behind"),
            ("host:80?x", "expected nothing behind"),
            ("host:0", "expected a port"),
            ("host:", "expected a port"),
            ("host:99999", "expected"),
        ];
        for (text, expected) in table {
            let error = Target::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn addresses_of_both_families_are_one_replica_each() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = addresses(&["[::1]:80", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(replicas(found.into_iter()), addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
        let only = addresses(&["[fd00::2]:80", "[fd00::1]:80"]);
        assert_eq!(replicas(only.into_iter()), addresses(&["[fd00::1]:80", "[fd00::2]:80"]));
    }
}
