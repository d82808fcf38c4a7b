//! `inference.GRPCInferenceService`: the Open Inference Protocol over gRPC. What it says of models comes from
//! `api::describe`; `request` reads an inference request, `answer` writes its answer.

mod answer;
mod describe;
pub(crate) mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Extensions, HeaderMap};
use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::arriving::Arriving;
use super::proto::grpc_inference_service_server::GrpcInferenceService;
use super::proto::{self, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::status;
use crate::api::trust::Trust;
use crate::api::{self, Count, Error, Ids, Protocol, Shared, Terms, identity};
use crate::batch::Handle;
use crate::health::{Health, Probe};

/// Requests of one stream that are computed at a time; its client's further ones wait in its connection.
const AT_A_TIME: usize = 64;
/// How long a stream goes on once the server drains.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Service(Arc<Shared>);

/// What came with a request.
struct Head {
    headers: HeaderMap,
    started: Instant,
    ids: Ids,
}

impl Head {
    /// That of a message which is whole: from here on, what it holds is counted as tensors.
    fn of(metadata: MetadataMap, extensions: &Extensions) -> Self {
        let arriving = extensions.get::<Arriving>();
        arriving.inspect(|arriving| arriving.clear());
        let started = arriving.map_or_else(Instant::now, |arriving| arriving.started);
        Self { headers: metadata.into_headers(), started, ids: identity::of(extensions) }
    }
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// No version is the highest.
    fn resolve(&self, name: &str, version: &str) -> Result<Handle, Status> {
        self.0.resolve(Some(name), Some(version).filter(|version| !version.is_empty())).map_err(status::plain)
    }

    /// The answer, with the headers that name who gave it.
    async fn infer(&self, head: &Head, message: ModelInferRequest) -> Result<(ModelInferResponse, HeaderMap), Status> {
        let model = self.resolve(&message.model_name, &message.model_version)?;
        let mut count = Count::new(&self.0, &model, Protocol::Grpc, &head.ids, head.started);
        count.received();
        let answer = self.compute(&model, head, message, &mut count).await;
        count.end(&answer);
        let mut headers = HeaderMap::new();
        identity::write(&model, &mut headers);
        Ok((answer.map_err(|error| status::of(&error, Some(&model)))?, headers))
    }

    async fn compute(
        &self,
        model: &Handle,
        head: &Head,
        message: ModelInferRequest,
        count: &mut Count<'_>,
    ) -> Result<ModelInferResponse, Error> {
        let terms = Terms::of(&head.headers, head.started, self.0.request_timeout)?;
        terms.admit(model)?;
        let is_raw = !message.raw_input_contents.is_empty();
        let (inputs, asked) = request::read(&model.version.spec, message, &self.0.memory)?;
        asked.check(&model.version)?;
        let terms = asked.parameters.apply(terms, head.started);
        let outputs = api::compute(model, inputs.tensors, inputs.rows, terms, count).await?;
        let version = model.version.clone();
        let size = if is_raw { 0 } else { api::size(&outputs) };
        api::heavy(size, move || answer::message(&version, &outputs, &asked, is_raw)).await?
    }

    /// One request of a stream: what is wrong with it is told in its place.
    async fn infer_in_stream(&self, head: Head, message: ModelInferRequest) -> ModelStreamInferResponse {
        let id = message.id.clone();
        match self.infer(&head, message).await {
            Ok((answer, _)) => ModelStreamInferResponse { infer_response: Some(answer), ..Default::default() },
            Err(status) => ModelStreamInferResponse {
                error_message: status.message().to_owned(),
                infer_response: Some(ModelInferResponse { id, ..Default::default() }),
            },
        }
    }
}

/// Resolves a moment after the drain has begun.
async fn farewell(health: Health) {
    let mut watch = health.watch(|_| ());
    while watch.next().await.is_some() {}
    tokio::time::sleep(FAREWELL).await;
}

#[async_trait]
impl GrpcInferenceService for Service {
    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let head = Head::of(metadata, &extensions);
        let (answer, headers) = self.infer(&head, message).await?;
        Ok(Response::from_parts(MetadataMap::from_headers(headers), answer, Extensions::default()))
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    /// Answers come in the order of their requests.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let (headers, ids) = (metadata.into_headers(), identity::of(&extensions));
        let service = self.clone();
        let answers = messages.map(move |message| {
            let head = Head { headers: headers.clone(), started: Instant::now(), ids: ids.another() };
            if let Some(arriving) = extensions.get::<Arriving>() {
                arriving.clear();
            }
            let service = service.clone();
            async move { Ok(service.infer_in_stream(head, message?).await) }
        });
        // A stream that is left open would hold the drain up to its deadline.
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, health) = (is_over.clone(), self.0.health.clone());
        let until_drain = answers.take_until(async move {
            farewell(health).await;
            over.store(true, Ordering::Relaxed);
        });
        let last_word = stream::once(future::lazy(move |_| {
            let is_over = is_over.load(Ordering::Relaxed);
            is_over.then(|| Err(Status::unavailable("the server is draining: open the stream again")))
        }));
        Ok(Response::new(until_drain.buffered(AT_A_TIME).chain(last_word.filter_map(future::ready)).boxed()))
    }

    async fn server_live(
        &self,
        _request: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        let live = self.0.health.ask(Probe::Liveness).0.pass;
        Ok(Response::new(proto::ServerLiveResponse { live }))
    }

    async fn server_ready(
        &self,
        _request: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        let ready = self.0.health.ask(Probe::Readiness).0.pass;
        Ok(Response::new(proto::ServerReadyResponse { ready }))
    }

    /// An unknown model is not ready, which is no error here.
    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let request = request.get_ref();
        let serves = self.resolve(&request.name, &request.version).is_ok();
        let ready = serves && self.0.health.passes(Probe::Liveness);
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        let model = self.resolve(&request.get_ref().name, &request.get_ref().version)?;
        Ok(Response::new(describe::model(&self.0.models.now(), &model)))
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Result<Response<proto::ModelConfigResponse>, Status> {
        let model = self.resolve(&request.get_ref().name, &request.get_ref().version)?;
        Ok(Response::new(proto::ModelConfigResponse { config: Some(describe::config(&model.version)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Result<Response<proto::ModelStatisticsResponse>, Status> {
        let request = request.get_ref();
        let model_stats = if request.name.is_empty() {
            self.0.models.now().all().map(describe::statistics).collect()
        } else {
            vec![describe::statistics(&self.resolve(&request.name, &request.version)?)]
        };
        Ok(Response::new(proto::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let entries = self.0.control.index().await;
        let wanted = entries.into_iter().filter(|entry| !request.get_ref().ready || entry.is_ready());
        let models = wanted.map(describe::index).collect();
        Ok(Response::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        Trust::Token.orders(&self.0, &metadata.into_headers()).map_err(status::plain)?;
        if let Some(parameter) = request.parameters.keys().next() {
            return Err(status::plain(api::trust::no_parameter(parameter)));
        }
        let loaded = self.0.control.load(&request.model_name).await;
        loaded.map_err(|refused| status::plain(self.0.refused(refused)))?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        Trust::Token.orders(&self.0, &metadata.into_headers()).map_err(status::plain)?;
        let unloaded = self.0.control.unload(&request.model_name);
        unloaded.map_err(|refused| status::plain(self.0.refused(refused)))?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }
}
