//! What every protocol does alike: the state that handlers read, which model a request means, on what terms it is
//! taken, what its tensors must be, and how it is counted. `http` and `grpc` only translate.
//!
//! The way of a request: [`Shared::resolve`], then within a [`Count`] [`Terms::of`] and [`Terms::admit`], the protocol's
//! own parser, [`checked`], [`compute`], and the protocol's own answer.

pub mod asked;
pub mod classify;
mod count;
pub mod describe;
pub mod error;
pub mod identity;
pub mod in_flight;
pub mod line;
pub mod tensors;
pub mod terms;
pub mod trace;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::batch::control::{Control, Refused};
use crate::batch::{self, Call, Handle, Models, Outputs};
use crate::health::{Health, watchdog};
use crate::lifecycle::drain::Ledger;
use crate::model::Spec;
use crate::model::spec::Port;
use crate::telemetry::Telemetry;
pub use crate::telemetry::protocol::Protocol;
use crate::tensor::pool::Pool;
use crate::tensor::{DType, Tensor, text};
pub use count::Count;
pub use error::{Error, Kind};
pub use identity::Ids;
pub use terms::Terms;

/// The largest request, in bytes: an HTTP body or a gRPC message.
pub const MAX_BODY: usize = 64 << 20;

/// What every handler may read.
pub struct Shared {
    pub health: Health,
    /// Nothing serves before the lifecycle reaches `serving`.
    pub models: Arc<Models>,
    pub control: Control,
    /// What whoever orders by the main listener must bring.
    pub control_token: Option<SecretString>,
    pub ledger: Ledger,
    pub telemetry: Arc<Telemetry>,
    pub oldest_batch: watchdog::Oldest,
    pub label: Option<String>,
    /// Whether browsers get the console.
    pub console: bool,
    pub request_timeout: Duration,
    /// What bodies and tensors may hold together.
    pub memory: Pool,
}

impl Shared {
    /// The version that a request means: held until its answer is there, so that one that is replaced meanwhile finishes
    /// it. Without a `name` it is the default model, without a `version` the highest.
    pub fn resolve(&self, name: Option<&str>, version: Option<&str>) -> Result<Handle, Error> {
        let phase = self.health.phase();
        if !phase.takes_requests() {
            return Err(Error::not_ready(phase));
        }
        let found = match name {
            Some(name) => self.models.get(name, version),
            None => self.models.default(),
        };
        found.ok_or_else(|| self.unknown(name, version))
    }

    fn unknown(&self, name: Option<&str>, version: Option<&str>) -> Error {
        let serving = self.who_serves();
        match (name.map(error::shown), version.map(error::shown)) {
            (Some(name), Some(version)) => {
                Error::not_found(format!("no version {version} of a model {name:?}; {serving}"))
            }
            (Some(name), None) => Error::not_found(format!("no model {name:?}; {serving}")),
            (None, _) if self.models.now().is_empty() => Error::new(Kind::NotReady, "no model serves"),
            (None, _) => Error::not_found(format!("no default model; {serving}"))
                .hint("name one, as in POST /predict/MODEL, or start the server with --default-model"),
        }
    }

    /// An order that was not carried out.
    pub fn refused(&self, refused: Refused) -> Error {
        match refused {
            Refused::Unknown(name) => {
                Error::not_found(format!("there is no model {:?}; {}", error::shown(&name), self.who_serves()))
            }
            refused => refused.into(),
        }
    }

    /// For those who asked for what does not serve.
    fn who_serves(&self) -> String {
        match self.models.now().ids() {
            ids if ids.is_empty() => "no model serves".to_owned(),
            ids => format!("those that serve are {ids}"),
        }
    }
}

/// The number of rows of `inputs`, one tensor per input of `spec`, if all of them fit; one row may come without its batch
/// dimension.
pub fn checked(spec: &Spec, inputs: &mut [Tensor]) -> Result<usize, Error> {
    let mut rows = None;
    for (tensor, port) in inputs.iter_mut().zip(&spec.inputs) {
        let counted = port.rows(tensor).map_err(Error::bad_input)?;
        refuse_odd(tensor, port)?;
        let first = *rows.get_or_insert(counted);
        if first != counted {
            return Err(Error::bad_input(format!(
                "{}: {counted} rows, expected {first} as in {}",
                port.name, spec.inputs[0].name
            )));
        }
    }
    Ok(rows.unwrap_or(0))
}

/// What no parser minds and a model would: empty rows, which cost nothing to send by the billion, booleans that are
/// neither 0 nor 1, which C++ may not look at, and texts whose lengths are not those of what is there.
fn refuse_odd(tensor: &Tensor, port: &Port) -> Result<(), Error> {
    if tensor.shape.contains(&0) {
        let message = format!("{}: shape {:?} has a length of 0, expected at least 1", port.name, tensor.shape);
        return Err(Error::bad_input(message));
    }
    if tensor.dtype == DType::Bytes {
        let count = tensor.shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        let checked = text::check(&tensor.bytes, count.unwrap_or(usize::MAX));
        return checked.map_err(|error| Error::bad_input(format!("{}: {error}", port.name)));
    }
    match tensor.bytes.iter().find(|byte| tensor.dtype == DType::Bool && **byte > 1) {
        Some(byte) => Err(Error::bad_input(format!("{}: got the byte {byte}, expected BOOL, 0 or 1", port.name))),
        None => Ok(()),
    }
}

/// The outputs of `model` for `inputs` of `rows` rows, as [`checked`] has counted them.
pub async fn compute(
    model: &Handle,
    inputs: Vec<Tensor>,
    rows: usize,
    terms: Terms,
    count: &mut Count<'_>,
) -> Result<Outputs, Error> {
    let Terms { deadline, priority } = terms;
    let outputs = model.infer(Call { inputs, rows, deadline, priority, passage: count.parsed(rows) }).await;
    outputs.map_err(|error| explained(error, &model.version.spec, rows))
}

/// What a model raises may come of taking a single row for many, where nothing told us how many dimensions a row has.
fn explained(error: batch::Error, spec: &Spec, rows: usize) -> Error {
    let is_guess = matches!(error, batch::Error::Failed(_)) && spec.inputs.iter().any(|port| port.dtype.is_none());
    let error = Error::from(error);
    if !is_guess {
        return error;
    }
    let s = if rows == 1 { "" } else { "s" };
    error.hint(format!(
        "nothing describes this model's inputs, so the first dimension was taken for {rows} row{s}; a model.toml or \
         --input describes them"
    ))
}

/// Bytes that are read or written on the threads that answer probes, at most: it takes some milliseconds a MiB.
pub const INLINE: usize = 256 << 10;

/// The outcome of `work` that reads or writes so many `bytes`: away from the threads that answer probes if they are many.
pub async fn heavy<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    if bytes <= INLINE {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::new(Kind::ModelFailed, "the server failed on this request"))
}

/// Bytes that all of `outputs` have.
pub fn size(outputs: &Outputs) -> usize {
    outputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec;

    #[test]
    fn texts_must_fill_their_bytes_and_their_shape() {
        let spec = spec::from_inputs(vec![spec::parse_input("x:BYTES[-1,-1]").unwrap()]);
        let refused = |shape: &[usize], bytes: &'static [u8]| {
            let tensor = Tensor { dtype: DType::Bytes, shape: shape.to_vec(), bytes: bytes.into() };
            checked(&spec, &mut [tensor]).map_err(|error| error.message().to_owned())
        };
        let two = b"\x01\0\0\0a\0\0\0\0";
        assert_eq!(refused(&[1, 2], two), Ok(1));
        for (shape, bytes, says) in [
            (&[1, 1][..], &two[..], "x: 4 bytes are left after 1 texts, as many as the shape wants"),
            (&[3, 1], two, "x: text 2 has no whole length: 0 bytes are left, expected 4"),
            (&[1, 1], b"\xff\xff\xff\xffa", "x: text 0 ends too early: its length is 4294967295, and 1 bytes are left"),
            (&[usize::MAX, 2], b"", "x: text 0 has no whole length: 0 bytes are left, expected 4"),
        ] {
            assert_eq!(refused(shape, bytes), Err(says.to_owned()));
        }
    }
}
