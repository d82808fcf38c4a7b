//! Nested arrays of plain numbers, read in one pass without a parser around it: what nearly every request is.
//!
//! It only says yes or nothing. Whatever it does not understand, or what would be refused, it leaves to the reader that
//! can tell what is wrong and where; what it accepts, that one would have read to the same bytes.

use super::{MAX_RANK, Room};
use crate::tensor::pool::{Buffer, Pool};
use crate::tensor::{DType, Tensor};

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// The largest whole number up to which a double holds all.
const EXACT: u64 = 1 << 53;
/// Digits that always fit a `u64`.
const DIGITS: usize = 19;

/// The tensor of nested numbers, whose elements go to a buffer of `pool`. `None` where it is anything else, or where the
/// pool has no room.
pub fn value(text: &[u8], dtype: DType, pool: &Pool) -> Option<Tensor> {
    let (mut scan, bytes) = (Scan { text, at: 0 }, room(text, dtype, pool)?);
    let tensor = scan.tensor(dtype, bytes)?;
    scan.skip_space();
    (scan.at == text.len()).then_some(tensor)
}

/// The same of `{"<field>": <nested numbers>}`.
pub fn object(text: &[u8], field: &str, dtype: DType, pool: &Pool) -> Option<Tensor> {
    let (mut scan, bytes) = (Scan { text, at: 0 }, room(text, dtype, pool)?);
    scan.expect(b'{')?;
    scan.expect(b'"')?;
    scan.at += scan.text[scan.at..].starts_with(field.as_bytes()).then_some(field.len())?;
    scan.next_is(b'"').then_some(())?;
    scan.expect(b':')?;
    let tensor = scan.tensor(dtype, bytes)?;
    scan.expect(b'}')?;
    scan.skip_space();
    (scan.at == text.len()).then_some(tensor)
}

fn room(text: &[u8], dtype: DType, pool: &Pool) -> Option<Buffer> {
    Room::new(pool, text).take::<serde_json::Error>(Some(dtype)).ok()
}

/// A number as it stands in the text.
struct Number<'a> {
    text: &'a [u8],
    is_negative: bool,
    /// Neither a fraction nor an exponent.
    is_whole: bool,
    /// `None` where it has too many digits.
    parts: Option<(u64, i32)>,
}

impl Number<'_> {
    /// The nearest double.
    #[inline]
    fn double(&self) -> Option<f64> {
        let exact = self.parts.and_then(|(digits, exponent)| {
            #[allow(clippy::cast_precision_loss)]
            // Up to EXACT there is none; above it, of whole numbers alone, it rounds.
            let value = digits as f64;
            match exponent {
                0 if digits <= EXACT || self.is_whole => Some(value),
                1..=22 if digits <= EXACT => Some(value * POWERS[usize::try_from(exponent).ok()?]),
                -22..0 if digits <= EXACT => Some(value / POWERS[usize::try_from(-exponent).ok()?]),
                _ => None,
            }
        });
        match exact {
            Some(value) => Some(if self.is_negative { -value } else { value }),
            None => std::str::from_utf8(self.text).ok()?.parse().ok().filter(|value: &f64| value.is_finite()),
        }
    }

    /// Its value where it is whole, and no `-0`, which counts as a fraction.
    fn whole(&self) -> Option<i128> {
        let (digits, _) = self.parts.filter(|(digits, _)| self.is_whole && (*digits > 0 || !self.is_negative))?;
        Some(if self.is_negative { -i128::from(digits) } else { i128::from(digits) })
    }

    /// Appends it as an element of this type.
    #[inline]
    fn push(&self, dtype: DType, bytes: &mut Buffer) -> Option<()> {
        macro_rules! whole {
            ($type:ty) => {
                bytes.extend_from_slice(&<$type>::try_from(self.whole()?).ok()?.to_le_bytes())
            };
        }
        match dtype {
            DType::Fp32 => {
                #[allow(clippy::cast_possible_truncation)] // Rounding to the model's precision is the point.
                let narrow = self.double()? as f32;
                bytes.extend_from_slice(&narrow.is_finite().then_some(narrow)?.to_le_bytes());
            }
            DType::Fp64 => bytes.extend_from_slice(&self.double()?.to_le_bytes()),
            DType::Uint8 => whole!(u8),
            DType::Uint16 => whole!(u16),
            DType::Uint32 => whole!(u32),
            DType::Uint64 => whole!(u64),
            DType::Int8 => whole!(i8),
            DType::Int16 => whole!(i16),
            DType::Int32 => whole!(i32),
            DType::Int64 => whole!(i64),
            DType::Bool | DType::Fp16 | DType::Bf16 | DType::Bytes => return None,
        }
        Some(())
    }
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes this byte if it is the next.
    fn next_is(&mut self, byte: u8) -> bool {
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes this byte, after white space.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.next_is(byte).then_some(())
    }

    fn tensor(&mut self, dtype: DType, mut bytes: Buffer) -> Option<Tensor> {
        let mut shape = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'[') {
            // Numbers are as deep as the first one.
            let depth = self.text[self.at..]
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace())
                .take_while(|byte| **byte == b'[')
                .count();
            shape = vec![None; (depth <= MAX_RANK).then_some(depth)?];
            self.array(0, &mut shape, dtype, &mut bytes)?;
        } else {
            self.number()?.push(dtype, &mut bytes)?;
        }
        Some(Tensor { dtype, shape: shape.into_iter().collect::<Option<_>>()?, bytes: bytes.into() })
    }

    /// One array of arrays or, at the last dimension, of numbers.
    fn array(&mut self, depth: usize, shape: &mut [Option<usize>], dtype: DType, bytes: &mut Buffer) -> Option<()> {
        self.expect(b'[')?;
        let mut length = 0;
        loop {
            if depth + 1 == shape.len() {
                self.skip_space();
                self.number()?.push(dtype, bytes)?;
            } else {
                self.array(depth + 1, shape, dtype, bytes)?;
            }
            length += 1;
            self.skip_space();
            if !self.next_is(b',') {
                break;
            }
        }
        self.next_is(b']').then_some(())?;
        (*shape[depth].get_or_insert(length) == length).then_some(())
    }

    /// A number as JSON has it.
    #[inline]
    fn number(&mut self) -> Option<Number<'a>> {
        let start = self.at;
        let is_negative = self.next_is(b'-');
        let (mut digits, mut exponent) = (0_u64, 0_i32);
        let whole = self.digits(&mut digits);
        // No leading zeros.
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0') {
            return None;
        }
        let (mut count, mut is_whole) = (whole, true);
        if self.next_is(b'.') {
            let fraction = self.digits(&mut digits);
            exponent = -i32::try_from(fraction).ok().filter(|digits| *digits > 0)?;
            (count, is_whole) = (count + fraction, false);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let is_below = self.next_is(b'-');
            let _ = is_below || self.next_is(b'+');
            let mut power = 0;
            let length = self.digits(&mut power);
            let power = i32::try_from(power).ok().filter(|_| (1..=4).contains(&length))?;
            exponent = exponent.checked_add(if is_below { -power } else { power })?;
            is_whole = false;
        }
        let parts = (count <= DIGITS).then_some((digits, exponent));
        Some(Number { text: &self.text[start..self.at], is_negative, is_whole, parts })
    }

    /// Appends the digits that come to `value`, which wraps where they are too many, and counts them.
    #[inline]
    fn digits(&mut self, value: &mut u64) -> usize {
        let rest = &self.text[self.at..];
        let mut count = 0;
        while let Some(eight) = rest[count..].first_chunk().and_then(|chunk| eight_digits(u64::from_le_bytes(*chunk))) {
            *value = value.wrapping_mul(100_000_000).wrapping_add(eight);
            count += 8;
        }
        for byte in &rest[count..] {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            *value = value.wrapping_mul(10).wrapping_add(digit.into());
            count += 1;
        }
        self.at += count;
        count
    }
}

/// The number that eight bytes of digits are, the first in the lowest byte: pairs are put together, then fours, then all.
#[inline]
fn eight_digits(bytes: u64) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    // A digit has a 3 in its upper half, and still has it with 6 more.
    let are_digits = bytes & HIGH == ZEROS && bytes.wrapping_add(0x0606_0606_0606_0606) & HIGH == ZEROS;
    let values = bytes.wrapping_sub(ZEROS);
    let pairs = (values.wrapping_mul(10).wrapping_add(values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let all = (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff;
    are_digits.then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeSeed as _;

    use super::*;
    use crate::tensor::json::Nested;

    const DTYPES: [DType; 10] = [
        DType::Fp32,
        DType::Fp64,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
    ];

    fn quickly(text: &str, dtype: DType) -> Option<Tensor> {
        let (body, pool) = (format!("{{\"x\":{text}}}"), Pool::new(usize::MAX));
        let tensor = object(body.as_bytes(), "x", dtype, &pool);
        assert_eq!(tensor, value(text.as_bytes(), dtype, &pool), "{text}");
        tensor
    }

    fn slowly(text: &str, dtype: DType) -> Option<Tensor> {
        let (mut json, pool) = (serde_json::Deserializer::from_str(text), Pool::new(usize::MAX));
        let bytes = Room::new(&pool, text.as_bytes()).take::<serde_json::Error>(Some(dtype)).unwrap();
        let tensor = Nested { field: "x", dtype: Some(dtype), bytes }.deserialize(&mut json).ok()?;
        json.end().ok().map(|()| tensor)
    }

    #[test]
    fn plain_numbers_are_read_quickly() {
        for (text, dtype, shape) in [
            ("[[1.5,-2,3e2],[4,5.25,-0.0]]", DType::Fp32, &[2, 3][..]),
            (" [ [ 0 ] , [ 7 ] ] ", DType::Fp64, &[2, 1]),
            ("[[[1],[2]]]", DType::Int64, &[1, 2, 1]),
            ("3.25", DType::Fp32, &[]),
            ("[0.1234567890123456789012345]", DType::Fp64, &[1]),
            ("[18446744073709551615]", DType::Fp32, &[1]),
        ] {
            let tensor = quickly(text, dtype);
            assert_eq!(tensor.as_ref().map(|tensor| &tensor.shape[..]), Some(shape), "{text}");
            assert_eq!(tensor, slowly(text, dtype), "{text}");
        }
    }

    #[test]
    fn eight_digits_are_read_at_once_and_nothing_else_is() {
        let read = |text: &[u8; 8]| eight_digits(u64::from_le_bytes(*text));
        assert_eq!(
            (read(b"12345678"), read(b"00000000"), read(b"99999999")),
            (Some(12_345_678), Some(0), Some(99_999_999))
        );
        for place in 0..8 {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let mut text = *b"12345678";
                text[place] = byte;
                assert_eq!(read(&text), None, "{text:?}");
            }
        }
    }

    #[test]
    fn everything_else_is_left_to_the_reader_that_explains() {
        for text in [
            "",
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "[[1],[2,3]]",
            "[[1],2]",
            "[1,[2]]",
            "[]",
            "[[]]",
            "[01]",
            "[-]",
            "[1.]",
            "[.5]",
            "[1e]",
            "[1e+]",
            "[+1]",
            "[NaN]",
            "[1e999]",
            "[4e38]",
            "[null]",
            "[\"a\"]",
            "[1]]",
            "[[1]",
            "[0x1]",
            "[1e99999999999]",
        ] {
            assert_eq!(quickly(text, DType::Fp32), None, "{text}");
        }
        for text in ["[1.5]", "[1e2]", "[-0]", "[300]", "[-129]"] {
            assert_eq!(quickly(text, DType::Int8), None, "{text}");
        }
    }

    /// Numbers and near misses of numbers.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<f32>().prop_map(|value| value.to_string()),
            any::<f64>().prop_map(|value| format!("{value:e}")),
            any::<i64>().prop_map(|value| value.to_string()),
            "-?[0-9]{1,25}(\\.[0-9]{0,25})?([eE][-+]?[0-9]{0,4})?",
        ]
    }

    fn nested() -> impl Strategy<Value = String> {
        let array = |inner: BoxedStrategy<String>| {
            (prop::collection::vec(inner, 0..4), "[ \n\t]{0,2}")
                .prop_map(|(parts, space)| format!("[{space}{}{space}]", parts.join(&format!("{space},"))))
        };
        number().boxed().prop_recursive(3, 16, 4, move |inner| array(inner).boxed())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_read_quickly_is_read_the_same(text in nested(), dtype in prop::sample::select(&DTYPES[..])) {
            if let Some(tensor) = quickly(&text, dtype) {
                prop_assert_eq!(Some(tensor), slowly(&text, dtype));
            }
        }
    }
}
