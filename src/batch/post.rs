//! Answers on their way from a worker back to those who wait for them.
//!
//! Those of one batch go to a task of the async runtime, which hands them out: the worker wakes one task, and its thread
//! wakes the others, which run on it. To wake each from here calls that thread for each, which has gone to sleep again, or
//! takes the worker's core before it has told the next.

use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};

use super::passage::Passage;
use super::{Error, Outputs};

/// What a request gets, and how it came through its batch.
pub(super) type Answer = (Result<Outputs, Error>, Passage);
pub(super) type Sender = oneshot::Sender<Answer>;

/// The answers of one batch.
#[derive(Debug, Default)]
pub(super) struct Letters(Vec<(Sender, Outputs, Passage)>);

/// One model's postman, on the runtime of its first caller. He goes with the model.
#[derive(Debug, Default)]
pub(super) struct Post(OnceLock<mpsc::UnboundedSender<Letters>>);

impl Letters {
    pub(super) fn add(&mut self, to: Sender, outputs: Outputs, passage: Passage) {
        self.0.push((to, outputs, passage));
    }

    /// A closed channel is a client that has left.
    fn hand_out(self) {
        for (sender, outputs, passage) in self.0 {
            let _ = sender.send((Ok(outputs), passage));
        }
    }
}

impl Post {
    /// Somebody waits; whether he is the first. Needs a tokio runtime.
    pub(super) fn open(&self) -> bool {
        let mut is_first = false;
        self.0.get_or_init(|| {
            is_first = true;
            let (sender, mut letters) = mpsc::unbounded_channel::<Letters>();
            tokio::spawn(async move {
                while let Some(letters) = letters.recv().await {
                    letters.hand_out();
                }
            });
            sender
        });
        is_first
    }

    /// Hands out: one answer here, several by the postman, if he still lives.
    pub(super) fn send(&self, letters: Letters) {
        match self.0.get() {
            Some(postman) if letters.0.len() > 1 => {
                if let Err(mpsc::error::SendError(letters)) = postman.send(letters) {
                    letters.hand_out();
                }
            }
            _ => letters.hand_out(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(count: usize) -> (Letters, Vec<oneshot::Receiver<Answer>>) {
        let (mut letters, mut receivers) = (Letters::default(), Vec::new());
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel();
            letters.add(sender, Outputs::new(), Passage::default());
            receivers.push(receiver);
        }
        (letters, receivers)
    }

    #[tokio::test]
    async fn everyone_gets_an_answer_whoever_has_left() {
        let post = Post::default();
        assert!(post.open() && !post.open());
        let (letters, mut receivers) = letters(3);
        drop(receivers.remove(0));
        post.send(letters);
        assert!(receivers[0].is_empty(), "he has not gone yet");
        for receiver in receivers {
            assert_eq!(receiver.await, Ok((Ok(Outputs::new()), Passage::default())));
        }
    }

    #[test]
    fn without_a_postman_the_worker_goes_itself() {
        let post = Post::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(async { post.open() }));
        drop(runtime);
        let (letters, mut receivers) = letters(2);
        post.send(letters);
        assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_ok()));
    }
}
