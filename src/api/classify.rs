//! The classification extension: in place of an output's numbers, its best classes, as texts.

use axum::body::Bytes;

use super::{Error, asked};
use crate::model::Version;
use crate::tensor::{DType, Tensor, text};

/// What an output is answered with.
pub enum Content<'a> {
    Whole(&'a Tensor),
    /// In place of its numbers: texts, so many a row.
    Classes {
        texts: Vec<String>,
        a_row: usize,
    },
}

impl<'a> Content<'a> {
    /// The output at `index`, in the form that is wished for.
    pub fn of(version: &Version, index: usize, tensor: &'a Tensor, wish: asked::Output) -> Result<Self, Error> {
        let Some(classes) = wish.classes else { return Ok(Self::Whole(tensor)) };
        if tensor.dtype == DType::Bytes {
            let message =
                format!("classification = {classes}: expected none for an output of BYTES, which has no scores");
            return Err(Error::bad_input(message));
        }
        let labels = version.labels.get(index).and_then(Option::as_deref);
        let (texts, a_row) = best(tensor, labels, classes);
        Ok(Self::Classes { texts, a_row })
    }

    /// By the protocol's name.
    pub fn datatype(&self) -> &'static str {
        match self {
            Self::Whole(tensor) => tensor.dtype.name(),
            Self::Classes { .. } => "BYTES",
        }
    }

    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Whole(tensor) => tensor.shape.clone(),
            Self::Classes { texts, a_row } => vec![texts.len() / (*a_row).max(1), *a_row],
        }
    }

    /// Row by row, little-endian; of texts, each behind its length in 4 bytes.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Whole(tensor) => tensor.bytes.clone(),
            Self::Classes { texts, .. } => text::encode(texts).into(),
        }
    }
}

/// `score:index` or `score:index:label` of the best `classes` of each row, the best first; of equal ones the first. Returns
/// the texts row by row, and how many a row has: no more than there are.
fn best(tensor: &Tensor, labels: Option<&[String]>, classes: usize) -> (Vec<String>, usize) {
    let row = tensor.row_shape().iter().product::<usize>();
    let classes = classes.min(row);
    let values = tensor.to_f64();
    let texts = values.chunks_exact(row.max(1)).flat_map(|scores| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Stable, so that of equal ones the first comes first.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order.truncate(classes);
        order
            .into_iter()
            .map(|index| {
                let score = number(tensor.dtype, scores[index]);
                match labels.and_then(|labels| labels.get(index)) {
                    Some(label) => format!("{score}:{index}:{label}"),
                    None => format!("{score}:{index}"),
                }
            })
            .collect::<Vec<_>>()
    });
    (texts.collect(), classes)
}

/// As short as the output's own type allows.
fn number(dtype: DType, value: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // It was of this type before.
    match dtype {
        DType::Fp16 | DType::Bf16 | DType::Fp32 => (value as f32).to_string(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_with_their_labels_where_there_are_any() {
        let bytes = [0.1_f32, 0.7, 0.7, 5.0, -1.0, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into();
        let tensor = Tensor { dtype: DType::Fp32, shape: vec![2, 3], bytes };
        let labels = ["a", "b"].map(str::to_owned);
        assert_eq!(best(&tensor, Some(&labels), 2).0, ["0.7:1:b", "0.7:2", "5:0:a", "2.5:2"]);
        assert_eq!(best(&tensor, None, 99).1, 3);
    }
}
