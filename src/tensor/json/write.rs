//! A tensor to nested JSON arrays.

use std::io::Write as _;

use base64::engine::general_purpose::STANDARD as BASE64;

use crate::tensor::{DType, Elements, Tensor};

/// Appends `tensor` as nested arrays. JSON has no NaN and no infinity: those become `null`. A text that is not UTF-8
/// becomes `{"b64": "…"}`.
pub fn write(out: &mut Vec<u8>, tensor: &Tensor) {
    let mut elements = tensor.elements();
    write_dimension(out, tensor.dtype, &tensor.shape, &mut elements);
}

fn write_dimension(out: &mut Vec<u8>, dtype: DType, shape: &[usize], elements: &mut Elements<'_>) {
    let Some((length, inner)) = shape.split_first() else {
        if let Some(element) = elements.next() {
            write_element(out, dtype, element);
        }
        return;
    };
    out.push(b'[');
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        write_dimension(out, dtype, inner, elements);
    }
    out.push(b']');
}

fn write_element(out: &mut Vec<u8>, dtype: DType, bytes: &[u8]) {
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().expect("an element has its own size"))
        };
    }
    // Writing to a Vec cannot fail.
    let _ = match dtype {
        DType::Bool => write!(out, "{}", bytes[0] != 0),
        DType::Uint8 => write!(out, "{}", bytes[0]),
        DType::Uint16 => write!(out, "{}", read!(u16)),
        DType::Uint32 => write!(out, "{}", read!(u32)),
        DType::Uint64 => write!(out, "{}", read!(u64)),
        DType::Int8 => write!(out, "{}", read!(i8)),
        DType::Int16 => write!(out, "{}", read!(i16)),
        DType::Int32 => write!(out, "{}", read!(i32)),
        DType::Int64 => write!(out, "{}", read!(i64)),
        DType::Fp16 => serde_json::to_writer(out, &read!(half::f16).to_f32()).map_err(Into::into),
        DType::Bf16 => serde_json::to_writer(out, &read!(half::bf16).to_f32()).map_err(Into::into),
        DType::Fp32 => serde_json::to_writer(out, &read!(f32)).map_err(Into::into),
        DType::Fp64 => serde_json::to_writer(out, &read!(f64)).map_err(Into::into),
        DType::Bytes => match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::to_writer(out, text).map_err(Into::into),
            Err(_) => write!(out, "{{\"b64\":\"{}\"}}", base64::display::Base64Display::new(bytes, &BASE64)),
        },
    };
}
