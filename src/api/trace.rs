//! W3C Trace Context: a request's place in a trace, as `traceparent` tells it. Pure.
//!
//! The header's form is version, trace, parent and flags: `00-<32 hex>-<16 hex>-<2 hex>`.

use opentelemetry::trace::{SpanId, TraceId};

use crate::telemetry::trace::Place;

/// The flags that version 00 knows: sampled, and Level 2's random trace id.
const KNOWN_FLAGS: u8 = SAMPLED | 0x02;
/// Whether the caller keeps the trace.
const SAMPLED: u8 = 0x01;
const LENGTH: usize = 55;

/// Of a trace that begins here, whose id is random and which is kept.
const NEW: u8 = KNOWN_FLAGS;

/// What whoever called us says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub trace: TraceId,
    pub span: SpanId,
    flags: u8,
}

/// The `traceparent` of our own span, in a trace that begins with it.
pub fn begin(ours: Place) -> String {
    told(ours, NEW)
}

fn told(Place { trace, span }: Place, flags: u8) -> String {
    format!("00-{trace}-{span}-{flags:02x}")
}

impl Caller {
    /// Of a `traceparent`; `None` where it is not valid, which counts as none. Versions to come are read as far as 00
    /// goes, as the specification wants it.
    pub fn read(traceparent: &[u8]) -> Option<Self> {
        let (known, rest) = traceparent.split_at_checked(LENGTH)?;
        let [version, trace, parent, flags] = fields(known)?;
        let version = hex(version)?;
        let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        if version == 0xff || !is_whole {
            return None;
        }
        let trace = hex(trace).filter(|trace| *trace != 0)?;
        let span = u64::try_from(hex(parent)?).ok().filter(|span| *span != 0)?;
        let flags = u8::try_from(hex(flags)?).ok()? & KNOWN_FLAGS;
        Some(Self { trace: trace.into(), span: span.into(), flags })
    }

    /// Whether it keeps the trace.
    pub fn is_kept(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `traceparent` of our own span for this caller, with its flags, but for what we decide ourselves of whether the
    /// span is `kept`.
    pub fn answer(self, ours: Place, kept: Option<bool>) -> String {
        let sampled = if kept.unwrap_or(self.is_kept()) { SAMPLED } else { 0 };
        told(ours, self.flags & !SAMPLED | sampled)
    }
}

/// The four fields of the first [`LENGTH`] bytes.
fn fields(known: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = known.split(|byte| *byte == b'-');
    let four = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let is_form = fields.next().is_none() && four.map(<[u8]>::len) == [2, 32, 16, 2];
    is_form.then_some(four)
}

/// Lower case only, as the specification has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn a_valid_caller_is_answered_in_its_trace_with_its_flags_and_our_span() {
        for (sent, flags) in [
            (format!("00-{TRACE}-{PARENT}-01"), "01"),
            (format!("00-{TRACE}-{PARENT}-00"), "00"),
            (format!("00-{TRACE}-{PARENT}-03"), "03"),
            (format!("00-{TRACE}-{PARENT}-ff"), "03"),
            (format!("01-{TRACE}-{PARENT}-01"), "01"),
            (format!("cc-{TRACE}-{PARENT}-01-what-comes-later"), "01"),
        ] {
            let caller = Caller::read(sent.as_bytes()).unwrap_or_else(|| panic!("{sent} is valid"));
            assert_eq!(caller.trace.to_string(), TRACE);
            assert_eq!((caller.span.to_string().as_str(), caller.is_kept()), (PARENT, flags != "00"));
            let ours = Place { trace: caller.trace, span: 0x2a_u64.into() };
            assert_eq!(caller.answer(ours, None), format!("00-{TRACE}-000000000000002a-{flags}"));
            for (kept, last) in [(true, ["1", "3"]), (false, ["0", "2"])] {
                let told = caller.answer(ours, Some(kept));
                assert!(last.iter().any(|last| told.ends_with(last)), "{told} is kept: {kept}");
            }
        }
    }

    #[test]
    fn what_is_not_valid_counts_as_none() {
        let zeros = "0".repeat(32);
        for sent in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0G"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("cc-{TRACE}-{PARENT}-01.more"),
            format!("00-{TRACE}{PARENT}--01"),
            format!("00-{TRACE}_{PARENT}_01"),
            format!("00-{}g-{PARENT}-01", &TRACE[1..]),
            format!(" 0-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-é"),
        ] {
            assert_eq!(Caller::read(sent.as_bytes()), None, "{sent:?}");
        }
    }
}
