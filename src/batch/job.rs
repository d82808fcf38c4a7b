//! One request on its way to a worker, or a part of one that is computed in several batches.
//!
//! A split shares the request's bytes. Its parts are computed in any order, by any worker; whoever brings the last one
//! answers, and the first that fails answers for all.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::post::{Letters, Sender};
use super::waiting::Item;
use super::{Call, Error, Outputs, Passage, Priority};
use crate::tensor::{DType, Tensor};

pub(super) struct Job {
    /// One tensor per input of the spec, all of `rows` rows.
    pub(super) inputs: Vec<Tensor>,
    pub(super) rows: usize,
    pub(super) deadline: Instant,
    pub(super) queued: Instant,
    /// Of the whole request.
    pub(super) passage: Arc<Passage>,
    /// Of all inputs together.
    pub(super) row_bytes: usize,
    priority: Priority,
    /// Of the inputs' types and row shapes.
    kind: u64,
    reply: Reply,
}

enum Reply {
    Whole(Sender),
    /// To the request of which this is a part, from row `start` on.
    Part {
        of: Arc<Split>,
        start: usize,
    },
}

/// A request that is computed in several batches.
struct Split {
    rows: usize,
    /// `None` once it has its answer.
    sender: Mutex<Option<Sender>>,
    outputs: Mutex<Rejoined>,
}

/// Outputs as they come together.
#[derive(Default)]
struct Rejoined {
    /// Rows that are in their place.
    rows: usize,
    /// `None` before the first rows have told which outputs there are.
    columns: Option<Vec<Column>>,
    /// What came before its turn, by its first row, with the row after its last.
    early: BTreeMap<usize, (usize, Outputs)>,
}

struct Column {
    name: Arc<str>,
    dtype: DType,
    row_shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Job {
    /// A request that arrives now, and where its answer will be.
    pub(super) fn new(call: Call) -> (Self, oneshot::Receiver<Result<Outputs, Error>>) {
        let Call { inputs, rows, deadline, priority, passage } = call;
        let mut kind = DefaultHasher::new();
        for input in &inputs {
            (input.dtype, input.row_shape()).hash(&mut kind);
        }
        let (sender, outputs) = oneshot::channel();
        let (kind, reply) = (kind.finish(), Reply::Whole(sender));
        let row_bytes = inputs.iter().map(|input| input.bytes.len()).sum::<usize>() / rows.max(1);
        (Self { inputs, rows, deadline, queued: Instant::now(), passage, row_bytes, priority, kind, reply }, outputs)
    }

    /// Whether somebody still waits for the answer, and it can still come in time.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        let listens = match &self.reply {
            Reply::Whole(sender) => !sender.is_closed(),
            Reply::Part { of, .. } => lock(&of.sender).as_ref().is_some_and(|sender| !sender.is_closed()),
        };
        listens && self.deadline > now
    }

    /// Whether no part of the request was taken before this one.
    pub(super) fn is_first(&self) -> bool {
        matches!(self.reply, Reply::Whole(_) | Reply::Part { start: 0, .. })
    }

    /// Answers with outputs of as many rows as it has, together with the others of `letters`.
    pub(super) fn answer(self, outputs: Outputs, letters: &mut Letters) {
        match self.reply {
            Reply::Whole(sender) => letters.add(sender, outputs),
            Reply::Part { of, start } => of.put(start..start + self.rows, outputs),
        }
    }

    /// Answers that there will be none: of a split request, for all of it.
    pub(super) fn fail(self, error: Error) {
        self.passage.end(Instant::now());
        match self.reply {
            // A closed channel is a client that has left.
            Reply::Whole(sender) => drop(sender.send(Err(error))),
            Reply::Part { of, .. } => of.send(Err(error)),
        }
    }
}

impl Item for Job {
    fn rows(&self) -> usize {
        self.rows
    }

    fn kind(&self) -> u64 {
        self.kind
    }

    fn fits_with(&self, other: &Self) -> bool {
        let is_like =
            |(ours, theirs): (&Tensor, &Tensor)| ours.dtype == theirs.dtype && ours.row_shape() == theirs.row_shape();
        self.inputs.len() == other.inputs.len() && self.inputs.iter().zip(&other.inputs).all(is_like)
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn since(&self) -> Instant {
        self.queued
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn split(self, rows: usize) -> (Self, Self) {
        let Self { inputs, rows: all, deadline, queued, passage, row_bytes, priority, kind, reply } = self;
        let (of, start) = match reply {
            Reply::Whole(sender) => (Arc::new(Split::new(all, sender)), 0),
            Reply::Part { of, start } => (of, start),
        };
        let part = |rows: Range<usize>| {
            let inputs = inputs.iter().map(|tensor| tensor.slice(rows.clone())).collect();
            let (passage, reply) = (passage.clone(), Reply::Part { of: of.clone(), start: start + rows.start });
            Self { inputs, rows: rows.len(), deadline, queued, passage, row_bytes, priority, kind, reply }
        };
        (part(0..rows), part(rows..all))
    }
}

impl Split {
    fn new(rows: usize, sender: Sender) -> Self {
        Self { rows, sender: Mutex::new(Some(sender)), outputs: Mutex::default() }
    }

    /// Answers, unless it has been answered.
    fn send(&self, result: Result<Outputs, Error>) {
        let sender = lock(&self.sender).take();
        if let Some(sender) = sender {
            let _ = sender.send(result);
        }
    }

    fn put(&self, rows: Range<usize>, outputs: Outputs) {
        let mut rejoined = lock(&self.outputs);
        match rejoined.put(rows, outputs, self.rows) {
            Ok(None) => {}
            Ok(Some(whole)) => self.send(Ok(whole)),
            Err(error) => self.send(Err(error)),
        }
    }
}

impl Rejoined {
    /// The whole of `all` rows, once it is whole.
    fn put(&mut self, rows: Range<usize>, outputs: Outputs, all: usize) -> Result<Option<Outputs>, Error> {
        self.early.insert(rows.start, (rows.end, outputs));
        while let Some((end, outputs)) = self.early.remove(&self.rows) {
            let columns = match &mut self.columns {
                Some(columns) => columns,
                none => {
                    none.insert(outputs.iter().map(|output| Column::for_rows(output, all)).collect::<Result<_, _>>()?)
                }
            };
            if !columns.iter().map(|column| &column.name).eq(outputs.iter().map(|(name, _)| name)) {
                return Err(Error::Failed(different(columns, &outputs)));
            }
            for (column, (_, tensor)) in columns.iter_mut().zip(&outputs) {
                column.append(tensor)?;
            }
            self.rows = end;
            if self.rows == all {
                let columns = self.columns.take().unwrap_or_default();
                return Ok(Some(columns.into_iter().map(|column| column.into_output(all)).collect()));
            }
        }
        Ok(None)
    }
}

/// That two batches have returned outputs of different names, or not as many, in words.
fn different(columns: &[Column], outputs: &Outputs) -> String {
    let first: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let other: Vec<&str> = outputs.iter().map(|(name, _)| &**name).collect();
    format!(
        "the outputs are {first:?} in one batch and {other:?} in another: a request of so many rows cannot be put together"
    )
}

impl Column {
    /// An empty one like `output`, with room for `rows`: memory that is not to be had must not end the process.
    fn for_rows((name, tensor): &(Arc<str>, Tensor), rows: usize) -> Result<Self, Error> {
        let row_shape = tensor.row_shape().to_vec();
        let mut bytes = Vec::new();
        // Of texts, as much as the others will need if they are as long.
        let all = tensor.bytes.len().div_ceil(tensor.rows().max(1)).checked_mul(rows);
        let room = all.is_some_and(|all| bytes.try_reserve_exact(all).is_ok());
        room.then_some(Self { name: name.clone(), dtype: tensor.dtype, row_shape, bytes }).ok_or(Error::OutOfMemory)
    }

    fn append(&mut self, tensor: &Tensor) -> Result<(), Error> {
        if tensor.dtype != self.dtype || tensor.row_shape() != self.row_shape {
            let message = format!(
                "output {} has rows of shape {:?} in one batch and {:?} in another: a request of so many rows cannot be put together",
                self.name,
                self.row_shape,
                tensor.row_shape()
            );
            return Err(Error::Failed(message));
        }
        self.bytes.try_reserve(tensor.bytes.len()).map_err(|_| Error::OutOfMemory)?;
        self.bytes.extend_from_slice(&tensor.bytes);
        Ok(())
    }

    fn into_output(self, rows: usize) -> (Arc<str>, Tensor) {
        let shape = std::iter::once(rows).chain(self.row_shape).collect();
        (self.name, Tensor { dtype: self.dtype, shape, bytes: self.bytes.into() })
    }
}

/// A panic elsewhere leaves what is locked as it was between two operations: still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn column(values: &[u8]) -> Tensor {
        Tensor { dtype: DType::Uint8, shape: vec![values.len(), 1], bytes: values.to_vec().into() }
    }

    fn request(values: &[u8]) -> (Job, oneshot::Receiver<Result<Outputs, Error>>) {
        let deadline = Instant::now() + Duration::from_secs(30);
        Job::new(Call {
            inputs: vec![column(values)],
            rows: values.len(),
            deadline,
            priority: Priority::Normal,
            passage: Arc::default(),
        })
    }

    /// What a model that returns its input answers.
    fn echo(job: Job) {
        let outputs = vec![("y".into(), job.inputs[0].clone())];
        job.answer(outputs, &mut Letters::default());
    }

    #[test]
    fn parts_come_together_in_whatever_order_they_are_done() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let (job, mut answer) = request(&[1, 2, 3, 4, 5]);
            let (first, rest) = job.split(2);
            let (second, third) = rest.split(1);
            assert!(first.is_first() && !second.is_first() && !third.is_first());
            let mut parts = [first, second, third].map(Some);
            for index in order {
                assert!(answer.try_recv().is_err(), "answered too early");
                echo(parts[index].take().unwrap());
            }
            assert_eq!(answer.try_recv().unwrap().unwrap(), [("y".into(), column(&[1, 2, 3, 4, 5]))], "{order:?}");
        }
    }

    #[test]
    fn parts_of_texts_come_together_however_long_each_is() {
        let texts = |texts: &[&str]| Tensor {
            dtype: DType::Bytes,
            shape: vec![texts.len()],
            bytes: crate::tensor::text::encode(texts).into(),
        };
        let whole = texts(&["", "b", "", "a longer one", "ü"]);
        let deadline = Instant::now() + Duration::from_secs(30);
        let (job, mut answer) = Job::new(Call {
            inputs: vec![whole.clone()],
            rows: 5,
            deadline,
            priority: Priority::Normal,
            passage: Arc::default(),
        });
        let (first, rest) = job.split(1);
        let (second, third) = rest.split(2);
        assert_eq!(second.inputs, [texts(&["b", ""])]);
        [third, first, second].into_iter().for_each(echo);
        assert_eq!(answer.try_recv(), Ok(Ok(vec![("y".into(), whole)])));
    }

    #[test]
    fn a_part_that_fails_answers_once_and_nobody_awaits_the_others() {
        let (job, mut answer) = request(&[1, 2, 3]);
        let (first, rest) = job.split(1);
        let (second, third) = rest.split(1);
        let now = Instant::now();
        assert!(second.is_awaited(now));
        first.fail(Error::Lost);
        assert_eq!(answer.try_recv(), Ok(Err(Error::Lost)));
        assert!(!second.is_awaited(now) && !third.is_awaited(now));
        echo(second);
        third.fail(Error::OutOfMemory);
    }

    #[test]
    fn nobody_awaits_the_parts_of_a_client_that_has_left() {
        let (job, answer) = request(&[1, 2]);
        let (first, second) = job.split(1);
        drop(answer);
        assert!(!first.is_awaited(Instant::now()) && !second.is_awaited(Instant::now()));
    }

    #[test]
    fn parts_that_do_not_continue_each_other_fail_the_request() {
        let (job, mut answer) = request(&[1, 2]);
        let (first, second) = job.split(1);
        echo(first);
        let wide = Tensor { dtype: DType::Uint8, shape: vec![1, 2], bytes: vec![7, 8].into() };
        second.answer(vec![("y".into(), wide)], &mut Letters::default());
        let Ok(Err(Error::Failed(message))) = answer.try_recv() else { panic!("answered") };
        assert!(message.contains("output y has rows of shape [1] in one batch and [2] in another"), "{message}");
    }

    #[test]
    fn parts_with_other_outputs_fail_the_request() {
        let names = |names: &[&str]| names.iter().map(|name| ((*name).into(), column(&[1]))).collect::<Outputs>();
        for (one, other) in [(["y", "z"].as_slice(), ["y"].as_slice()), (&["y"], &["y", "z"]), (&["y"], &["z"])] {
            let (job, mut answer) = request(&[1, 2]);
            let (first, second) = job.split(1);
            first.answer(names(one), &mut Letters::default());
            second.answer(names(other), &mut Letters::default());
            let Ok(Err(Error::Failed(message))) = answer.try_recv() else {
                panic!("{one:?} and {other:?} are one answer")
            };
            assert!(
                message.contains(&format!("outputs are {one:?} in one batch and {other:?} in another")),
                "{message}"
            );
        }
    }

    #[test]
    fn parts_without_outputs_come_together_to_none() {
        let (job, mut answer) = request(&[1, 2]);
        let (first, second) = job.split(1);
        second.answer(Vec::new(), &mut Letters::default());
        first.answer(Vec::new(), &mut Letters::default());
        assert_eq!(answer.try_recv(), Ok(Ok(Vec::new())));
    }

    #[test]
    fn types_and_row_shapes_tell_who_fits() {
        let job = |dtype, shape: &[usize]| {
            let bytes = vec![0; 8].into();
            let inputs = vec![Tensor { dtype, shape: shape.to_vec(), bytes }];
            Job::new(Call {
                inputs,
                rows: shape[0],
                deadline: Instant::now(),
                priority: Priority::Low,
                passage: Arc::default(),
            })
            .0
        };
        let one = job(DType::Uint8, &[2, 4]);
        for (other, fits) in [
            (job(DType::Uint8, &[2, 4]), true),
            (job(DType::Int8, &[2, 4]), false),
            (job(DType::Uint8, &[4, 2]), false),
            (job(DType::Uint8, &[2, 2, 2]), false),
        ] {
            assert_eq!((one.fits_with(&other), one.kind() == other.kind()), (fits, fits));
        }
    }
}
