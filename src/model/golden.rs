//! The golden file: inputs whose outputs are known, compared before a model may call itself ready.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Spec;
use super::named::Named;
use super::spec::Port;
use crate::tensor::json::Room;
use crate::tensor::pool::Pool;
use crate::tensor::text::Shown;
use crate::tensor::{DType, Tensor};

/// Parsed golden rows, one tensor per input and output of the spec.
#[derive(Clone, Debug)]
pub struct Golden {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub rows: usize,
}

/// Reads `{"inputs": {…}, "outputs": {…}}`; other keys, such as the true labels, are for people.
pub fn parse(text: &str, spec: &Spec) -> Result<Golden, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let pool = Pool::new(usize::MAX);
    let (mut inputs, mut outputs) = File { spec, room: &Room::new(&pool, text.as_bytes()) }
        .deserialize(&mut json)
        .and_then(|file| json.end().map(|()| file))
        .map_err(|error| error.to_string())?;
    let output_ports = spec.outputs.iter().map(|output| &output.port);
    let mut ports: Vec<&Port> = spec.inputs.iter().chain(output_ports.clone()).collect();
    if spec.row_wise == Some(false) {
        output_ports.zip(&outputs).try_for_each(|(port, tensor)| port.fits(tensor))?;
        ports.truncate(inputs.len());
    }
    let mut rows = None;
    for (tensor, port) in inputs.iter_mut().chain(&mut outputs).zip(ports) {
        let counted = port.rows(tensor)?;
        if *rows.get_or_insert(counted) != counted {
            return Err(format!("{}: {counted} rows, expected {} as in the others", port.name, rows.unwrap_or(0)));
        }
    }
    Ok(Golden { inputs, outputs, rows: rows.unwrap_or(0) })
}

/// The first element of `got` that is further from `expected` than `tolerance`, in words.
///
/// The measure is |got − expected| / max(1, |expected|); NaN is never close to anything. Texts must be the same.
pub fn compare(name: &str, got: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    if got.shape != expected.shape {
        return Err(format!("{name}: shape {:?}, expected {:?}", got.shape, expected.shape));
    }
    if got.dtype != expected.dtype {
        return Err(format!("{name}: dtype {}, expected {}", got.dtype, expected.dtype));
    }
    if got.dtype == DType::Bytes {
        let mut pairs = got.elements().zip(expected.elements()).enumerate();
        return pairs.find(|(_, (got, expected))| got != expected).map_or(Ok(()), |(index, (got, expected))| {
            Err(format!("{name}: element {index} is {}, expected {}", Shown(got), Shown(expected)))
        });
    }
    for (index, (got, expected)) in got.to_f64().into_iter().zip(expected.to_f64()).enumerate() {
        let distance = (got - expected).abs() / expected.abs().max(1.0);
        if distance.is_nan() || distance > tolerance {
            return Err(format!("{name}: element {index} is {got}, expected {expected} within {tolerance}"));
        }
    }
    Ok(())
}

struct File<'a> {
    spec: &'a Spec,
    room: &'a Room<'a>,
}

impl<'de> DeserializeSeed<'de> for File<'_> {
    type Value = (Vec<Tensor>, Vec<Tensor>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for File<'_> {
    type Value = (Vec<Tensor>, Vec<Tensor>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with inputs and outputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let inputs: Vec<&Port> = self.spec.inputs.iter().collect();
        let outputs: Vec<&Port> = self.spec.outputs.iter().map(|output| &output.port).collect();
        let (mut got_inputs, mut got_outputs) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "inputs" => got_inputs = Some(map.next_value_seed(Named { ports: &inputs, room: self.room })?),
                "outputs" => got_outputs = Some(map.next_value_seed(Named { ports: &outputs, room: self.room })?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = |field| serde::de::Error::custom(format_args!("no {field}"));
        Ok((got_inputs.ok_or_else(|| missing("inputs"))?, got_outputs.ok_or_else(|| missing("outputs"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec;
    use crate::tensor::text;

    fn spec() -> Spec {
        let port = r#"name = "NAME"
            dtype = "FP32"
            shape = [-1, 2]
        "#;
        spec::parse(&format!("[[inputs]]\n{}\n[[outputs]]\n{}", port.replace("NAME", "x"), port.replace("NAME", "y")))
            .unwrap()
    }

    #[test]
    fn a_golden_file_gives_a_tensor_per_port() {
        let golden = parse(r#"{"labels":[7],"outputs":{"y":[[3,4]]},"inputs":{"x":[[1,2]]}}"#, &spec()).unwrap();
        assert_eq!((golden.rows, golden.outputs[0].to_f64()), (1, vec![3.0, 4.0]));
    }

    #[test]
    fn a_golden_file_that_lacks_something_says_what() {
        for (text, part) in [
            ("{}", "no inputs"),
            (r#"{"inputs":{"x":[[1,2]]}}"#, "no outputs"),
            (r#"{"inputs":{"z":[[1,2]]},"outputs":{}}"#, "unknown name \"z\", expected x"),
            (r#"{"inputs":{},"outputs":{}}"#, "\"x\" is missing"),
            (r#"{"inputs":{"x":[[1,2]]},"outputs":{"y":[[1,2],[3,4]]}}"#, "y: 2 rows, expected 1"),
        ] {
            let error = parse(text, &spec()).unwrap_err();
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_difference_beyond_the_tolerance_is_named() {
        let tensor = |values: [f32; 2]| Tensor {
            dtype: DType::Fp32,
            shape: vec![1, 2],
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into(),
        };
        assert_eq!(compare("y", &tensor([1.0, 1e6]), &tensor([1.0, 1e6 + 1.0]), 1e-5), Ok(()));
        let error = compare("y", &tensor([1.0, 2.5]), &tensor([1.0, 2.0]), 1e-5).unwrap_err();
        assert!(error.starts_with("y: element 1 is 2.5, expected 2"), "{error}");
        assert!(compare("y", &tensor([1.0, f32::NAN]), &tensor([1.0, 2.0]), 1e-5).is_err());
    }

    #[test]
    fn texts_are_compared_as_they_are() {
        let tensor =
            |texts: [&str; 2]| Tensor { dtype: DType::Bytes, shape: vec![2], bytes: text::encode(texts).into() };
        assert_eq!(compare("y", &tensor(["a", "b"]), &tensor(["a", "b"]), 1e9), Ok(()));
        let error = compare("y", &tensor(["a", "b"]), &tensor(["a", "B"]), 1e9).unwrap_err();
        assert_eq!(error, "y: element 1 is \"b\", expected \"B\"");
    }
}
