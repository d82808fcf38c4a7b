//! By which protocol a prediction was asked for, in the words of metrics and traces.

use axum::http::StatusCode;
use opentelemetry::KeyValue;
use tonic::Code;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `/predict`.
    Predict,
    V1,
    V2,
    Grpc,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Predict, Self::V1, Self::V2, Self::Grpc];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
        }
    }

    /// The name of a request's span: the method, and the route as a template, as the conventions for servers want it.
    pub fn span(self) -> &'static str {
        match self {
            Self::Predict => "POST /predict/{model}",
            Self::V1 => "POST /v1/models/{model}:predict",
            Self::V2 => "POST /v2/models/{model}/infer",
            Self::Grpc => "inference.GRPCInferenceService/ModelInfer",
        }
    }

    /// What the conventions of HTTP and of RPC want of a server's span, which was `answered` like this, if it was.
    pub fn attributes(self, answered: Option<(StatusCode, Code)>) -> Vec<KeyValue> {
        let (mut attributes, answer) = match self.span().split_once(' ') {
            Some((method, route)) => (
                vec![KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)],
                answered.map(|(status, _)| KeyValue::new("http.response.status_code", i64::from(status.as_u16()))),
            ),
            None => (
                vec![KeyValue::new("rpc.system", "grpc"), KeyValue::new("rpc.method", self.span())],
                answered.map(|(_, code)| KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code)))),
            ),
        };
        attributes.extend(answer);
        attributes
    }
}
