//! Outputs to the protocol's answer.

use bytes::Bytes;

use crate::api::Error;
use crate::api::asked::{self, Asked};
use crate::api::classify::Content;
use crate::batch::Outputs;
use crate::grpc::proto::model_infer_response::InferOutputTensor;
use crate::grpc::proto::{InferTensorContents, ModelInferResponse};
use crate::model::Version;
use crate::tensor::{DType, Tensor};

/// The answer with the outputs that were asked for: as raw bytes where the request had them, or where a type has no list.
pub(super) fn message(
    version: &Version,
    outputs: &Outputs,
    asked: &Asked,
    is_raw: bool,
) -> Result<ModelInferResponse, Error> {
    let wanted = asked.select(outputs)?;
    let content = |(index, wish): (usize, asked::Output)| {
        let (name, tensor) = &outputs[index];
        Ok((&**name, Content::of(version, index, tensor, wish)?))
    };
    let contents: Vec<(&str, Content)> = wanted.into_iter().map(content).collect::<Result<_, Error>>()?;
    let lists: Option<Vec<InferTensorContents>> =
        if is_raw { None } else { contents.iter().map(|(_, content)| listed(content)).collect() };
    let raw_output_contents: Vec<Bytes> = match lists {
        Some(_) => Vec::new(),
        None => contents.iter().map(|(_, content)| content.bytes()).collect(),
    };
    let mut lists = lists.unwrap_or_default().into_iter();
    let outputs = contents.iter().map(|(name, content)| InferOutputTensor {
        name: (*name).to_owned(),
        datatype: content.datatype().to_owned(),
        shape: content.shape().into_iter().map(|length| i64::try_from(length).unwrap_or(i64::MAX)).collect(),
        contents: lists.next(),
        ..Default::default()
    });
    Ok(ModelInferResponse {
        model_name: version.name.clone(),
        model_version: version.version.clone(),
        id: asked.id.clone(),
        outputs: outputs.collect(),
        raw_output_contents,
        ..Default::default()
    })
}

/// `None` where the type has no list.
fn listed(content: &Content) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match content {
        Content::Whole(tensor) => fill(&mut contents, tensor)?,
        Content::Classes { texts, .. } => {
            contents.bytes_contents = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        }
    }
    Some(contents)
}

fn fill(contents: &mut InferTensorContents, tensor: &Tensor) -> Option<()> {
    fn each<const N: usize, T>(tensor: &Tensor, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        tensor.bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }
    match tensor.dtype {
        DType::Bool => contents.bool_contents = each(tensor, |[byte]| byte != 0),
        DType::Int8 => contents.int_contents = each(tensor, |bytes| i8::from_le_bytes(bytes).into()),
        DType::Int16 => contents.int_contents = each(tensor, |bytes| i16::from_le_bytes(bytes).into()),
        DType::Int32 => contents.int_contents = each(tensor, i32::from_le_bytes),
        DType::Int64 => contents.int64_contents = each(tensor, i64::from_le_bytes),
        DType::Uint8 => contents.uint_contents = each(tensor, |[byte]| byte.into()),
        DType::Uint16 => contents.uint_contents = each(tensor, |bytes| u16::from_le_bytes(bytes).into()),
        DType::Uint32 => contents.uint_contents = each(tensor, u32::from_le_bytes),
        DType::Uint64 => contents.uint64_contents = each(tensor, u64::from_le_bytes),
        DType::Fp32 => contents.fp32_contents = each(tensor, f32::from_le_bytes),
        DType::Fp64 => contents.fp64_contents = each(tensor, f64::from_le_bytes),
        DType::Bytes => contents.bytes_contents = tensor.elements().map(Bytes::copy_from_slice).collect(),
        DType::Fp16 | DType::Bf16 => return None,
    }
    Some(())
}
