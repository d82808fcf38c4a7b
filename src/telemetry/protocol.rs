//! By which protocol a prediction was asked for, in the words of metrics and traces.

use opentelemetry::KeyValue;

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

    /// What the conventions of HTTP and of RPC want of a server's span: `status` is HTTP's, `code` gRPC's.
    pub fn attributes(self, status: u16, code: i32) -> Vec<KeyValue> {
        match (self, self.span().split_once(' ')) {
            (Self::Grpc, _) | (_, None) => vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.method", self.span()),
                KeyValue::new("rpc.grpc.status_code", i64::from(code)),
            ],
            (_, Some((method, route))) => vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ],
        }
    }
}
