//! Callers of gRPC: a few channels, each on one connection until the server says that it goes away, as gRPC's clients are
//! behind a Service with an address of its own. What was sent and not answered is lost here, too.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::client::{Client, Failure, pick};
use crate::client::SAMPLE;
use crate::cluster::Shared;

/// Longer than any drain: a request that nobody answers is lost, and does not hang.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where pods take gRPC, as every manifest has it.
const PORT: u16 = 9090;

/// The part of `inference.ModelInferRequest` that a plain call needs.
#[derive(Clone, PartialEq, Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<InputTensor>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw_input_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct InputTensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

/// And of its response.
#[derive(Clone, PartialEq, Message)]
struct InferResponse {
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw_output_contents: Vec<Vec<u8>>,
}

pub(crate) struct Calls {
    runtime: Runtime,
    request: InferRequest,
    channels: Vec<Line>,
    next: usize,
}

/// A channel, and the pod that its connection went to last.
struct Line {
    channel: Channel,
    pod: Arc<Mutex<Option<usize>>>,
}

impl Calls {
    pub(crate) fn new(cluster: &Arc<Shared>, seed: u64) -> Calls {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let channels = {
            let _entered = runtime.enter();
            (0..4).map(|number| Line::new(cluster, 10 * seed + number)).collect()
        };
        Calls { runtime, request: sample(), channels, next: 0 }
    }
}

impl Client for Calls {
    fn ask(&mut self, _: &Shared) -> Result<(), Failure> {
        self.next = (self.next + 1) % self.channels.len();
        let line = &self.channels[self.next];
        let answer = self.runtime.block_on(async {
            loop {
                match infer(line.channel.clone(), self.request.clone()).await {
                    Err(status) if was_never_sent(&status) => {}
                    answer => return answer,
                }
            }
        });
        let pod = *line.pod.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(response) if digit(&response) == Some(7) => Ok(()),
            Ok(response) => Err((pod, format!("another answer: {response:?}"))),
            Err(status) => Err((pod, format!("{status:?}"))),
        }
    }
}

impl Line {
    /// Each time that it connects, the Service's rules say where.
    fn new(cluster: &Arc<Shared>, seed: u64) -> Line {
        let (cluster, pod) = (Arc::clone(cluster), Arc::new(Mutex::new(None)));
        let (last, mut chance) = (Arc::clone(&pod), fastrand::Rng::with_seed(seed));
        let connector = tower::service_fn(move |_| {
            let (picked, port) = (pick(&cluster, &mut chance), cluster.network.port(PORT));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = picked.as_ref().ok().map(|(pod, _)| *pod);
            async move {
                let (_, address) = picked.map_err(|(_, why)| io::Error::other(why))?;
                TcpStream::connect((address.ip(), port)).await.map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://ml-model-service").timeout(PATIENCE);
        Line { channel: channel.connect_with_connector_lazy(connector), pod }
    }
}

/// Whether the connection was closed before the call was written to it, so that every client asks on the next one: this
/// one reads a GOAWAY only when it has something to ask.
fn was_never_sent(status: &Status) -> bool {
    let causes = std::iter::successors(status.source(), |error| (*error).source());
    causes.filter_map(|error| error.downcast_ref::<hyper::Error>()).any(hyper::Error::is_canceled)
}

async fn infer(channel: Channel, request: InferRequest) -> Result<InferResponse, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
    let answer = client.unary(Request::new(request), path, ProstCodec::default()).await?;
    Ok(answer.into_inner())
}

/// The row that is a seven.
fn sample() -> InferRequest {
    let body: Value = serde_json::from_slice(SAMPLE).expect("the sample is JSON");
    let rows =
        body["inputs"].as_array().expect("it is an image").iter().flat_map(|row| row.as_array().expect("of rows"));
    #[allow(clippy::cast_possible_truncation)] // The model takes FP32.
    let bytes = rows.flat_map(|number| (number.as_f64().expect("of numbers") as f32).to_le_bytes()).collect();
    let input = InputTensor { name: "image".to_owned(), datatype: "FP32".to_owned(), shape: vec![1, 8, 8] };
    InferRequest { model_name: "digits".to_owned(), inputs: vec![input], raw_input_contents: vec![bytes] }
}

/// Which of its scores is highest.
fn digit(response: &InferResponse) -> Option<usize> {
    let scores = response.raw_output_contents.first()?.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    Some(scores.enumerate().max_by(|one, other| one.1.total_cmp(&other.1))?.0)
}
