//! An inference request to tensors: raw bytes lie where they came, lists are written into the pool's memory.

use bytes::Bytes;

use crate::api::asked::{self, Asked, Inputs, refuse_shared_memory};
use crate::api::tensors::{Described, in_order};
use crate::api::{self, Error};
use crate::grpc::proto::infer_parameter::ParameterChoice;
use crate::grpc::proto::model_infer_request::InferInputTensor;
use crate::grpc::proto::{InferParameter, InferTensorContents, ModelInferRequest};
use crate::model::Spec;
use crate::tensor::pool::{Buffer, Pool};
use crate::tensor::{DType, Tensor, text};

pub(crate) fn read(spec: &Spec, message: ModelInferRequest, pool: &Pool) -> Result<(Inputs, Asked), Error> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents, .. } = message;
    let mut asked = Asked { id, ..Asked::default() };
    for (name, value) in &parameters {
        asked.parameters.take(name, value_of(value))?;
    }
    for output in outputs {
        let mut wish = asked::Output::default();
        for (name, value) in &output.parameters {
            wish.take(&output.name, name, value_of(value))?;
        }
        asked.outputs.push((output.name, wish));
    }
    let mut tensors = in_order(&spec.inputs, tensors(&inputs, raw_input_contents, pool)?)?;
    let rows = api::checked(spec, &mut tensors)?;
    Ok((Inputs { tensors, rows }, asked))
}

/// By name, in the order in which they came.
fn tensors<'a>(inputs: &'a [InferInputTensor], raw: Vec<Bytes>, pool: &Pool) -> Result<Vec<(&'a str, Tensor)>, Error> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (got, wanted) = (raw.len(), inputs.len());
        return Err(Error::bad_input(format!("raw_input_contents: got {got}, expected {wanted}, one for each input")));
    }
    let mut raw = raw.into_iter();
    let read = |input: &'a InferInputTensor| {
        input.parameters.keys().try_for_each(|name| refuse_shared_memory(name))?;
        let described = Described::new(&input.name, &input.datatype, &input.shape)?;
        let tensor = match (raw.next(), &input.contents) {
            (Some(_), Some(contents)) if !lists(contents).is_empty() => {
                let message = format!("{}: contents beside raw_input_contents, expected one of them", input.name);
                return Err(Error::bad_input(message));
            }
            (Some(bytes), _) => described.of_bytes("raw contents", pool.count(bytes)?)?,
            (None, Some(contents)) => from_lists(described, contents, pool)?,
            (None, None) => return Err(Error::bad_input(format!("{}: contents are missing", input.name))),
        };
        Ok((input.name.as_str(), tensor))
    };
    inputs.iter().map(read).collect()
}

/// The lists that hold something, and how much.
fn lists(contents: &InferTensorContents) -> Vec<(&'static str, usize)> {
    let all = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    all.into_iter().filter(|(_, length)| *length > 0).collect()
}

/// The list that holds the elements of a type; FP16 and BF16 have none.
fn list_of(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "bool_contents",
        DType::Int8 | DType::Int16 | DType::Int32 => "int_contents",
        DType::Int64 => "int64_contents",
        DType::Uint8 | DType::Uint16 | DType::Uint32 => "uint_contents",
        DType::Uint64 => "uint64_contents",
        DType::Fp32 => "fp32_contents",
        DType::Fp64 => "fp64_contents",
        DType::Bytes => "bytes_contents",
        DType::Fp16 | DType::Bf16 => return None,
    })
}

fn from_lists(described: Described, contents: &InferTensorContents, pool: &Pool) -> Result<Tensor, Error> {
    let Described { name, dtype, elements, .. } = described;
    let wrong = |got: String, expected: String| Error::bad_input(format!("{name}: got {got}, expected {expected}"));
    let list = list_of(dtype).ok_or_else(|| wrong("lists".to_owned(), format!("raw_input_contents for {dtype}")))?;
    let given = lists(contents);
    if given != [(list, elements)] && !(elements == 0 && given.is_empty()) {
        let got = given.iter().map(|(list, length)| format!("{length} in {list}")).collect::<Vec<_>>().join(", ");
        let got = if got.is_empty() { "nothing".to_owned() } else { got };
        return Err(wrong(got, format!("{elements} in {list}")));
    }
    let size = match dtype.size() {
        Some(size) => elements * size,
        None => contents.bytes_contents.iter().map(|text| text::PREFIX + text.len()).sum(),
    };
    let mut bytes = pool.take(size)?;
    match dtype {
        DType::Bytes => {
            for text in &contents.bytes_contents {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(text);
            }
        }
        DType::Bool => contents.bool_contents.iter().for_each(|x| bytes.extend_from_slice(&[u8::from(*x)])),
        DType::Int8 => narrow::<i8, _, 1>(name, dtype, &contents.int_contents, &mut bytes, i8::to_le_bytes)?,
        DType::Int16 => narrow::<i16, _, 2>(name, dtype, &contents.int_contents, &mut bytes, i16::to_le_bytes)?,
        DType::Int32 => contents.int_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        DType::Int64 => contents.int64_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        DType::Uint8 => narrow::<u8, _, 1>(name, dtype, &contents.uint_contents, &mut bytes, u8::to_le_bytes)?,
        DType::Uint16 => narrow::<u16, _, 2>(name, dtype, &contents.uint_contents, &mut bytes, u16::to_le_bytes)?,
        DType::Uint32 => contents.uint_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        DType::Uint64 => contents.uint64_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        DType::Fp64 => contents.fp64_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        DType::Fp32 | DType::Fp16 | DType::Bf16 => {
            contents.fp32_contents.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        }
    }
    described.of_bytes("contents", bytes.into())
}

/// Appends whole numbers of a list that is wider than their type.
fn narrow<To, From, const N: usize>(
    name: &str,
    dtype: DType,
    list: &[From],
    bytes: &mut Buffer,
    written: fn(To) -> [u8; N],
) -> Result<(), Error>
where
    From: Copy + std::fmt::Display,
    To: TryFrom<From>,
{
    for (index, wide) in list.iter().enumerate() {
        let narrow = To::try_from(*wide).map_err(|_| {
            Error::bad_input(format!("{name}: got {wide} at {index}, which is out of range, expected {dtype}"))
        })?;
        bytes.extend_from_slice(&written(narrow));
    }
    Ok(())
}

fn value_of(value: &InferParameter) -> asked::Value<'_> {
    match &value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => asked::Value::Bool(*value),
        Some(ParameterChoice::Int64Param(value)) => asked::Value::Whole((*value).into()),
        Some(ParameterChoice::Uint64Param(value)) => asked::Value::Whole((*value).into()),
        Some(ParameterChoice::StringParam(text)) => asked::Value::Text(text),
        Some(ParameterChoice::DoubleParam(value)) => asked::Value::Float(*value),
        None => asked::Value::Other,
    }
}
