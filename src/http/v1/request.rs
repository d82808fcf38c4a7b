//! A prediction request to tensors: `instances`, one value a row, or `inputs`, one value for all rows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::rows::Rows;
use crate::api;
use crate::http::error::Error;
use crate::http::predict::parse;
use crate::model::spec::{Port, Spec};
use crate::tensor::Tensor;
use crate::tensor::json::Room;
use crate::tensor::pool::Pool;

const EXPECTED: &str = "expected {\"instances\": [a row, …]} or {\"inputs\": …}";

/// How a request came, and so how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Row by row: `instances` and `predictions`.
    Rows,
    /// Column by column: `inputs` and `outputs`.
    Columns,
}

/// One tensor per input of the model.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) rows: usize,
    pub(crate) form: Form,
}

pub(crate) fn read(spec: &Spec, body: &[u8], pool: &Pool) -> Result<Inputs, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let room = Room::new(pool, body);
    let document = Document { ports: &spec.inputs, room: &room };
    let read = document.deserialize(&mut json).and_then(|read| json.end().map(|()| read));
    let (form, mut tensors) = read.map_err(|error| match room.refused() {
        Some(full) => Error::no_room(full, room.needed()),
        None => Error::bad_input(error.to_string()).hint(EXPECTED),
    })?;
    if form == Form::Rows {
        refuse_odd_rows(&spec.inputs, &tensors)?;
    }
    let rows = api::checked(spec, &mut tensors)?;
    Ok(Inputs { tensors, rows, form })
}

/// What would be taken for one row without its batch dimension, were it not known to be rows.
fn refuse_odd_rows(ports: &[Port], tensors: &[Tensor]) -> Result<(), Error> {
    for (port, tensor) in ports.iter().zip(tensors) {
        if tensor.shape.first() == Some(&0) {
            return Err(Error::bad_input("instances: no rows, expected at least one"));
        }
        if port.fits(tensor).is_err() {
            let (name, got, expected) = (&port.name, tensor.row_shape(), port.row_text());
            let message = format!("instances: rows of {name} have shape {got:?}, expected {expected}");
            return Err(Error::bad_input(message));
        }
    }
    Ok(())
}

/// The body as a whole.
struct Document<'a> {
    ports: &'a [Port],
    room: &'a Room<'a>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = (Form, Vec<Tensor>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = (Form, Vec<Tensor>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field instances or inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (ports, room) = (self.ports, self.room);
        let mut found: Option<Self::Value> = None;
        while let Some(key) = map.next_key::<String>()? {
            let form = match key.as_str() {
                "instances" => Form::Rows,
                "inputs" => Form::Columns,
                // Such as signature_name: a model has no signature but its only one.
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            match &found {
                Some((known, _)) if *known == form => {
                    return Err(A::Error::custom(format_args!("the field {key} is given twice")));
                }
                Some(_) => return Err(A::Error::custom("both instances and inputs, expected one of them")),
                None => {}
            }
            let tensors = match form {
                Form::Rows => map.next_value_seed(Rows { ports, room })?,
                Form::Columns => map.next_value_seed(parse::Inputs { field: "inputs", ports, room })?,
            };
            found = Some((form, tensors));
        }
        found.ok_or_else(|| A::Error::custom("the fields instances and inputs are missing"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::spec::{from_inputs, parse_input};
    use crate::tensor::DType;

    fn ports(texts: &[&str]) -> Spec {
        from_inputs(texts.iter().map(|text| parse_input(text).unwrap()).collect())
    }

    fn parse(spec: &Spec, body: &str) -> Result<Inputs, String> {
        read(spec, body.as_bytes(), &Pool::new(1 << 20)).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn rows_and_columns_of_one_input_are_the_same_tensor() {
        let spec = ports(&["x:FP32[-1,2]"]);
        for (body, form) in [
            (r#"{"instances":[[1,2],[3,4]]}"#, Form::Rows),
            (r#"{"signature_name":"serving_default","instances":[{"x":[1,2]},{"x":[3,4]}]}"#, Form::Rows),
            (r#"{"instances":[{"x":[1,2]},[3,4]],"signature_name":{"a":[{}]}}"#, Form::Rows),
            (r#"{"inputs":[[1,2],[3,4]]}"#, Form::Columns),
            (r#"{"inputs":{"x":[[1,2],[3,4]]}}"#, Form::Columns),
        ] {
            let read = parse(&spec, body).unwrap();
            assert_eq!((read.form, read.rows), (form, 2), "{body}");
            let tensor = &read.tensors[0];
            assert_eq!((&*tensor.shape, tensor.to_f64()), (&[2, 2][..], vec![1.0, 2.0, 3.0, 4.0]), "{body}");
        }
    }

    #[test]
    fn named_values_come_in_any_order_and_go_to_their_inputs() {
        let spec = ports(&["a:FP32[-1]", "b:INT64[-1,2]"]);
        let read = parse(&spec, r#"{"instances":[{"b":[1,2],"a":0.5},{"a":1.5,"b":[3,4]}]}"#).unwrap();
        let [a, b] = &read.tensors[..] else { panic!("{read:?}") };
        assert_eq!((a.dtype, &*a.shape, a.to_f64()), (DType::Fp32, &[2][..], vec![0.5, 1.5]));
        assert_eq!((b.dtype, &*b.shape, b.to_f64()), (DType::Int64, &[2, 2][..], vec![1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn each_mistake_is_told_by_its_row_and_name() {
        let (one, two) = (ports(&["x:FP32[-1,3]"]), ports(&["a:FP32[-1]", "b:FP32[-1]"]));
        for (spec, body, words) in [
            (&one, "[]", "expected an object with the field instances or inputs"),
            (&one, "{}", "the fields instances and inputs are missing"),
            (&one, r#"{"instances":[[1,2,3]],"inputs":[[1,2,3]]}"#, "both instances and inputs"),
            (&one, r#"{"instances":[[1,2,3]],"instances":[]}"#, "instances is given twice"),
            (&one, r#"{"instances":7}"#, "expected instances: a list of rows"),
            (&one, r#"{"instances":[]}"#, "no rows, expected at least one"),
            (&one, r#"{"instances":[1,2,3]}"#, "rows of x have shape [], expected [3]"),
            (&one, r#"{"instances":[[1,2,3,4]]}"#, "rows of x have shape [4], expected [3]"),
            (&one, r#"{"instances":[[[1,2,3]]]}"#, "rows of x have shape [1, 3], expected [3]"),
            (&one, r#"{"instances":[[1,2,3],[1,2]]}"#, "instances[1]: 2 elements, expected 3"),
            (&one, r#"{"instances":[[1,2,3],[1,null,3]]}"#, "instances[1][1]: got null, expected FP32"),
            (&one, r#"{"instances":[[1,2,3],"four"]}"#, "instances[1]: got the text \"four\", expected FP32"),
            (&one, r#"{"instances":[null]}"#, "instances[0]: got null, expected FP32"),
            (&one, r#"{"instances":[{"x":[1,2,3]},{"x":[1,true,3]}]}"#, "instances[1].x[1]: got true, expected FP32"),
            (&one, r#"{"instances":[{"x":[1,2,3]},{}]}"#, "instances[1]: x is missing, expected x"),
            (&one, r#"{"instances":[{"y":[1,2,3]}]}"#, "instances[0]: unknown name \"y\", expected x"),
            (&one, r#"{"instances":[{"x":[1,2,3],"x":[1,2,3]}]}"#, "instances[0]: x is given twice"),
            (&two, r#"{"instances":[[1,2]]}"#, "instances[0]: an array, expected an object with a, b"),
            (&two, r#"{"instances":[{"a":1,"b":2},3]}"#, "instances[1]: a number, expected an object with a, b"),
            (&two, r#"{"instances":[{"a":1,"b":2},{"b":2}]}"#, "instances[1]: a is missing, expected a, b"),
            (&two, r#"{"inputs":[1,2]}"#, "inputs: an array, expected an object with a, b"),
            (&two, r#"{"inputs":{"a":[1,2],"b":[1]}}"#, "b: 1 rows, expected 2 as in a"),
            (&one, r#"{"instances":[[1,2,3]]} 7"#, "trailing characters"),
            (&one, r#"{"instances":[[1,2,3]"#, "EOF"),
        ] {
            let error = parse(spec, body).unwrap_err();
            assert!(error.contains(words), "{body}: {error:?} has {words:?}");
        }
    }

    #[test]
    fn what_rows_need_is_taken_from_the_pool_and_given_back() {
        let (spec, pool) = (ports(&["a:FP64[-1]", "b:FP64[-1]"]), Pool::new(100_000));
        let body = format!("{{\"instances\":[{}]}}", vec![r#"{"a":1,"b":2}"#; 10_000].join(","));
        let error = read(&spec, body.as_bytes(), &pool).unwrap_err();
        assert_eq!((error.name(), pool.used()), ("too_large", 0), "{error:?}");
        let enough = Pool::new(1 << 20);
        assert_eq!(read(&spec, body.as_bytes(), &enough).unwrap().rows, 10_000);
        assert_eq!(enough.used(), 0);
    }

    /// What bodies are made of.
    const PIECES: [&str; 18] = [
        "{\"instances\":",
        "{\"inputs\":",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"a\":",
        "\"b\":",
        "\"c\":",
        "1",
        "-2.5",
        "1e400",
        "null",
        "true",
        "\"text\"",
        "[[1,2],[3,4]]",
        "{\"a\":1,\"b\":[2,3]}",
    ];

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&ports(&["a:FP32[-1]", "b:FP32[-1,2]"]), &bytes, &Pool::new(1 << 20));
        }

        /// That a buffer has room for all elements is asserted where they are stored.
        #[test]
        fn whatever_is_read_is_as_the_model_wants_it(
            is_named in any::<bool>(),
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES), 0..12),
        ) {
            let names: &[&str] = if is_named { &["a:FP32[-1]", "b:FP32[-1,2]"] } else { &["a:FP32[-1,-1]"] };
            let (spec, body) = (ports(names), format!("{{\"instances\":[{}]}}", pieces.concat()));
            for body in [pieces.concat(), body] {
                if let Ok(read) = parse(&spec, &body) {
                    for (port, tensor) in spec.inputs.iter().zip(&read.tensors) {
                        prop_assert_eq!(port.fits(tensor), Ok(()));
                        prop_assert_eq!(tensor.rows(), read.rows);
                        prop_assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * 4);
                    }
                }
            }
        }

        #[test]
        fn rows_are_the_columns(values in proptest::collection::vec((any::<i16>(), any::<[i8; 2]>()), 1..20)) {
            let spec = ports(&["a:INT16[-1]", "b:INT8[-1,2]"]);
            let rows: Vec<_> = values.iter().map(|(a, b)| serde_json::json!({ "a": a, "b": b })).collect();
            let (a, b): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
            let rows = parse(&spec, &serde_json::json!({ "instances": rows }).to_string()).unwrap();
            let columns = parse(&spec, &serde_json::json!({ "inputs": { "b": b, "a": a } }).to_string()).unwrap();
            prop_assert_eq!(rows.tensors, columns.tensors);
        }
    }
}
