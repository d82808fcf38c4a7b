//! What a request's headers ask of its handling: how long it may take, and whether it can wait for others.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{Error, shown};
use crate::batch::{Handle, Priority};

/// Both hold whole milliseconds; the second is what Envoy tells upstreams of its own timeout.
static TIMEOUTS: [HeaderName; 2] =
    [HeaderName::from_static("x-request-timeout-ms"), HeaderName::from_static("x-envoy-expected-rq-timeout-ms")];
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static PRIORITY: HeaderName = HeaderName::from_static("torchpod-priority");

/// On what terms a request is computed.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub deadline: Instant,
    pub priority: Priority,
}

impl Terms {
    /// Those of a request that began when it `started` and may take no longer than `longest`.
    pub fn of(headers: &HeaderMap, started: Instant, longest: Duration) -> Result<Self, Error> {
        Ok(Self { deadline: started + timeout(headers, longest)?, priority: priority(headers)? })
    }

    /// Refuses a request that has no chance, before anything is spent on its body.
    pub fn admit(self, model: &Handle) -> Result<(), Error> {
        Ok(model.admit(1, self.deadline, self.priority)?)
    }
}

/// The least of what the client has left for the answer, if it says so, and `longest`.
fn timeout(headers: &HeaderMap, longest: Duration) -> Result<Duration, Error> {
    let asked = TIMEOUTS.iter().filter_map(|name| Some((name.as_str(), headers.get(name)?)));
    let longest = match headers.get(&GRPC_TIMEOUT) {
        Some(value) => longest.min(grpc_timeout(value)?),
        None => longest,
    };
    asked
        .map(|(name, value)| milliseconds(name, value.as_bytes()))
        .try_fold(longest, |least, time| Ok(least.min(time?)))
}

/// At most eight digits and a unit, as gRPC's clients send it.
fn grpc_timeout(value: &HeaderValue) -> Result<Duration, Error> {
    let text = String::from_utf8_lossy(value.as_bytes());
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number = (1..=8).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    read().ok_or_else(|| {
        let got = shown(&text);
        Error::bad_input(format!("{GRPC_TIMEOUT}: got {got:?}, expected up to eight digits and H, M, S, m, u or n"))
    })
}

/// Whether the request can wait for others: `normal`, which is also meant by silence, or `low`.
fn priority(headers: &HeaderMap) -> Result<Priority, Error> {
    match headers.get(&PRIORITY).map(HeaderValue::as_bytes) {
        None | Some(b"normal") => Ok(Priority::Normal),
        Some(b"low") => Ok(Priority::Low),
        Some(other) => {
            let got = shown(&String::from_utf8_lossy(other));
            Err(Error::bad_input(format!("{PRIORITY}: got {got:?}, expected normal or low")))
        }
    }
}

fn milliseconds(name: &str, value: &[u8]) -> Result<Duration, Error> {
    let text = String::from_utf8_lossy(value);
    let number = text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    number.map(Duration::from_millis).ok_or_else(|| {
        Error::bad_input(format!(
            "{name}: got {:?}, expected whole milliseconds of at least 1, such as 250",
            shown(&text)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_shortest_timeout_counts() {
        let limit = Duration::from_secs(30);
        for (lines, milliseconds) in [
            (&[][..], 30_000),
            (&[("x-request-timeout-ms", "250")], 250),
            (&[("x-request-timeout-ms", " 250 ")], 250),
            (&[("x-request-timeout-ms", "99999")], 30_000),
            (&[("x-envoy-expected-rq-timeout-ms", "40")], 40),
            (&[("x-request-timeout-ms", "250"), ("x-envoy-expected-rq-timeout-ms", "300")], 250),
        ] {
            assert_eq!(timeout(&headers(lines), limit).unwrap().as_millis(), milliseconds, "{lines:?}");
        }
    }

    #[test]
    fn grpcs_own_timeout_is_read_by_its_unit() {
        let within = |value| timeout(&headers(&[("grpc-timeout", value)]), Duration::from_secs(30)).ok();
        for (value, micros) in
            [("250m", 250_000), ("7u", 7), ("2S", 2_000_000), ("99999999H", 30_000_000), ("9000n", 9)]
        {
            assert_eq!(within(value), Some(Duration::from_micros(micros)), "{value}");
        }
        for value in ["", "S", "5", "5s", "-1S", "+1S", "123456789S", "1.5S"] {
            assert_eq!(within(value), None, "{value}");
        }
    }

    #[test]
    fn a_priority_is_normal_low_or_refused() {
        assert_eq!(priority(&headers(&[])).unwrap(), Priority::Normal);
        assert_eq!(priority(&headers(&[("torchpod-priority", "low")])).unwrap(), Priority::Low);
        let said = format!("{:?}", priority(&headers(&[("torchpod-priority", "urgent")])).unwrap_err());
        assert!(said.contains("torchpod-priority: got") && said.contains("normal or low"), "{said}");
    }

    #[test]
    fn a_timeout_that_is_no_number_is_refused_by_name() {
        for value in ["soon", "0", "-1", "1.5", "", "99999999999999999999"] {
            let error = timeout(&headers(&[("x-request-timeout-ms", value)]), Duration::from_secs(30)).unwrap_err();
            let said = format!("{error:?}");
            assert!(said.contains("x-request-timeout-ms: got") && said.contains("milliseconds"), "{said}");
        }
    }
}
