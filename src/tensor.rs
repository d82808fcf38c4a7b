//! Tensors as the server sees them: an element type, a shape and row-major little-endian bytes.
//!
//! Pure: no runtime, no sockets. `json` and `npy` are the two parsers; `text` is how the elements of BYTES lie in memory.

pub mod json;
pub mod npy;
pub mod pool;
pub mod text;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use torchpod_abi::dtype as code;

/// An element type, by its name in the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Texts, of any bytes and lengths.
    Bytes,
}

/// Every element type: its protocol name, its size in bytes where all elements have the same, its number in the engine
/// ABI, its NumPy descriptor.
const DTYPES: [(DType, &str, Option<usize>, u32, &str); 14] = [
    (DType::Bool, "BOOL", Some(1), code::BOOL, "|b1"),
    (DType::Uint8, "UINT8", Some(1), code::UINT8, "|u1"),
    (DType::Uint16, "UINT16", Some(2), code::UINT16, "<u2"),
    (DType::Uint32, "UINT32", Some(4), code::UINT32, "<u4"),
    (DType::Uint64, "UINT64", Some(8), code::UINT64, "<u8"),
    (DType::Int8, "INT8", Some(1), code::INT8, "|i1"),
    (DType::Int16, "INT16", Some(2), code::INT16, "<i2"),
    (DType::Int32, "INT32", Some(4), code::INT32, "<i4"),
    (DType::Int64, "INT64", Some(8), code::INT64, "<i8"),
    (DType::Fp16, "FP16", Some(2), code::FP16, "<f2"),
    (DType::Bf16, "BF16", Some(2), code::BF16, ""),
    (DType::Fp32, "FP32", Some(4), code::FP32, "<f4"),
    (DType::Fp64, "FP64", Some(8), code::FP64, "<f8"),
    (DType::Bytes, "BYTES", None, code::BYTES, ""),
];

impl DType {
    fn row(self) -> &'static (DType, &'static str, Option<usize>, u32, &'static str) {
        &DTYPES[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes per element; `None` for BYTES, whose elements have each their own size.
    pub fn size(self) -> Option<usize> {
        self.row().2
    }

    /// The number that stands for this type in the engine ABI.
    pub fn abi(self) -> u32 {
        self.row().3
    }

    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    pub fn from_abi(code: u32) -> Option<Self> {
        DTYPES.iter().find(|row| row.3 == code).map(|row| row.0)
    }

    /// NumPy's `descr`, e.g. `<f4`. BF16 and BYTES have none.
    fn from_numpy(descr: &str) -> Option<Self> {
        DTYPES.iter().find(|row| !descr.is_empty() && row.4 == descr).map(|row| row.0)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dense tensor. `bytes` is row-major and little-endian, exactly the product of `shape` times the element's size, or for
/// BYTES as many texts in the form that [`text`] describes; clones and slices share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: Bytes,
}

impl Tensor {
    /// The length of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The shape of one row: all dimensions but the first.
    pub fn row_shape(&self) -> &[usize] {
        self.shape.get(1..).unwrap_or(&[])
    }

    /// The bytes of a range of rows.
    pub fn row_bytes(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[self.span(rows)]
    }

    /// A range of rows; it shares the bytes. Of BYTES, all texts before its end are walked over: to cut a tensor into
    /// pieces, use [`Self::split_to`].
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Self { dtype: self.dtype, shape, bytes: self.bytes.slice(self.span(rows)) }
    }

    /// Takes its first `rows` off, and leaves the others; both share the bytes.
    #[must_use]
    pub fn split_to(&mut self, rows: usize) -> Self {
        let first = self.slice(0..rows);
        self.shape[0] -= rows;
        self.bytes = self.bytes.slice(first.bytes.len()..);
        first
    }

    /// Where a range of rows lies in the bytes.
    fn span(&self, rows: Range<usize>) -> Range<usize> {
        let elements = self.row_shape().iter().product::<usize>();
        let (start, end) = (rows.start * elements, rows.end * elements);
        match self.dtype.size() {
            Some(size) => start * size..end * size,
            None if rows.end == self.rows() => text::span(&self.bytes, start..start).start..self.bytes.len(),
            None => text::span(&self.bytes, start..end),
        }
    }

    /// Each element's bytes in row-major order: a text without its length.
    pub fn elements(&self) -> Elements<'_> {
        match self.dtype.size() {
            Some(size) => Elements::Sized(self.bytes.chunks_exact(size)),
            None => Elements::Texts(text::Texts::new(&self.bytes)),
        }
    }

    /// The elements as `f64`, for comparing and scoring. Shape: flat, in row-major order. Texts are no numbers: of BYTES
    /// there is none.
    pub fn to_f64(&self) -> Vec<f64> {
        self.numbers().collect()
    }

    /// [`Self::to_f64`], one by one.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        let sized = match self.elements() {
            Elements::Sized(elements) => Some(elements),
            Elements::Texts(_) => None,
        };
        sized.into_iter().flatten().map(|bytes| element_to_f64(self.dtype, bytes))
    }
}

/// See [`Tensor::elements`].
#[derive(Clone, Debug)]
pub enum Elements<'a> {
    Sized(std::slice::ChunksExact<'a, u8>),
    Texts(text::Texts<'a>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Sized(elements) => elements.next(),
            Self::Texts(texts) => texts.next(),
        }
    }
}

/// One element as `f64`. 64-bit integers beyond 2⁵³ are rounded.
#[allow(clippy::cast_precision_loss)] // Said in the contract.
fn element_to_f64(dtype: DType, bytes: &[u8]) -> f64 {
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().expect("an element has its own size"))
        };
    }
    match dtype {
        DType::Bool | DType::Uint8 => f64::from(read!(u8)),
        DType::Uint16 => f64::from(read!(u16)),
        DType::Uint32 => f64::from(read!(u32)),
        DType::Uint64 => read!(u64) as f64,
        DType::Int8 => f64::from(read!(i8)),
        DType::Int16 => f64::from(read!(i16)),
        DType::Int32 => f64::from(read!(i32)),
        DType::Int64 => read!(i64) as f64,
        DType::Fp16 => f64::from(read!(half::f16)),
        DType::Bf16 => f64::from(read!(half::bf16)),
        DType::Fp32 => f64::from(read!(f32)),
        DType::Fp64 => read!(f64),
        DType::Bytes => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for row in &DTYPES {
            assert_eq!(row.0.row().1, row.1);
            assert_eq!(DType::from_name(row.1), Some(row.0));
            assert_eq!(DType::from_abi(row.3), Some(row.0));
        }
    }

    #[test]
    fn a_tensor_reads_back_as_numbers() {
        let tensor = Tensor { dtype: DType::Int16, shape: vec![2], bytes: vec![1, 0, 0xff, 0xff].into() };
        assert_eq!(tensor.to_f64(), [1.0, -1.0]);
    }

    fn texts(shape: &[usize], texts: &[&str]) -> Tensor {
        Tensor { dtype: DType::Bytes, shape: shape.to_vec(), bytes: text::encode(texts).into() }
    }

    #[test]
    fn rows_of_texts_are_cut_where_a_text_ends() {
        let all = texts(&[3, 2], &["", "b", "cc", "", "ü", "f"]);
        assert_eq!(all.slice(1..2), texts(&[1, 2], &["cc", ""]));
        assert_eq!(all.slice(1..3), texts(&[2, 2], &["cc", "", "ü", "f"]));
        assert_eq!(all.row_bytes(0..3), &all.bytes);
        assert_eq!(all.elements().collect::<Vec<_>>(), [&b""[..], b"b", b"cc", b"", "ü".as_bytes(), b"f"]);
        let mut rest = all.clone();
        assert_eq!(rest.split_to(1), texts(&[1, 2], &["", "b"]));
        assert_eq!(rest.split_to(2), texts(&[2, 2], &["cc", "", "ü", "f"]));
        assert_eq!(rest, texts(&[0, 2], &[]));
        let mut numbers = Tensor { dtype: DType::Int16, shape: vec![3], bytes: vec![1, 0, 2, 0, 3, 0].into() };
        assert_eq!((numbers.split_to(2).to_f64(), numbers.to_f64()), (vec![1.0, 2.0], vec![3.0]));
    }

    #[test]
    fn a_row_of_no_texts_has_no_bytes() {
        let empty = texts(&[2, 0], &[]);
        assert_eq!((empty.slice(1..2), empty.row_bytes(0..1)), (texts(&[1, 0], &[]), &[][..]));
    }
}
