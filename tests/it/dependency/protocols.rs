//! HTTP, gRPC and TCP servers of the test's own, servers that never answer, and ones that must not be believed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::get;
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use torchpod::dependency::Dependency;

use super::{SLACK, connections_to, no_connection_is_left, notice, pace, runtime, watch, watch_all};
use crate::support::{Turn, poll};

const PACE: &str = "#interval=200ms,timeout=200ms,failures=2";

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Serves `router`, over HTTP/1 and HTTP/2, for as long as the runtime lives.
fn serve(router: Router) -> (Runtime, SocketAddr) {
    let (listener, address) = listen();
    listener.set_nonblocking(true).expect("a socket");
    let runtime = runtime();
    runtime.spawn(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await });
    (runtime, address)
}

/// Accepts and never answers.
fn silent() -> (TcpListener, SocketAddr) {
    listen()
}

#[test]
fn a_tcp_dependency_is_up_while_somebody_listens() {
    let _turn = Turn::shared();
    let (listener, address) = listen();
    let watching = watch(&[&format!("tcp://{address}{PACE}")]);
    watching.comes_up();
    drop(listener);
    let limit = notice(pace(PACE)) + SLACK;
    assert_eq!(watching.changes_to(false, limit), "connection refused");
}

#[test]
fn an_http_dependency_is_up_when_it_answers_2xx_itself() {
    let _turn = Turn::shared();
    let redirected = Arc::new(AtomicUsize::new(0));
    let seen = redirected.clone();
    let login = |headers: HeaderMap| async move {
        match headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes) {
            Some(b"Basic bWU6czNjckBldA==") => StatusCode::NO_CONTENT,
            _ => StatusCode::UNAUTHORIZED,
        }
    };
    let target = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        async { StatusCode::OK }
    };
    let router = Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route("/login", get(login))
        .route("/moved", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/target")]) }))
        .route("/target", get(target))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let (_server, address) = serve(router);
    for passing in [format!("http://{address}/ok{PACE}"), format!("http://me:s3cr%40et@{address}/login{PACE}")] {
        watch(&[&passing]).comes_up();
    }
    for (path, error) in [
        ("moved", "answered 302 Found"),
        ("broken", "answered 500 Internal Server Error"),
        ("login", "answered 401 Unauthorized"),
        ("nowhere", "answered 404 Not Found"),
    ] {
        watch(&[&format!("http://{address}/{path}{PACE}")]).fails_with(&[error]);
    }
    assert_eq!(redirected.load(Ordering::Relaxed), 0, "a redirect was followed");
}

#[test]
fn a_grpc_dependency_is_up_while_its_service_is_serving() {
    let _turn = Turn::shared();
    let (reporter, health) = tonic_health::server::health_reporter();
    let (server, address) = serve(Routes::new(health).into_axum_router());
    let set = |status| server.block_on(reporter.set_service_status("rank.Ranker", status));
    set(ServingStatus::Serving);
    let whole = watch(&[&format!("grpc://{address}{PACE}")]);
    let limit = notice(pace(PACE)) + SLACK;
    let service = watch(&[&format!("grpc://{address}/rank.Ranker{PACE}")]);
    whole.comes_up();
    service.comes_up();
    set(ServingStatus::NotServing);
    assert_eq!(service.changes_to(false, limit), "the service is NOT_SERVING");
    set(ServingStatus::Serving);
    service.changes_to(true, limit);
    watch(&[&format!("grpc://{address}/no.Such{PACE}")]).fails_with(&["knows no service \"no.Such\""]);

    let (_other, address) = serve(Routes::default().into_axum_router());
    watch(&[&format!("grpc://{address}{PACE}")]).fails_with(&["the server has no grpc.health.v1"]);
}

#[test]
fn a_server_that_never_answers_costs_one_connection_at_a_time() {
    let _turn = Turn::shared();
    for scheme in ["http", "https", "redis", "rediss", "postgres", "mysql", "grpc", "grpcs"] {
        let (_listener, address) = silent();
        let mut watching = watch(&[&format!("{scheme}://me:pw@{address}#interval=20ms,timeout=20ms")]);
        let mut most = 0;
        poll("thirty checks have failed", || {
            most = most.max(connections_to(address.port()));
            watching.report().failed >= 30
        });
        assert!(most <= 3, "{scheme}: {most} connections at a time");
        assert_eq!(watching.report().error.as_deref(), Some("no answer within 20ms"), "{scheme}");
        watching.stop();
        no_connection_is_left(address.port());
    }
}

#[test]
fn a_check_that_hangs_delays_no_other() {
    let _turn = Turn::shared();
    let ((_silent, silent), (_listener, address)) = (silent(), listen());
    let hanging = format!("postgres://me@{silent}#interval=30s,timeout=30s");
    let watching = watch(&[&hanging, &format!("tcp://{address}#interval=20ms")]);
    let started = Instant::now();
    poll("fifty checks have passed", || watching.reports()[1].succeeded >= 50);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(1) + SLACK, "fifty checks 20 ms apart took {elapsed:?}");
    let report = &watching.reports()[0];
    assert_eq!((report.succeeded, report.failed, report.age), (0, 0, None), "the other still hangs");
}

#[test]
fn a_rehearsal_takes_down_what_is_up() {
    let _turn = Turn::shared();
    let (_listener, address) = listen();
    let mut dependency: Dependency = format!("tcp://{address}{PACE}").parse().unwrap();
    dependency.rehearse_down();
    let watching = watch_all(vec![dependency]);
    watching.fails_with(&["rehearsed with --chaos"]);
    assert_eq!(watching.report().succeeded, 0);
}

#[test]
fn a_server_that_repeats_the_password_makes_no_one_tell_it() {
    let _turn = Turn::shared();
    let (listener, address) = listen();
    let parrot = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"-ERR s3cr@et is s3cr%40et, is it not\r\n");
        }
    };
    thread::Builder::new().name("parrot".to_owned()).spawn(parrot).unwrap();
    let watching = watch(&[&format!("redis://:s3cr%40et@{address}{PACE}")]);
    watching.fails_with(&["*** is ***"]);
    let told = format!("{:?}", watching.reports());
    assert!(!told.contains("s3cr"), "{told}");
}
