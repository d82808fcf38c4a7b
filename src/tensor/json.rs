//! Nested JSON arrays of numbers or texts ⇄ tensors, without an intermediate value.
//!
//! A text that is not UTF-8 is `{"b64": "…"}`, as in version 1 of `KServe`'s and `TensorFlow` Serving's protocol.

mod column;
pub mod quick;
mod write;

use std::cell::Cell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::pool::{Buffer, Full, Pool};
use super::{DType, Tensor, text};
pub use column::Column;
pub use write::write;

/// Tensors of more dimensions are refused; libtorch itself stops at 64, and nobody gets near.
const MAX_RANK: usize = 16;
/// Bytes of the largest element.
const LARGEST: usize = 8;

/// Reads one nested array as a tensor of `dtype`; its shape comes from the nesting. `field` names it in errors.
///
/// Without a `dtype` the elements decide: true and false make BOOL, whole numbers INT64, and any other number FP32.
pub struct Nested<'a> {
    pub field: &'a str,
    pub dtype: Option<DType>,
    /// Where the elements go, with room for all of them.
    pub bytes: Buffer,
}

/// Memory for what a text holds. Its elements are counted before they are read, so that none of them moves.
pub struct Room<'a> {
    pool: &'a Pool,
    elements: usize,
    /// Bytes of the text.
    length: usize,
    /// Bytes of the text and of what was asked for.
    needed: Cell<usize>,
    refused: Cell<Option<Full>>,
}

impl<'a> Room<'a> {
    pub fn new(pool: &'a Pool, text: &[u8]) -> Self {
        // Between two elements there is a comma.
        let elements = 1 + memchr::memchr_iter(b',', text).count();
        Self { pool, elements, length: text.len(), needed: Cell::new(text.len()), refused: Cell::new(None) }
    }

    /// A buffer for all elements, should they be of one tensor; where they decide its type, of the largest.
    pub fn take<E: Error>(&self, dtype: Option<DType>) -> Result<Buffer, E> {
        let bytes = match dtype {
            // However a text is escaped or encoded, it is no longer than what stands for it.
            Some(DType::Bytes) => self.elements.saturating_mul(text::PREFIX).saturating_add(self.length),
            dtype => self.elements.saturating_mul(dtype.and_then(DType::size).unwrap_or(LARGEST)),
        };
        self.needed.set(self.needed.get().saturating_add(bytes));
        self.pool.take(bytes).map_err(|full| {
            self.refused.set(Some(full));
            E::custom(full)
        })
    }

    /// Whether the pool, and not the text, is why reading failed.
    pub fn refused(&self) -> Option<Full> {
        self.refused.get()
    }

    /// Bytes that the text and its elements need together, or more: where the pool never lends as many, it is no use to
    /// try again.
    pub fn needed(&self) -> usize {
        self.needed.get()
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Tensor;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tensor, D::Error> {
        let mut reader = Reader::new(self.field, self.dtype, self.bytes);
        Element(&mut reader).deserialize(deserializer)?;
        Ok(reader.finish())
    }
}

struct Reader<'a> {
    field: &'a str,
    /// What the first index is followed by in errors: of a list of objects, the name of the value.
    member: Option<&'a str>,
    dtype: DType,
    /// Whether `dtype` is only what the elements so far would make.
    is_open: bool,
    bytes: Buffer,
    /// The length found at each depth, once the first array of that depth has ended.
    shape: Vec<Option<usize>>,
    /// The index at each depth of the element being read.
    position: Vec<usize>,
    /// How deep numbers stand: the first number decides.
    leaf_depth: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(field: &'a str, dtype: Option<DType>, bytes: Buffer) -> Self {
        Self {
            field,
            member: None,
            dtype: dtype.unwrap_or(DType::Int64),
            is_open: dtype.is_none(),
            bytes,
            shape: Vec::new(),
            position: Vec::new(),
            leaf_depth: None,
        }
    }

    fn finish(self) -> Tensor {
        let shape = self.shape.iter().map(|length| length.unwrap_or(0)).collect();
        Tensor { dtype: self.dtype, shape, bytes: self.bytes.into() }
    }

    /// `image[0][3]`, as a caller would write it, or `instances[0].image[3]`.
    fn place(&self) -> String {
        let mut place = self.field.to_owned();
        for (depth, index) in self.position.iter().enumerate() {
            place.push('[');
            place.push_str(&index.to_string());
            place.push(']');
            if let Some(member) = self.member.filter(|_| depth == 0) {
                place.push('.');
                place.push_str(member);
            }
        }
        place
    }

    fn refuse<E: Error>(&self, got: impl fmt::Display) -> E {
        let what = if self.dtype == DType::Bytes { ", a text" } else { "" };
        E::custom(format_args!("{}: got {got}, expected {}{what}", self.place(), self.dtype))
    }

    fn element(&self) -> &'static str {
        if self.dtype == DType::Bytes { "text" } else { "number" }
    }

    fn leaf<E: Error>(&mut self) -> Result<(), E> {
        let depth = self.position.len();
        match self.leaf_depth {
            Some(known) if known != depth => Err(self.among_arrays()),
            _ if self.shape.len() > depth => Err(self.among_arrays()),
            _ => {
                self.leaf_depth = Some(depth);
                Ok(())
            }
        }
    }

    fn among_arrays<E: Error>(&self) -> E {
        E::custom(format_args!("{}: a {} among arrays, expected an array", self.place(), self.element()))
    }

    fn text<E: Error>(&mut self, text: &[u8]) -> Result<(), E> {
        self.leaf()?;
        let prefix = text::prefix(text).ok_or_else(|| self.refuse("four GiB"))?;
        self.bytes.extend_from_slice(&prefix);
        self.bytes.extend_from_slice(text);
        Ok(())
    }

    /// Makes floats of the whole numbers so far, since one came that is not whole.
    fn widen(&mut self) {
        #[allow(clippy::cast_precision_loss)] // A float among them asked for floats.
        self.bytes.narrow(|whole: [u8; 8]| (i64::from_le_bytes(whole) as f32).to_le_bytes());
        self.dtype = DType::Fp32;
    }

    fn float<E: Error>(&mut self, value: f64) -> Result<(), E> {
        self.leaf()?;
        if self.is_open && self.dtype == DType::Int64 {
            self.widen();
        }
        match self.dtype {
            DType::Fp64 => self.bytes.extend_from_slice(&value.to_le_bytes()),
            #[allow(clippy::cast_possible_truncation)] // Rounding to the model's precision is the point.
            DType::Fp32 => {
                let narrow = value as f32;
                if narrow.is_infinite() {
                    return Err(self.refuse(format_args!("{value}, which is out of range")));
                }
                self.bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            DType::Fp16 => {
                let narrow = half::f16::from_f64(value);
                if narrow.is_infinite() {
                    return Err(self.refuse(format_args!("{value}, which is out of range")));
                }
                self.bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            DType::Bf16 => {
                let narrow = half::bf16::from_f64(value);
                if narrow.is_infinite() {
                    return Err(self.refuse(format_args!("{value}, which is out of range")));
                }
                self.bytes.extend_from_slice(&narrow.to_le_bytes());
            }
            _ => return Err(self.refuse(value)),
        }
        Ok(())
    }

    /// A whole number, which is no boolean where the elements decide.
    fn whole<E: Error>(&mut self, value: i128) -> Result<(), E> {
        if self.is_open && self.dtype == DType::Bool { Err(self.refuse(value)) } else { self.integer(value) }
    }

    fn integer<E: Error>(&mut self, value: i128) -> Result<(), E> {
        macro_rules! store {
            ($type:ty) => {
                match <$type>::try_from(value) {
                    Ok(narrow) => self.bytes.extend_from_slice(&narrow.to_le_bytes()),
                    Err(_) => return Err(self.refuse(format_args!("{value}, which is out of range"))),
                }
            };
        }
        if matches!(self.dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64) {
            #[allow(clippy::cast_precision_loss)] // A float model asked for floats.
            return self.float(value as f64);
        }
        self.leaf()?;
        match self.dtype {
            DType::Bool if value == 0 || value == 1 => self.bytes.extend_from_slice(&[u8::from(value == 1)]),
            DType::Bool | DType::Bytes => return Err(self.refuse(value)),
            DType::Uint8 => store!(u8),
            DType::Uint16 => store!(u16),
            DType::Uint32 => store!(u32),
            DType::Uint64 => store!(u64),
            DType::Int8 => store!(i8),
            DType::Int16 => store!(i16),
            DType::Int32 => store!(i32),
            _ => store!(i64),
        }
        Ok(())
    }
}

/// One number, one text or one array of elements.
struct Element<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} or an array of them", self.0.place(), self.0.dtype)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.float(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.whole(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.whole(value.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.0.is_open && self.0.bytes.is_empty() {
            self.0.dtype = DType::Bool;
        }
        if self.0.dtype == DType::Bool { self.0.integer(value.into()) } else { Err(self.0.refuse(value)) }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if self.0.dtype == DType::Bytes {
            return self.0.text(value.as_bytes());
        }
        let shown: String = value.chars().take(32).collect();
        Err(self.0.refuse(format_args!("the text {shown:?}")))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(self.0.refuse("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.0.dtype != DType::Bytes {
            return Err(self.0.refuse(Unexpected::Map));
        }
        let expected = |reader: &Reader<'_>| {
            let place = reader.place();
            A::Error::custom(format_args!(
                "{place}: got an object, expected a text, or {{\"b64\": \"…\"}} and nothing else"
            ))
        };
        if map.next_key::<String>()?.as_deref() != Some("b64") {
            return Err(expected(self.0));
        }
        let encoded: String = map.next_value()?;
        if map.next_key::<serde::de::IgnoredAny>()?.is_some() {
            return Err(expected(self.0));
        }
        match BASE64.decode(encoded) {
            Ok(text) => self.0.text(&text),
            Err(error) => Err(A::Error::custom(format_args!("{}: b64 is no Base64: {error}", self.0.place()))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let reader = self.0;
        let depth = reader.position.len();
        if depth == MAX_RANK {
            return Err(A::Error::custom(format_args!("{}: nested deeper than {MAX_RANK} dimensions", reader.field)));
        }
        if reader.leaf_depth == Some(depth) {
            let (place, element) = (reader.place(), reader.element());
            return Err(A::Error::custom(format_args!("{place}: an array among {element}s, expected a {element}")));
        }
        if reader.shape.len() == depth {
            reader.shape.push(None);
        }
        reader.position.push(0);
        while sequence.next_element_seed(Element(reader))?.is_some() {
            reader.position[depth] += 1;
        }
        let length = reader.position.pop().unwrap_or(0);
        match reader.shape[depth] {
            Some(first) if first != length => Err(A::Error::custom(format_args!(
                "{}: {length} elements, expected {first} as in its neighbours",
                reader.place()
            ))),
            _ => {
                reader.shape[depth] = Some(length);
                Ok(())
            }
        }
    }
}

/// What is wrong with a text that is part of a larger one, without the line and column, which are counted in the part.
pub fn gist(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(gist, _)| gist).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, dtype: DType) -> Result<Tensor, String> {
        parse(text, Some(dtype))
    }

    fn parse(text: &str, dtype: Option<DType>) -> Result<Tensor, String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let pool = Pool::new(usize::MAX);
        let bytes = Room::new(&pool, text.as_bytes()).take::<serde_json::Error>(dtype).unwrap();
        Nested { field: "x", dtype, bytes }.deserialize(&mut json).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_type_the_elements_decide() {
        let open = |text: &str| parse(text, None).map(|tensor| (tensor.dtype, tensor.to_f64()));
        assert_eq!(open("[1, -2]"), Ok((DType::Int64, vec![1.0, -2.0])));
        assert_eq!(open("[1, 2.5, 3]"), Ok((DType::Fp32, vec![1.0, 2.5, 3.0])));
        assert_eq!(open("[true, false]"), Ok((DType::Bool, vec![1.0, 0.0])));
        assert!(open("[true, 1]").unwrap_err().starts_with("x[1]: got 1, expected BOOL"));
        assert!(open("[1.5, true]").unwrap_err().starts_with("x[1]: got true, expected FP32"));
        assert!(open("[18446744073709551615]").unwrap_err().contains("out of range, expected INT64"));
    }

    fn written(tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write(&mut out, tensor);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_shape_comes_from_the_nesting() {
        let shape = |text| read(text, DType::Fp32).unwrap().shape;
        assert_eq!(shape("[[1,2,3],[4,5,6]]"), [2, 3]);
        assert_eq!(shape("7"), [] as [usize; 0]);
        assert_eq!(shape("[]"), [0]);
        assert_eq!(shape("[[],[]]"), [2, 0]);
    }

    #[test]
    fn an_error_names_the_place_the_value_and_what_was_expected() {
        let error = |text, dtype| read(text, dtype).unwrap_err();
        assert!(error("[[1,2],[3]]", DType::Fp32).starts_with("x[1]: 1 elements, expected 2"));
        assert!(error("[1,[2]]", DType::Fp32).starts_with("x[1]: an array among numbers"));
        assert!(error("[[1],2]", DType::Fp32).starts_with("x[1]: a number among arrays"));
        assert!(error("[[],2]", DType::Fp32).starts_with("x[1]: a number among arrays"));
        assert!(error("[1,\"a\"]", DType::Fp32).starts_with("x[1]: got the text \"a\", expected FP32"));
        assert!(error("[null]", DType::Fp32).starts_with("x[0]: got null, expected FP32"));
        assert!(error("[1e39]", DType::Fp32).contains("out of range"));
        assert!(error("[70000]", DType::Fp16).contains("out of range"));
        assert!(error("[256]", DType::Uint8).starts_with("x[0]: got 256, which is out of range, expected UINT8"));
        assert!(error("[1.5]", DType::Int64).starts_with("x[0]: got 1.5, expected INT64"));
        assert!(error("[2]", DType::Bool).starts_with("x[0]: got 2, expected BOOL"));
        assert!(error(&"[".repeat(100), DType::Fp32).starts_with("x: nested deeper than 16"));
    }

    #[test]
    fn what_json_cannot_say_is_null() {
        let bytes = [f32::NAN, f32::INFINITY, 1.5].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into();
        assert_eq!(written(&Tensor { dtype: DType::Fp32, shape: vec![3], bytes }), "[null,null,1.5]");
    }

    const PIECES: [&str; 10] =
        ["[", "]", "],[", ",", "\"a\"", "\"\"", "\"\\u00fc,,\"", "{\"b64\":\"/w==\"}", "{\"b64\":\"\"", "1"];

    #[test]
    fn texts_are_read_and_written_whatever_their_bytes() {
        let texts = read(r#"["", "a\u00fc\n\"", {"b64": "/wA="}]"#, DType::Bytes).unwrap();
        assert_eq!((texts.dtype, &texts.shape[..]), (DType::Bytes, &[3][..]));
        assert_eq!(texts.elements().collect::<Vec<_>>(), [&b""[..], "aü\n\"".as_bytes(), &[0xff, 0]]);
        assert_eq!(written(&texts), r#"["","aü\n\"",{"b64":"/wA="}]"#);
        assert_eq!(read(r#""a""#, DType::Bytes).unwrap().shape, [] as [usize; 0]);
        let error = |text| read(text, DType::Bytes).unwrap_err();
        assert!(error("[1]").starts_with("x[0]: got 1, expected BYTES, a text"), "{}", error("[1]"));
        assert!(error("[1.5]").starts_with("x[0]: got 1.5, expected BYTES, a text"));
        assert!(error("[true]").starts_with("x[0]: got true, expected BYTES, a text"));
        assert!(error("[null]").starts_with("x[0]: got null, expected BYTES, a text"));
        assert!(error(r#"["a",["b"]]"#).starts_with("x[1]: an array among texts, expected a text"));
        assert!(error(r#"[["a"],"b"]"#).starts_with("x[1]: a text among arrays, expected an array"));
        assert!(error(r#"[{"b64": "?"}]"#).starts_with("x[0]: b64 is no Base64: "));
        for odd in ["[{}]", r#"[{"a": "b"}]"#, r#"[{"b64": "", "a": 1}]"#] {
            assert!(
                error(odd).starts_with("x[0]: got an object, expected a text, or {\"b64\": \"…\"}"),
                "{}",
                error(odd)
            );
        }
        assert!(error("[\"\\ud800\"]").contains("hex escape"), "{}", error("[\"\\ud800\"]"));
    }

    proptest! {
        #[test]
        fn texts_survive_the_round_trip(texts in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
            let tensor = Tensor { dtype: DType::Bytes, shape: vec![texts.len()], bytes: text::encode(&texts).into() };
            prop_assert_eq!(read(&written(&tensor), DType::Bytes).unwrap(), tensor);
        }

        /// That there is room for them is asserted where they are stored.
        #[test]
        fn whatever_is_read_as_texts_is_texts(pieces in proptest::collection::vec(proptest::sample::select(&PIECES), 0..12)) {
            if let Ok(tensor) = read(&format!("[{}]", pieces.concat()), DType::Bytes) {
                prop_assert_eq!(text::check(&tensor.bytes, tensor.shape.iter().product()), Ok(()));
            }
        }

        #[test]
        fn floats_survive_the_round_trip(rows in 1_usize..5, columns in 1_usize..4, seed in any::<[f32; 16]>()) {
            let finite = |x: f32| if x.is_finite() { x } else { 0.5 };
            let bytes = seed.iter().take(rows * columns).flat_map(|x| finite(*x).to_le_bytes()).collect::<Vec<_>>().into();
            let tensor = Tensor { dtype: DType::Fp32, shape: vec![rows, columns], bytes };
            prop_assert_eq!(read(&written(&tensor), DType::Fp32).unwrap(), tensor);
        }
    }
}
