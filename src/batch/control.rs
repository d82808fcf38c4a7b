//! Who may change what serves. An order to load goes to the loader's thread and waits for its turn; an order to unload is
//! carried out at once, and wins over every load that was ordered before it.
//!
//! What serves is told by `models`, and only what does not serve is noted here: what is being loaded, and why something
//! is not there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Handle, Models};
use crate::lifecycle::{self, Event, Phase};
use crate::model::repository;

/// Orders that wait for their turn; more are refused.
const WAITING: usize = 64;

/// Loads and unloads. Clones share everything.
#[derive(Clone)]
pub struct Control(Arc<Desk>);

struct Desk {
    models: Arc<Models>,
    lifecycle: lifecycle::Tx,
    rules: Rules,
    orders: mpsc::SyncSender<Order>,
    book: Mutex<Book>,
}

/// What the command line says of orders.
pub struct Rules {
    /// Where models lie.
    pub repository: PathBuf,
    /// Whether orders are taken at all: `--model-control explicit`.
    pub explicit: bool,
}

/// What is known beyond the table of what serves.
#[derive(Default)]
struct Book {
    /// By name and version: what does not serve, and why.
    notes: BTreeMap<(String, String), (State, String)>,
    /// How often each name has been unloaded.
    unloads: BTreeMap<String, u64>,
    /// A token of each load that was given up, alive for as long as its threads are stuck.
    stuck: Vec<Weak<()>>,
}

/// An order to load a model, on its way to the loader.
pub struct Order {
    pub name: String,
    /// How often the name had been unloaded when the order was given.
    unloads: u64,
    reply: oneshot::Sender<Result<(), Refused>>,
}

/// How far a version is, in the words of Triton's model repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Loading,
    /// It is found no more, and still computes for those who found it before.
    Unloading,
    Unavailable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unloading => "UNLOADING",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Empty where none is known.
    pub version: String,
    pub state: State,
    /// Empty unless there is something to say.
    pub reason: String,
}

impl Entry {
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }
}

/// Why an order was not carried out. The texts are for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("models are loaded at start only; start the server with --model-control explicit to load and unload them")]
    Off,
    #[error("there is no model {0:?}")]
    Unknown(String),
    /// Something is wrong with the model's folder.
    #[error("{0}")]
    Folder(String),
    /// It was read, and does not do what it should.
    #[error("{0}")]
    Failed(String),
    #[error("{name} was not ready within --load-timeout {limit:?} and was given up")]
    TimedOut { name: String, limit: Duration },
    #[error("{0} was unloaded while it was being loaded")]
    Overtaken(String),
    #[error("{WAITING} loads are waiting for their turn")]
    Busy,
    #[error("the server is {0}, and its models stay as they are")]
    Closed(Phase),
}

impl Control {
    /// The desk, and where the loader hears of orders.
    pub fn new(models: Arc<Models>, lifecycle: lifecycle::Tx, rules: Rules) -> (Self, mpsc::Receiver<Order>) {
        let (orders, heard) = mpsc::sync_channel(WAITING);
        let desk = Desk { models, lifecycle, rules, orders, book: Mutex::default() };
        (Self(Arc::new(desk)), heard)
    }

    /// Whether orders are taken at all.
    pub fn is_explicit(&self) -> bool {
        self.0.rules.explicit
    }

    /// Loads what is in the model's folder, beside what serves, and resolves when it serves. A drain is not waited for.
    ///
    /// Cancel safe: the order is carried out all the same.
    pub async fn load(&self, name: &str) -> Result<(), Refused> {
        self.open()?;
        let (reply, answer) = oneshot::channel();
        let unloads = self.book().unloads.get(name).copied().unwrap_or(0);
        self.0.orders.try_send(Order { name: name.to_owned(), unloads, reply }).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => {
                Refused::Failed("nobody loads any more; the log has the reason".to_owned())
            }
        })?;
        let mut rx = self.0.lifecycle.subscribe();
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(Refused::Failed("the loader broke off".to_owned()))),
            phase = rx.wait_for(|snapshot| closed(snapshot.state.phase)) => Err(Refused::Closed(phase)),
        }
    }

    /// Takes a model away at once; its last version leaves when its last request is done.
    pub fn unload(&self, name: &str) -> Result<(), Refused> {
        self.open()?;
        let mut book = self.book();
        let table = self.0.models.now();
        let versions = table.versions(name);
        let is_coming = book.notes.iter().any(|((noted, _), (state, _))| noted == name && *state == State::Loading);
        if versions.is_empty() && !is_coming {
            return Err(Refused::Unknown(name.to_owned()));
        }
        if !versions.is_empty() && self.0.lifecycle.state().phase != Phase::Serving {
            return Err(Refused::Closed(self.0.lifecycle.state().phase));
        }
        *book.unloads.entry(name.to_owned()).or_default() += 1;
        if !versions.is_empty() && table.names().count() == 1 {
            // Said before it is so: nobody is ready without a model.
            self.0.lifecycle.apply(Event::Emptied, &format!("{name} was unloaded"));
        }
        self.0.models.remove(name);
        book.notes.retain(|(noted, _), _| noted != name);
        for handle in versions {
            let key = (name.to_owned(), handle.version.version.clone());
            book.notes.insert(key, (State::Unavailable, "unloaded".to_owned()));
        }
        drop(book);
        tracing::info!(model = name, "model unloaded");
        Ok(())
    }

    /// Everything that is known, by name and version: what serves, what comes, what leaves, and what is not there.
    pub fn states(&self) -> Vec<Entry> {
        let book = self.book();
        let mut known = BTreeMap::new();
        for ((name, version), (state, reason)) in &book.notes {
            known.insert((name.clone(), version.clone()), (*state, reason.clone()));
        }
        for key in self.0.models.leaving() {
            let so_far = known.entry(key).or_insert((State::Unloading, String::new()));
            so_far.0 = State::Unloading;
        }
        for handle in self.0.models.now().all() {
            let version = &handle.version;
            known.insert((version.name.clone(), version.version.clone()), (State::Ready, String::new()));
        }
        let entry = |((name, version), (state, reason))| Entry { name, version, state, reason };
        known.into_iter().map(entry).collect()
    }

    /// The same, and what lies in the repository and was never loaded.
    pub async fn index(&self) -> Vec<Entry> {
        let root = self.0.rules.repository.clone();
        let folders = tokio::task::spawn_blocking(move || repository::names(&root)).await.unwrap_or_default();
        let mut entries = self.states();
        for name in folders {
            if !entries.iter().any(|entry| entry.name == name) {
                let reason = "not loaded".to_owned();
                entries.push(Entry { name, version: String::new(), state: State::Unavailable, reason });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Loads that were given up and whose threads are stuck.
    pub fn stuck(&self) -> usize {
        let mut book = self.book();
        book.stuck.retain(|token| token.strong_count() > 0);
        book.stuck.len()
    }

    fn open(&self) -> Result<(), Refused> {
        let phase = self.0.lifecycle.state().phase;
        match closed(phase) {
            _ if !self.is_explicit() => Err(Refused::Off),
            Some(phase) => Err(Refused::Closed(phase)),
            None => Ok(()),
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the loader says.
impl Control {
    /// The versions of `name` that are being loaded now.
    pub fn loading<'a>(&self, name: &str, versions: impl IntoIterator<Item = &'a str>) {
        let mut book = self.book();
        book.notes.retain(|(noted, _), _| noted != name);
        for version in versions {
            book.notes.insert((name.to_owned(), version.to_owned()), (State::Loading, String::new()));
        }
    }

    /// Lets `versions` serve in the place of what served under the order's name, unless the order is out of date.
    pub fn publish(&self, order: &Order, versions: Vec<Handle>) -> Result<(), Refused> {
        let book = self.book();
        if let Some(phase) = closed(self.0.lifecycle.state().phase) {
            return Err(Refused::Closed(phase));
        }
        if book.unloads.get(&order.name).copied().unwrap_or(0) != order.unloads {
            return Err(Refused::Overtaken(order.name.clone()));
        }
        self.0.models.publish(&order.name, versions);
        // Said once it is so: nobody is ready without a model.
        self.0.lifecycle.apply(Event::Filled, &format!("{} was loaded", order.name));
        drop(book);
        Ok(())
    }

    /// Notes how the order ended, and tells whoever gave it.
    ///
    /// What is not there is not noted: whoever orders would fill the book with names of their own.
    pub fn answer(&self, order: Order, result: Result<(), Refused>) {
        let is_there = result.is_err() && repository::names(&self.0.rules.repository).contains(&order.name);
        let mut book = self.book();
        let is_loading = |state: State| state == State::Loading;
        match &result {
            Ok(()) => book.notes.retain(|(name, _), _| *name != order.name),
            Err(Refused::Unknown(_) | Refused::Overtaken(_)) => {
                book.notes.retain(|(name, _), (state, _)| *name != order.name || !is_loading(*state));
            }
            Err(reason) => {
                let mut was_loading = false;
                for ((name, _), note) in &mut book.notes {
                    if *name == order.name && is_loading(note.0) {
                        was_loading = true;
                        *note = (State::Unavailable, reason.to_string());
                    }
                }
                let is_known = is_there
                    || !self.0.models.now().versions(&order.name).is_empty()
                    || book.notes.keys().any(|(name, _)| *name == order.name);
                if !was_loading && is_known {
                    let key = (order.name.clone(), String::new());
                    book.notes.insert(key, (State::Unavailable, reason.to_string()));
                }
            }
        }
        drop(book);
        // Nobody listening means that the client has left.
        let _ = order.reply.send(result);
    }

    /// Counts a load that was given up for as long as `token` lives.
    pub fn gave_up(&self, token: Weak<()>) {
        self.book().stuck.push(token);
    }
}

/// The phase, where it is one in which nothing is loaded or unloaded any more.
fn closed(phase: Phase) -> Option<Phase> {
    matches!(phase, Phase::Draining { .. } | Phase::Stopped | Phase::Failed).then_some(phase)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::batch::models::tests::handle;

    struct Server {
        control: Control,
        orders: mpsc::Receiver<Order>,
        lifecycle: lifecycle::Tx,
        rx: lifecycle::Rx,
        models: Arc<Models>,
    }

    /// One that serves `a@1`.
    fn server() -> Server {
        let (lifecycle, rx) = lifecycle::channel([]);
        let models = Arc::new(Models::new(None));
        let rules = Rules { repository: "models".into(), explicit: true };
        let (control, orders) = Control::new(models.clone(), lifecycle.clone(), rules);
        models.publish("a", vec![handle("a", "1")]);
        for event in [Event::LoadStarted, Event::Loaded, Event::Warmed] {
            lifecycle.apply(event, "a test");
        }
        Server { control, orders, lifecycle, rx, models }
    }

    #[tokio::test]
    async fn an_order_is_answered_once_it_is_carried_out_and_an_unload_overtakes_it() {
        let Server { control, orders, models, .. } = server();
        let mut load = std::pin::pin!(control.load("a"));
        assert!(load.as_mut().now_or_never().is_none());
        let order = orders.recv().unwrap();
        let published = control.publish(&order, vec![handle("a", "2")]);
        control.answer(order, published);
        assert_eq!((load.await, models.now().ids().as_str()), (Ok(()), "a@2"));

        let mut load = std::pin::pin!(control.load("a"));
        assert!(load.as_mut().now_or_never().is_none());
        assert_eq!(control.unload("a"), Ok(()));
        let order = orders.recv().unwrap();
        let published = control.publish(&order, vec![handle("a", "3")]);
        control.answer(order, published);
        assert_eq!((load.await, models.now().is_empty()), (Err(Refused::Overtaken("a".to_owned())), true));
    }

    #[tokio::test]
    async fn a_model_that_comes_for_the_first_time_can_be_called_off() {
        let Server { control, orders, models, rx, .. } = server();
        assert_eq!(control.unload("b"), Err(Refused::Unknown("b".to_owned())));
        let mut load = std::pin::pin!(control.load("b"));
        assert!(load.as_mut().now_or_never().is_none());
        let order = orders.recv().unwrap();
        control.loading("b", ["1"]);
        assert_eq!(control.unload("b"), Ok(()));
        assert!(!rx.state().vacant, "the other is still there");
        assert!(control.publish(&order, vec![handle("b", "1")]).is_err());
        assert_eq!(models.now().ids(), "a@1");
    }

    #[tokio::test]
    async fn a_drain_answers_those_who_wait_and_changes_nothing_any_more() {
        let Server { control, orders, models, lifecycle, .. } = server();
        let mut load = std::pin::pin!(control.load("a"));
        assert!(load.as_mut().now_or_never().is_none());
        lifecycle.apply(Event::Terminate, "a test");
        assert!(matches!(load.await, Err(Refused::Closed(Phase::Draining { .. }))));
        assert!(matches!(control.load("a").await, Err(Refused::Closed(_))));
        assert!(matches!(control.unload("a"), Err(Refused::Closed(_))));
        assert!(control.publish(&orders.recv().unwrap(), vec![handle("a", "2")]).is_err());
        assert_eq!(models.now().ids(), "a@1");
    }

    #[tokio::test]
    async fn more_orders_than_may_wait_are_refused() {
        let Server { control, orders, .. } = server();
        for _ in 0..WAITING {
            assert!(control.load("a").now_or_never().is_none(), "it waits for its turn");
        }
        assert_eq!(control.load("a").await, Err(Refused::Busy));
        drop(orders);
        assert!(matches!(control.load("a").await, Err(Refused::Failed(_))));
    }

    #[test]
    fn what_failed_is_noted_until_the_next_order() {
        let Server { control, .. } = server();
        let order = || {
            let (reply, _) = oneshot::channel();
            Order { name: "a".to_owned(), unloads: 0, reply }
        };
        let states = || control.states().into_iter().map(|entry| (entry.version, entry.state)).collect::<Vec<_>>();
        let ready = || ("1".to_owned(), State::Ready);
        control.loading("a", ["2"]);
        assert_eq!(states(), [ready(), ("2".to_owned(), State::Loading)]);
        control.answer(order(), Err(Refused::Failed("a@2 is not fit".to_owned())));
        assert_eq!(states(), [ready(), ("2".to_owned(), State::Unavailable)]);
        assert_eq!(control.states()[1].reason, "a@2 is not fit");
        control.loading("a", []);
        assert_eq!(states(), [ready()]);
        control.answer(order(), Err(Refused::Folder("no version".to_owned())));
        assert_eq!(states(), [(String::new(), State::Unavailable), ready()]);

        // The folder of all models cannot be read: that says nothing of whether this one is there.
        let (reply, _) = oneshot::channel();
        let stranger = Order { name: "stranger".to_owned(), unloads: 0, reply };
        control.answer(stranger, Err(Refused::Folder("it cannot be read".to_owned())));
        assert_eq!(control.states().iter().filter(|entry| entry.name == "stranger").count(), 0);
    }

    #[test]
    fn the_last_model_is_said_to_be_gone_and_a_new_one_to_be_there() {
        let Server { control, rx, .. } = server();
        assert_eq!(control.unload("a"), Ok(()));
        assert!(rx.state().vacant);
        let (reply, _) = oneshot::channel();
        let order = Order { name: "b".to_owned(), unloads: 0, reply };
        control.publish(&order, vec![handle("b", "1")]).unwrap();
        assert!(!rx.state().vacant);
    }
}
