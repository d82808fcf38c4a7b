//! Texts to try whether rows are independent, and how two of them differ.

use super::{Change, Side};
use crate::tensor::Tensor;
use crate::tensor::text::{Shown, encode};

/// For each pair to be tried, its two rows: words and sentences of different lengths at first, which most models can bear;
/// then numbers, for those that read them.
const PAIRS: [[&str; 2]; 4] = [["a text", "Another, which is longer."], ["7", "12"], ["Words", "a text"], ["", ""]];

/// What stands everywhere in one row of the pair `number`.
pub(super) fn of(number: usize, side: Side) -> &'static str {
    PAIRS[number.min(PAIRS.len() - 1)][side as usize]
}

/// Of a longer text, another row needs no more than this.
const LONGEST: usize = 4 << 10;

/// Another row of one that somebody sent, as far as possible of the same words.
pub(super) fn changed(row: &Tensor, change: Change) -> Vec<u8> {
    encode(row.elements().map(|text| match (change, text) {
        (Change::Raised, _) => Vec::new(),
        (_, []) => b"a text".to_vec(),
        (Change::Turned, text) if text.len() <= LONGEST => [text, b" ", text].concat(),
        (Change::Turned, text) => beginning(text, LONGEST).to_vec(),
        (Change::Lowered, text) => beginning(text, text.len().div_ceil(2).min(LONGEST)).to_vec(),
    }))
}

/// Up to so many bytes, and no half of a character where the text is UTF-8.
fn beginning(text: &[u8], most: usize) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => &text.as_bytes()[..text.floor_char_boundary(most)],
        Err(_) => &text[..most.min(text.len())],
    }
}

/// The first element that differs, in words. The shapes are the same.
pub(super) fn differ(got: &Tensor, expected: &Tensor) -> Option<String> {
    let mut pairs = got.elements().zip(expected.elements()).enumerate();
    let (element, (got, expected)) = pairs.find(|(_, (got, expected))| got != expected)?;
    Some(format!("element {element} is {} instead of {}", Shown(got), Shown(expected)))
}
