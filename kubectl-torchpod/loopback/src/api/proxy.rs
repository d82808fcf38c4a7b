//! Requests that are sent on to a pod: by its name, or by a Service's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::Serving;
use super::answer::Answer;
use super::request::{Asking, Target};
use crate::history::Key;
use crate::object::{Kind, Problem};
use crate::pod::Pod;
use crate::service;
use crate::state::State;

pub(super) async fn forward(serving: &Arc<Serving>, target: &Target, asking: &Asking) -> Result<Answer, Problem> {
    let (name, port) = named(target)?;
    let key = Key { name, ..target.key()? };
    let address = serving.cluster.look(|state| match target.resource.does {
        Kind::Pod => pod(state, target, &key, port.as_deref()),
        Kind::Service => any_pod(state, target, &key, port.as_deref()),
        _ => Err(Problem::UnknownKind),
    })?;
    send(address, target, asking)
        .await
        .map_err(|why| Problem::Unavailable(format!("error trying to reach service: dial tcp {address}: {why}")))
}

/// The name and the port: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn named(target: &Target) -> Result<(String, Option<String>), Problem> {
    let text = target.name.clone().unwrap_or_default();
    let parts: Vec<&str> = text.split(':').collect();
    let port = |port: &str| Some(port.to_owned()).filter(|port| !port.is_empty());
    match parts[..] {
        [name] => Ok((name.to_owned(), None)),
        [name, number] | ["" | "http", name, number] => Ok((name.to_owned(), port(number))),
        _ => Err(Problem::Bad(format!("invalid pod request {text:?}"))),
    }
}

fn pod(state: &State, target: &Target, key: &Key, port: Option<&str>) -> Result<SocketAddr, Problem> {
    let pod =
        state.pod_named(&key.namespace, &key.name).ok_or_else(|| Problem::not_found(target.resource, &key.name))?;
    let first = pod.blueprint.container().ports.iter().flatten().next().map(|port| port.container_port);
    let port = match port {
        Some(name) => pod.blueprint.port(&IntOrString::String(name.to_owned())),
        None => first.and_then(|port| u16::try_from(port).ok()),
    };
    let port = port.ok_or_else(|| Problem::Bad(format!("pod {} has no such port", key.name)))?;
    at(state, pod, port)
}

/// One of a Service's ready pods.
fn any_pod(state: &State, target: &Target, key: &Key, port: Option<&str>) -> Result<SocketAddr, Problem> {
    let found = state.service_named(&key.namespace, &key.name);
    let found = found.ok_or_else(|| Problem::not_found(target.resource, &key.name))?;
    let is_it = |one: &&k8s_openapi::api::core::v1::ServicePort| match port {
        Some(name) => one.name.as_deref() == Some(name) || one.port.to_string() == name,
        None => true,
    };
    let nobody = || Problem::Unavailable(format!("no endpoints available for service {:?}", key.name));
    let port = found.ports().iter().find(is_it).ok_or_else(nobody)?;
    let ready: Vec<&Pod> = found.pods(&state.pods).filter(|pod| pod.is_ready() && pod.stays()).collect();
    let pod = fastrand::choice(ready).ok_or_else(nobody)?;
    at(state, pod, pod.blueprint.port(&service::target(port)).ok_or_else(nobody)?)
}

fn at(state: &State, pod: &Pod, port: u16) -> Result<SocketAddr, Problem> {
    let address = SocketAddr::from((pod.address, state.network.port(port)));
    if pod.node.is_none() {
        return Err(Problem::Unavailable("address not allowed".to_owned()));
    }
    Ok(address)
}

async fn send(address: SocketAddr, target: &Target, asking: &Asking) -> Result<Answer, String> {
    let text = |error: hyper::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {}", error.kind()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    tokio::spawn(connection);
    let query = asking.raw_query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::builder().method(&asking.method).uri(format!("{}{query}", target.rest));
    for (name, value) in &asking.headers {
        // What concerns this connection, and who asks it, is nobody else's business.
        let own = [
            header::HOST,
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::CONTENT_LENGTH,
            header::AUTHORIZATION,
        ];
        if !own.contains(name) {
            request = request.header(name, value);
        }
    }
    let request = request.header(header::HOST, address.to_string()).body(Body::from(asking.body.clone()));
    let answer = sender.send_request(request.map_err(|error| error.to_string())?).await.map_err(text)?;
    let mut answer = answer.map(Body::new);
    for own in [header::CONNECTION, header::TRANSFER_ENCODING] {
        answer.headers_mut().remove(own);
    }
    Ok(answer)
}
