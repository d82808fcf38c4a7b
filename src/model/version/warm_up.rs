//! What a version is warmed with: zeros for numbers, and texts that it can bear.

use crate::engine::Layout;
use crate::model::golden::Golden;
use crate::model::spec::{Port, Spec};
use crate::tensor::{DType, Tensor, text};

/// Tried in this order where no golden row tells which texts a model can bear.
const TEXTS: [&str; 3] = ["a text", "0", ""];

/// Batches of `rows` rows, the likeliest first: only texts leave a choice. A length that the spec leaves open is 1.
pub(super) fn inputs(spec: &Spec, golden: Option<&Golden>, rows: usize) -> Result<Vec<Vec<Tensor>>, String> {
    let has_texts = spec.inputs.iter().any(|port| port.dtype == Some(DType::Bytes));
    let of = |text: &str| spec.inputs.iter().map(|port| filled(port, rows, text)).collect::<Result<Vec<_>, _>>();
    match golden {
        _ if !has_texts => Ok(vec![of("")?]),
        Some(golden) => Ok(vec![golden.inputs.iter().map(|tensor| repeated(tensor, rows)).collect::<Result<_, _>>()?]),
        None => TEXTS.into_iter().map(of).collect(),
    }
}

/// Zeros, or the same text everywhere.
fn filled(port: &Port, rows: usize, filling: &str) -> Result<Tensor, String> {
    let shape =
        port.shape.iter().enumerate().map(|(index, length)| if index == 0 { rows } else { length.unwrap_or(1) });
    let (dtype, shape) = (port.dtype.unwrap_or(DType::Fp32), shape.collect::<Vec<_>>());
    let bytes = match Layout::new(dtype, shape.clone()) {
        Some(layout) => {
            let mut bytes = room(&shape, layout.bytes)?;
            bytes.resize(layout.bytes, 0);
            bytes
        }
        None => times(&shape, &text::encode([filling]), shape.iter().product())?,
    };
    Ok(Tensor { dtype, shape, bytes: bytes.into() })
}

/// The first row of `tensor`, again and again.
fn repeated(tensor: &Tensor, rows: usize) -> Result<Tensor, String> {
    let mut shape = tensor.shape.clone();
    shape[0] = rows;
    let bytes = times(&shape, tensor.row_bytes(0..1), rows)?;
    Ok(Tensor { dtype: tensor.dtype, shape, bytes: bytes.into() })
}

fn times(shape: &[usize], part: &[u8], times: usize) -> Result<Vec<u8>, String> {
    let mut bytes = room(shape, part.len().saturating_mul(times))?;
    for _ in 0..times {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// A description that asks for more memory than there is must not end the process without a reason.
fn room(shape: &[usize], needed: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(needed) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(format!("{needed} bytes for inputs of shape {shape:?} are not to be had")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{from_inputs, parse_input};

    fn spec(inputs: &[&str]) -> Spec {
        from_inputs(inputs.iter().map(|input| parse_input(input).unwrap()).collect())
    }

    #[test]
    fn numbers_are_zeros_and_leave_no_choice() {
        let batches = inputs(&spec(&["x:INT16[-1,2]", "y:FP32[-1,-1]"]), None, 3).unwrap();
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        assert_eq!((&batch[0].shape[..], &batch[0].bytes[..]), (&[3, 2][..], &[0; 12][..]));
        assert_eq!((&batch[1].shape[..], batch[1].to_f64()), (&[3, 1][..], vec![0.0; 3]));
    }

    #[test]
    fn texts_are_those_of_the_first_golden_row_or_some_to_be_tried() {
        let spec = spec(&["x:BYTES[-1,2]", "y:INT16[-1]"]);
        let batches = inputs(&spec, None, 2).unwrap();
        assert_eq!(batches.len(), 3);
        assert_eq!(batches[0][0].elements().collect::<Vec<_>>(), [b"a text"; 4]);
        assert_eq!((&batches[2][0].shape[..], batches[2][1].to_f64()), (&[2, 2][..], vec![0.0; 2]));
        let texts = Tensor { dtype: DType::Bytes, shape: vec![2, 2], bytes: text::encode(["a", "b", "c", "d"]).into() };
        let numbers = Tensor { dtype: DType::Int16, shape: vec![2], bytes: vec![7, 0, 8, 0].into() };
        let golden = Golden { inputs: vec![texts, numbers], outputs: Vec::new(), rows: 2 };
        let batches = inputs(&spec, Some(&golden), 2).unwrap();
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        assert_eq!(batch[0].elements().collect::<Vec<_>>(), [b"a", b"b", b"a", b"b"]);
        assert_eq!(batch[1].to_f64(), [7.0, 7.0]);
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_a_reason() {
        let error = inputs(&spec(&["x:FP64[-1,1073741824]"]), None, 1 << 20).unwrap_err();
        assert_eq!(error, "9007199254740992 bytes for inputs of shape [1048576, 1073741824] are not to be had");
    }
}
