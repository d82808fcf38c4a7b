//! Doors for the programs in `fuzz/`: bytes of a client to the parsers, as handlers call them, and what must hold of the
//! outcome whatever the bytes are.
//!
//! The first byte chooses what the model takes, and where there are several, the parser.

use axum::body::Bytes;
use prost::Message as _;

use crate::api::Error;
use crate::grpc::inference::request as grpc_request;
use crate::grpc::proto::ModelInferRequest;
use crate::http::predict::parse::{self, Format};
use crate::http::v1::request as v1;
use crate::http::v2::request as v2;
use crate::model::Spec;
use crate::model::spec::{self, Port};
use crate::tensor::pool::Pool;
use crate::tensor::{DType, Elements, Tensor, npy};

/// What the models take; the last says nothing of it.
const SIGNATURES: [&[&str]; 8] = [
    &["x:FP32[-1,3]"],
    &["x:INT8[-1]"],
    &["x:BOOL[-1,2,2]"],
    &["x:BYTES[-1,-1]"],
    &["x:FP16[-1,-1]"],
    &["a:INT64[-1,2]", "b:FP64[-1]"],
    &["x:UINT64[-1,1]"],
    &[],
];
const LONGEST_MESSAGE: usize = 401; // characters, with the sign that it was cut

fn spec_of(choice: u8) -> Spec {
    let ports = SIGNATURES[usize::from(choice) % SIGNATURES.len()];
    let described = ports.iter().map(|text| spec::parse_input(text).expect("they are right"));
    let described: Vec<Port> = described.collect();
    spec::from_inputs(if described.is_empty() { vec![Port::open("x")] } else { described })
}

/// One tensor an input, of what the model takes, all of as many rows; or an error that a client can be told.
fn check(spec: &Spec, pool: &Pool, outcome: Result<(Vec<Tensor>, usize), Error>) {
    match outcome {
        Ok((tensors, rows)) => {
            assert_eq!(tensors.len(), spec.inputs.len());
            for (tensor, port) in tensors.iter().zip(&spec.inputs) {
                assert_eq!(port.fits(tensor), Ok(()), "{port:?}");
                whole(tensor);
                assert_eq!(tensor.rows(), rows, "{tensor:?}");
                assert!(!tensor.shape.contains(&0), "{tensor:?}");
                let is_odd = |byte: &u8| tensor.dtype == DType::Bool && *byte > 1;
                assert!(!tensor.bytes.iter().any(is_odd), "C++ may not look at such a BOOL: {tensor:?}");
            }
        }
        Err(error) => assert!((1..=LONGEST_MESSAGE).contains(&error.message().chars().count()), "{error:?}"),
    }
    assert_eq!(pool.used(), 0, "nothing is held once all is gone");
}

/// As many elements as the shape says, and no byte more.
fn whole(tensor: &Tensor) {
    let elements: usize = tensor.shape.iter().product();
    match tensor.elements() {
        Elements::Sized(sized) => assert!(sized.remainder().is_empty() && sized.len() == elements, "{tensor:?}"),
        Elements::Texts(texts) => assert_eq!(texts.count(), elements, "{tensor:?}"),
    }
}

fn pool() -> Pool {
    Pool::new(1 << 20)
}

/// Bodies of `/predict`, `/v1` and `/v2` that are JSON.
pub fn json(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let (spec, pool) = (spec_of(*choice), pool());
    let outcome = match (choice >> 3) % 3 {
        0 => parse::parse_now(&spec, Format::Json, Bytes::copy_from_slice(body), &pool),
        1 => v1::read(&spec, body, &pool).map(|inputs| (inputs.tensors, inputs.rows)),
        _ => {
            let read = v2::read(&spec, &Bytes::copy_from_slice(body), None, &pool);
            read.map(|(inputs, _)| (inputs.tensors, inputs.rows))
        }
    };
    check(&spec, &pool, outcome);
}

/// Bodies of `/v2` with tensors behind their JSON, whose length is the second byte's (0: there is none), and raw ones.
pub fn binary(data: &[u8]) {
    let [choice, length, body @ ..] = data else { return };
    let (spec, pool, body) = (spec_of(*choice), pool(), Bytes::copy_from_slice(body));
    let outcome = if choice >> 3 == 0 {
        parse::parse_now(&spec, Format::Raw, body, &pool)
    } else {
        let read = v2::read(&spec, &body, Some(usize::from(*length)), &pool);
        read.map(|(inputs, _)| (inputs.tensors, inputs.rows))
    };
    check(&spec, &pool, outcome);
}

/// Files of NumPy.
pub fn npy(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let (spec, pool, body) = (spec_of(*choice), pool(), Bytes::copy_from_slice(body));
    if let Ok(tensor) = npy::read(&body) {
        whole(&tensor);
    }
    let outcome = parse::parse_now(&spec, Format::Npy, body, &pool);
    check(&spec, &pool, outcome);
}

/// Messages of gRPC.
pub fn grpc(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let (spec, pool) = (spec_of(*choice), pool());
    let Ok(message) = ModelInferRequest::decode(body) else { return };
    let outcome = grpc_request::read(&spec, message, &pool).map(|(inputs, _)| (inputs.tensors, inputs.rows));
    check(&spec, &pool, outcome);
}

/// Whether a JSON body of `/predict` is right for what the model takes; for `benches`, which time that.
pub fn is_right(spec: &Spec, body: Bytes, pool: &Pool) -> bool {
    parse::parse_now(spec, Format::Json, body, pool).is_ok()
}
