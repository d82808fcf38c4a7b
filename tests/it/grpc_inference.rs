//! Inference over gRPC, where it meets the server's life and its limits; `conformance` has what clients ask every day.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status};
use torchpod::grpc::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use torchpod::grpc::proto::model_infer_request::InferInputTensor;
use torchpod::grpc::proto::{ModelInferRequest, ModelInferResponse};

use crate::digits;
use crate::grpc::block_on;
use crate::memory::held;
use crate::probes::in_flight;
use crate::shutdown::report;
use crate::support::{Turn, poll};

const SOON: Duration = Duration::from_secs(10);
const IMAGE: usize = 8 * 8 * 4;

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

pub(crate) async fn connect(address: SocketAddr) -> Client {
    let client = Client::connect(format!("http://{address}")).await.unwrap();
    client.max_encoding_message_size(usize::MAX).max_decoding_message_size(usize::MAX)
}

/// A request for so many images, which are the golden ones again and again.
pub(crate) fn request(images: usize) -> ModelInferRequest {
    let golden = digits::golden().bytes();
    let bytes: Vec<u8> = golden.iter().copied().cycle().take(images * IMAGE).collect();
    let shape = [i64::try_from(images).unwrap(), 8, 8];
    ModelInferRequest { raw_input_contents: vec![bytes.into()], ..asking("digits", "image", &shape) }
}

/// A request with one input of FP32, which has no contents yet.
pub(crate) fn asking(model: &str, input: &str, shape: &[i64]) -> ModelInferRequest {
    let (name, datatype, shape) = (input.to_owned(), "FP32".to_owned(), shape.to_vec());
    let input = InferInputTensor { name, datatype, shape, ..Default::default() };
    ModelInferRequest { model_name: model.to_owned(), inputs: vec![input], ..Default::default() }
}

async fn infer(mut client: Client, images: usize) -> Result<ModelInferResponse, Status> {
    client.model_infer(request(images)).await.map(tonic::Response::into_inner)
}

#[test]
fn a_drain_answers_every_inference_that_was_accepted() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=1s", "--drain-delay", "0s"]);
    block_on(async {
        let client = connect(server.grpc).await;
        let asked: Vec<_> = (0..3).map(|_| tokio::spawn(infer(client.clone(), 1))).collect();
        // On the test's own thread: connections have another.
        poll("all are in flight", || in_flight(&server) == 3);
        server.signal(Signal::TERM);
        for answer in asked {
            assert_eq!(answer.await.unwrap().unwrap().outputs[0].shape, [1, 10]);
        }
    });
    let ended = server.end_within(SOON);
    let report = report(&ended);
    assert_eq!((ended.code, &report["completed"], &report["aborted"]), (Some(0), &3.into(), &0.into()), "{report}");
}

#[test]
fn a_stream_that_is_left_open_does_not_hold_the_drain_up() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "0s"]);
    block_on(async {
        let (ask, asked) = tokio::sync::mpsc::unbounded_channel();
        let requests = futures_util::stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
        let mut answers = connect(server.grpc).await.model_stream_infer(requests).await.unwrap().into_inner();
        ask.send(request(2)).unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.infer_response.unwrap().outputs[0].shape, [2, 10]);
        server.signal(Signal::TERM);
        let end = answers.message().await.unwrap_err();
        assert!(end.code() == Code::Unavailable && end.message().contains("draining"), "{end:?}");
        drop(ask);
    });
    let ended = server.end_within(SOON);
    assert_eq!((ended.code, &report(&ended)["aborted"]), (Some(0), &0.into()));
}

#[test]
fn messages_are_bounded_each_and_in_sum() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    block_on(async {
        let client = connect(server.grpc).await;
        let answer = infer(client.clone(), (60 << 20) / IMAGE).await.unwrap();
        assert_eq!(answer.outputs[0].shape[0], (60 << 20) / 256);
        let error = infer(client, (65 << 20) / IMAGE).await.unwrap_err();
        assert!(error.code() == Code::ResourceExhausted && error.message().contains("67108864"), "{error:?}");
    });
    let small = turn.serve(&["--request-memory", "4MiB", "--chaos", "batch-delay=3ms"]);
    block_on(async {
        let client = connect(small.grpc).await;
        let error = infer(client.clone(), (8 << 20) / IMAGE).await.unwrap_err();
        assert!(error.code() == Code::ResourceExhausted && error.message().contains("4194304"), "{error:?}");
        let first = tokio::spawn(infer(client.clone(), (3 << 20) / IMAGE));
        poll("the first is in flight", || held(&small) >= 3 << 20);
        let error = infer(client.clone(), (2 << 20) / IMAGE).await.unwrap_err();
        assert!(error.code() == Code::Unavailable && error.message().contains("4194304 bytes"), "{error:?}");
        assert!(error.metadata().contains_key("retry-after"), "{error:?}");
        first.await.unwrap().expect("it was there before");
        infer(client.clone(), 100).await.expect("what was refused is held no more");
        infer(client, (3 << 20) / IMAGE).await.expect("a message is not counted twice, as it came and as a tensor");
    });
}
