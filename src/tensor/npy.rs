//! NumPy's `.npy` format, versions 1 to 3 (source: numpy/lib/format.py): magic, header length, a Python literal, data.

use bytes::Bytes;

use super::{DType, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Why a body is not a `.npy` tensor that can be served.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("not a .npy file: it does not start with \\x93NUMPY")]
    Magic,
    #[error("a .npy header of {0}")]
    Header(String),
    #[error("dtype {0:?} in the .npy header: expected a little-endian number type such as '<f4'")]
    DType(String),
    #[error("dtype {0:?} in the .npy header, which means texts: .npy is for numbers here, and texts come as JSON")]
    Texts(String),
    #[error("fortran_order = True in the .npy header: save numpy.ascontiguousarray(x) instead")]
    FortranOrder,
    #[error("{got} bytes of data, expected {expected} for shape {shape:?}")]
    Length { got: usize, expected: usize, shape: Vec<usize> },
}

/// Reads a whole `.npy` file; the tensor shares its bytes.
pub fn read(file: &Bytes) -> Result<Tensor, Error> {
    let rest = file.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let truncated = || Error::Header("fewer bytes than it announces".to_owned());
    let (length, start): (Option<usize>, usize) = match rest.first().ok_or_else(truncated)? {
        1 => (rest.get(2..4).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]]))), 4),
        2 | 3 => (rest.get(2..6).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize), 6),
        version => return Err(Error::Header(format!("version {version}; 1, 2 and 3 are known"))),
    };
    let end = start.checked_add(length.ok_or_else(truncated)?).ok_or_else(truncated)?;
    let header = std::str::from_utf8(rest.get(start..end).ok_or_else(truncated)?)
        .map_err(|_| Error::Header("bytes that are not UTF-8".to_owned()))?;
    let data = &rest[end..];

    let descr = quoted(value(header, "descr")?);
    let dtype = DType::from_numpy(descr).ok_or_else(|| unknown(descr))?;
    if value(header, "fortran_order")?.starts_with("True") {
        return Err(Error::FortranOrder);
    }
    let shape = shape(value(header, "shape")?)?;
    let element = dtype.size().ok_or_else(|| unknown(descr))?;
    let expected = shape.iter().try_fold(element, |size, length| size.checked_mul(*length));
    if expected != Some(data.len()) {
        return Err(Error::Length { got: data.len(), expected: expected.unwrap_or(usize::MAX), shape });
    }
    let bytes = file.slice_ref(data);
    Ok(Tensor { dtype, shape, bytes })
}

/// NumPy writes arrays of texts as `|S5`, `<U5`, or `|O`, a pickle.
fn unknown(descr: &str) -> Error {
    let shown = descr.chars().take(32).collect();
    let kind = descr.trim_start_matches(['|', '<', '>', '=']);
    if kind.starts_with(['S', 'U', 'O']) { Error::Texts(shown) } else { Error::DType(shown) }
}

/// What stands behind `'key':` in the header's dict.
fn value<'a>(header: &'a str, key: &str) -> Result<&'a str, Error> {
    header
        .split_once(&format!("'{key}':"))
        .map(|(_, value)| value.trim_start())
        .ok_or_else(|| Error::Header(format!("no {key:?}")))
}

fn quoted(value: &str) -> &str {
    value.strip_prefix('\'').and_then(|rest| rest.split('\'').next()).unwrap_or(value)
}

fn shape(value: &str) -> Result<Vec<usize>, Error> {
    let inner = value.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inner, _)| inner);
    let lengths = inner.ok_or_else(|| Error::Header("no tuple as shape".to_owned()))?;
    lengths
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .map(|length| length.parse().map_err(|_| Error::Header(format!("the length {length:?} in its shape"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend([1, 0]);
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn a_float_matrix_is_read() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }          \n";
        let data: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = read(&file(header, &data).into()).unwrap();
        assert_eq!((tensor.dtype, tensor.shape.as_slice()), (DType::Fp32, &[1, 2][..]));
        assert_eq!(tensor.to_f64(), [1.0, 2.0]);
    }

    #[test]
    fn each_defect_has_its_own_error() {
        let header = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}")
        };
        let error = |header: &str| read(&file(header, &[0; 8]).into()).unwrap_err();
        assert_eq!(read(&Bytes::from_static(b"PK")).unwrap_err(), Error::Magic);
        assert_eq!(error(&header("<f4", "True", "(2,)")), Error::FortranOrder);
        assert_eq!(error(&header(">f4", "False", "(2,)")), Error::DType(">f4".to_owned()));
        for texts in ["|S4", "<U2", "|O"] {
            assert_eq!(error(&header(texts, "False", "(2,)")), Error::Texts(texts.to_owned()));
        }
        assert!(matches!(error(&header("<f4", "False", "(3,)")), Error::Length { got: 8, expected: 12, .. }));
        let huge = "(4294967296, 4294967296, 4294967296)";
        assert!(matches!(error(&header("<f4", "False", huge)), Error::Length { .. }));
        assert!(matches!(error(&header("<f4", "False", "(-1,)")), Error::Header(_)));
        assert!(matches!(error("{}"), Error::Header(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend(bytes);
            let _ = read(&file.into());
        }
    }
}
