//! The least that an axum server can do: read the body, answer with bytes that it has at hand. A child process of the
//! benchmark, so that its CPU time is its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::post;

use crate::process::Running;

pub(crate) const ROLE: &str = "bare";

/// Where the answer to a request of `rows` rows is asked for.
pub(crate) fn path(rows: usize) -> String {
    format!("/predict-{rows}")
}

/// The file in the scratch folder that holds that answer.
pub(crate) fn answer_file(rows: usize) -> String {
    format!("answer-{rows}")
}

pub(crate) fn start(scratch: &Path) -> Result<Running> {
    Running::child(&[ROLE.as_ref(), scratch.as_os_str()])
}

/// Serves every `answer-<rows>` in the folder that `args` names, with axum's and tokio's defaults.
pub(crate) fn child(args: impl Iterator<Item = String>) -> Result<()> {
    let mut router = Router::new();
    for dir in args.map(PathBuf::from) {
        for file in std::fs::read_dir(dir)? {
            let file = file?;
            if let Some(rows) = file.file_name().to_str().and_then(|name| name.strip_prefix("answer-")?.parse().ok()) {
                router = router.route(&path(rows), answer(std::fs::read(file.path())?.into()));
            }
        }
    }
    // 32 images are more than axum's 2 MiB.
    router = router.layer(DefaultBodyLimit::disable());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        Ok(axum::serve(listener, router).await?)
    })
}

fn answer(answer: Bytes) -> axum::routing::MethodRouter {
    post(move |body: Bytes| async move {
        std::hint::black_box(body);
        ([(header::CONTENT_TYPE, "application/json")], answer)
    })
}
