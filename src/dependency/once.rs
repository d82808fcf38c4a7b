//! What the first check makes and the others use, made off the runtime's threads, which probes need: a TLS client reads
//! all of the system's certificates.

use std::sync::{Arc, OnceLock};

use tokio::task::spawn_blocking;

/// A value that is made once. Clones share it.
#[derive(Clone)]
pub(super) struct Once<T>(Arc<OnceLock<T>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// The value; `make` makes it, unless it is there. An error is not kept.
    ///
    /// Cancel safe: what is being made is kept all the same, so that it is there for a later check whose time is as short.
    pub(super) async fn get(&self, make: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
        if let Some(made) = self.0.get() {
            return Ok(made.clone());
        }
        let kept = self.0.clone();
        let making = spawn_blocking(move || {
            let value = make()?;
            Ok(kept.get_or_init(|| value).clone())
        });
        making.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waited_for_is_kept_and_an_error_is_not() {
        let once = Once::default();
        assert_eq!(once.get(|| Err("not yet".to_owned())).await, Err::<u8, _>("not yet".to_owned()));
        let (go_on, wait) = mpsc::channel::<()>();
        let slow = once.get(move || wait.recv().map(|()| 7).map_err(|error| error.to_string()));
        assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
        go_on.send(()).unwrap();
        while once.0.get().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(once.get(|| panic!("it is made again")).await, Ok(7));
    }
}
