//! One input's values, which stand row by row among others' in a list of objects, as one tensor.

use serde::de::{DeserializeSeed, Deserializer};

use super::{Element, Reader};
use crate::tensor::pool::Buffer;
use crate::tensor::{DType, Tensor};

/// Reads a tensor row by row; all rows have the shape of the first. Without a `dtype` the elements decide, as for
/// [`super::Nested`].
pub struct Column<'a>(Reader<'a>);

impl<'a> Column<'a> {
    /// One without rows yet. `list` names in errors what the rows stand in; `bytes` has room for all elements.
    pub fn new(list: &'a str, dtype: Option<DType>, bytes: Buffer) -> Self {
        let mut reader = Reader::new(list, dtype, bytes);
        reader.shape.push(None);
        reader.position.push(0);
        Self(reader)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.0.position[0]
    }

    /// Reads one more row: the list's own element, or the one by the name of `member` in it. After an error the column is
    /// of no more use.
    pub fn row<'c>(&'c mut self, member: Option<&'a str>) -> Row<'c, 'a> {
        self.0.member = member;
        Row(&mut self.0)
    }

    /// Shape: the rows first.
    pub fn finish(mut self) -> Tensor {
        self.0.shape[0] = Some(self.rows());
        self.0.finish()
    }
}

/// See [`Column::row`].
pub struct Row<'c, 'a>(&'c mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        Element(&mut *self.0).deserialize(deserializer)?;
        self.0.position[0] += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::json::Room;
    use crate::tensor::pool::Pool;

    fn read(rows: &[&str], dtype: Option<DType>) -> Result<Tensor, String> {
        let (pool, text) = (Pool::new(1 << 20), rows.join(","));
        let bytes = Room::new(&pool, text.as_bytes()).take::<serde_json::Error>(dtype).unwrap();
        let mut column = Column::new("rows", dtype, bytes);
        for row in rows {
            let mut json = serde_json::Deserializer::from_str(row);
            column.row(Some("x")).deserialize(&mut json).map_err(|error| error.to_string())?;
        }
        assert_eq!(column.rows(), rows.len());
        Ok(column.finish())
    }

    #[test]
    fn rows_are_put_one_behind_the_other() {
        let tensor =
            |rows, dtype| read(rows, dtype).map(|tensor| (tensor.dtype, tensor.shape.clone(), tensor.to_f64()));
        let matrix = tensor(&["[1,2]", "[3,4]", "[5,6]"], Some(DType::Int16));
        assert_eq!(matrix, Ok((DType::Int16, vec![3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])));
        assert_eq!(tensor(&["7", "8"], Some(DType::Fp64)), Ok((DType::Fp64, vec![2], vec![7.0, 8.0])));
        assert_eq!(tensor(&["1", "2", "2.5"], None), Ok((DType::Fp32, vec![3], vec![1.0, 2.0, 2.5])));
        assert_eq!(tensor(&["[[1]]"], Some(DType::Uint8)), Ok((DType::Uint8, vec![1, 1, 1], vec![1.0])));
        assert_eq!(tensor(&[], Some(DType::Uint8)), Ok((DType::Uint8, vec![0], vec![])));
    }

    #[test]
    fn an_error_names_the_row_and_the_value_in_it() {
        let error = |rows| read(rows, Some(DType::Fp32)).unwrap_err();
        assert!(error(&["[1]", "[2,3]"]).starts_with("rows[1].x: 2 elements, expected 1 as in its neighbours"));
        assert!(error(&["[1]", "2"]).starts_with("rows[1].x: a number among arrays"));
        assert!(error(&["1", "[2]"]).starts_with("rows[1].x: an array among numbers"));
        assert!(error(&["[1,\"a\"]"]).starts_with("rows[0].x[1]: got the text \"a\", expected FP32"));
    }
}
