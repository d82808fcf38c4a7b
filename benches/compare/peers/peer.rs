//! Who the peers are, how each is started, and how each wants to be asked.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use serde_json::json;

use crate::HERE;
use crate::model::{Body, Model};
use crate::process::{self, Running};
use crate::request::{self, Answer};

/// Processes that compute, in every server; `benches/peers/asked.py` says the same.
pub(crate) const WORKERS: usize = 2;

/// In a peer's scratch folder.
const LOG: &str = "log";

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// In `benches/peers`.
    script: &'static str,
    /// The packages whose versions count.
    pub(crate) packages: &'static [&'static str],
    pub(crate) how: &'static str,
    path: fn(&str) -> String,
    tongue: Tongue,
}

/// How a request says its numbers.
#[derive(Clone, Copy)]
enum Tongue {
    /// torchpod's own: `{"inputs": …}`, or plain bytes.
    Plain,
    /// The same JSON, with bytes as base64 inside.
    Base64,
    /// The Open Inference Protocol.
    Open,
}

pub(crate) static PEERS: [Peer; 4] = [
    Peer {
        name: "Flask",
        script: "start_flask.py",
        packages: &["Flask", "gunicorn"],
        how: "a handler as tutorials write it, under gunicorn with 2 × cores + 1 `gthread` workers of 2 threads, which \
              keep connections open; no batching",
        path: |_| "/predict".to_owned(),
        tongue: Tongue::Plain,
    },
    Peer {
        name: "TorchServe",
        script: "start_torchserve.py",
        packages: &["torchserve", "torch-model-archiver"],
        how: "2 workers, batches of the same size as torchpod's with a delay of 2 ms, logs of warnings only, no tokens",
        path: |model| format!("/predictions/{model}"),
        tongue: Tongue::Plain,
    },
    Peer {
        name: "LitServe",
        script: "start_litserve.py",
        packages: &["litserve"],
        how: "2 workers, the same batches with a delay of 2 ms, its fast queue; bytes as base64 in JSON, since it reads \
              no others",
        path: |_| "/predict".to_owned(),
        tongue: Tongue::Base64,
    },
    Peer {
        name: "Triton, Python backend",
        script: "start_triton.py",
        packages: &["nvidia-pytriton"],
        how: "the `tritonserver` of the package with a model of its **Python backend**, since the package brings no \
              other: 2 instances, dynamic batching without delay, no metrics. Its libtorch backend may be quicker",
        path: |model| format!("/v2/models/{model}/infer"),
        tongue: Tongue::Open,
    },
];

/// One request, as it is sent.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: &'static str,
    pub(crate) header: Option<(&'static str, &'static str)>,
}

impl Asked {
    pub(crate) fn post(&self, address: SocketAddr) -> io::Result<Answer> {
        request::post_with(address, &self.path, self.content_type, self.header, &self.body)
    }
}

/// A request to torchpod.
pub(crate) fn plain(model: &Model, rows: usize, body: Body) -> Result<Asked> {
    let (path, content_type) = ("/predict".to_owned(), body.content_type());
    Ok(Asked { path, body: model.request(rows, body)?, content_type, header: None })
}

impl Peer {
    pub(crate) fn start(&self, model: &Model, scratch: &Path) -> Result<Running> {
        let python = Path::new(HERE).join(".venvs/peers/bin/python");
        let scratch = scratch.join(self.script);
        std::fs::create_dir_all(&scratch)?;
        let port = process::free_ports(5)?;
        let row: Vec<String> = model.row.iter().map(usize::to_string).collect();
        let row = row.join(",");
        // As many rows as torchpod's model.toml says.
        let batch = if model.heavy { "16" } else { "32" };
        let file = model.file()?;
        let mut arguments: Vec<OsString> = vec!["-B".into()];
        arguments.push(Path::new(HERE).join("benches/peers").join(self.script).into());
        for (flag, value) in [
            ("--port", port.to_string().into()),
            ("--name", model.name.into()),
            ("--file", file.into_os_string()),
            ("--row", row.into()),
            ("--batch", batch.into()),
            ("--scratch", scratch.clone().into_os_string()),
        ] {
            arguments.extend([flag.into(), value]);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Running::kept(&python, &arguments, address, &scratch.join(LOG)).context("`make bench-peers` installs it")
    }

    /// The last line of its log.
    pub(crate) fn last_word(&self, scratch: &Path) -> String {
        let log = std::fs::read_to_string(scratch.join(self.script).join(LOG)).unwrap_or_default();
        log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }

    pub(crate) fn request(&self, model: &Model, rows: usize, body: Body) -> Result<Asked> {
        let mut asked = Asked { path: (self.path)(model.name), ..plain(model, rows, body)? };
        match (self.tongue, body) {
            (Tongue::Plain, _) | (Tongue::Base64, Body::Json) => {}
            (Tongue::Base64, Body::Binary) => {
                let text = base64::engine::general_purpose::STANDARD.encode(&asked.body);
                asked.body = serde_json::to_vec(&json!({ "b64": text }))?;
                asked.content_type = Body::Json.content_type();
            }
            (Tongue::Open, Body::Json) => {
                let inputs: serde_json::Value = serde_json::from_slice(&asked.body)?;
                let shape = [&[rows], model.row].concat();
                let input = json!({ "name": "input", "shape": shape, "datatype": "FP32", "data": inputs["inputs"] });
                asked.body = serde_json::to_vec(&json!({ "inputs": [input] }))?;
            }
            // All of the body is the only input.
            (Tongue::Open, Body::Binary) => asked.header = Some(("Inference-Header-Content-Length", "0")),
        }
        Ok(asked)
    }
}
