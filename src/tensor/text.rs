//! Texts as a BYTES tensor holds them: for each element a length, four little-endian bytes, and that many bytes.
//!
//! It is the Open Inference Protocol's binary form, and the engine ABI's. A text is any bytes, UTF-8 or not.

use std::fmt;
use std::ops::Range;

/// Bytes of a text's length.
pub const PREFIX: usize = 4;

/// Why bytes are not so many texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("text {index} has no whole length: {left} bytes are left, expected {PREFIX}")]
    Length { index: usize, left: usize },
    #[error("text {index} ends too early: its length is {length}, and {left} bytes are left")]
    Short { index: usize, length: usize, left: usize },
    #[error("{left} bytes are left after {texts} texts, as many as the shape wants")]
    Left { left: usize, texts: usize },
}

/// Whether `bytes` are exactly `count` texts. No length in them is believed before it has been compared with what is
/// there.
pub fn check(bytes: &[u8], count: usize) -> Result<(), Error> {
    let mut rest = bytes;
    for index in 0..count {
        let left = rest.len();
        let (length, after) = length(rest).ok_or(Error::Length { index, left })?;
        rest = after.get(length..).ok_or(Error::Short { index, length, left: after.len() })?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Error::Left { left: rest.len(), texts: count }) }
}

/// The length that `bytes` begin with, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (prefix, after) = bytes.split_first_chunk::<PREFIX>()?;
    Some((u32::from_le_bytes(*prefix) as usize, after))
}

/// The texts in `bytes`, without their lengths; it ends where they are no texts any more.
#[derive(Clone, Debug)]
pub struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, after) = length(self.0)?;
        let (text, rest) = after.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

/// Where the texts `wanted` lie in `bytes`, with their lengths. It walks over all before them.
pub(super) fn span(bytes: &[u8], wanted: Range<usize>) -> Range<usize> {
    let mut texts = Texts::new(bytes);
    let mut walk = |texts_more: usize| {
        if texts_more > 0 {
            let _ = texts.nth(texts_more - 1);
        }
        bytes.len() - texts.0.len()
    };
    let start = walk(wanted.start);
    start..walk(wanted.end.saturating_sub(wanted.start))
}

/// The length of `text` as it stands before it; `None` for four GiB and more.
pub fn prefix(text: &[u8]) -> Option<[u8; PREFIX]> {
    u32::try_from(text.len()).ok().map(u32::to_le_bytes)
}

/// `texts` in their binary form; one that is too long to have a length is cut.
pub fn encode<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        let text = text.as_ref();
        let text = &text[..text.len().min(u32::MAX as usize)];
        bytes.extend_from_slice(&prefix(text).unwrap_or_default());
        bytes.extend_from_slice(text);
    }
    bytes
}

/// A text in an error or a log: its beginning, whatever its bytes are.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A character has four bytes at most.
        let text = String::from_utf8_lossy(&self.0[..self.0.len().min(33 * 4)]);
        let shown: String = text.chars().take(32).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        write!(f, "{shown:?}{more}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_defect_is_told_with_its_place() {
        let bytes = encode(["", "abc"]);
        assert_eq!(check(&bytes, 2), Ok(()));
        assert_eq!(check(&bytes, 1), Err(Error::Left { left: 7, texts: 1 }));
        assert_eq!(check(&bytes, 3), Err(Error::Length { index: 2, left: 0 }));
        assert_eq!(check(&bytes[..10], 2), Err(Error::Short { index: 1, length: 3, left: 2 }));
        assert_eq!(check(&[0xff; 5], 1), Err(Error::Short { index: 0, length: 0xffff_ffff, left: 1 }));
        // Nobody counts to such a number: the first text is missing already.
        assert_eq!(check(&[], usize::MAX), Err(Error::Length { index: 0, left: 0 }));
    }

    #[test]
    fn what_is_shown_of_a_text_is_short_and_printable() {
        assert_eq!(Shown(b"a\n\xff").to_string(), "\"a\\n\u{fffd}\"");
        let long = "é".repeat(1000);
        assert_eq!(Shown(long.as_bytes()).to_string(), format!("{:?}…", "é".repeat(32)));
    }

    proptest! {
        #[test]
        fn texts_come_back_as_they_went(texts in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let bytes = encode(&texts);
            prop_assert_eq!(check(&bytes, texts.len()), Ok(()));
            prop_assert_eq!(Texts::new(&bytes).collect::<Vec<_>>(), &texts[..]);
            for start in 0..=texts.len() {
                for end in start..=texts.len() {
                    prop_assert_eq!(&bytes[span(&bytes, start..end)], &encode(&texts[start..end])[..]);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), count in 0_usize..10, start in 0_usize..10) {
            let found = Texts::new(&bytes).count();
            prop_assert_eq!(check(&bytes, count).is_ok(), encode(Texts::new(&bytes)) == bytes && found == count);
            let _ = &bytes[span(&bytes, start..count)];
        }
    }
}
