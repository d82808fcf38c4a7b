//! What serves now: names, their versions, and a handle for each. A reader takes a snapshot and waits for nobody; whoever
//! changes something puts a new table in the old one's place.
//!
//! A request holds its handle from here to its answer, so that a swap loses nobody: what was resolved before it is
//! computed by the version that left, which is freed with its last request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::Handle;
use crate::model::Version;

/// The models that serve.
pub struct Models {
    table: ArcSwap<Table>,
    /// The name that `--default-model` gave.
    default: Option<String>,
    left: Mutex<Vec<Left>>,
}

/// The versions of each name, by name; of one name the highest last.
#[derive(Clone, Default)]
pub struct Table(BTreeMap<String, Vec<Handle>>);

/// A version that nobody finds any more, and that may still compute for those who found it before.
struct Left {
    name: String,
    version: String,
    alive: Weak<Version>,
}

impl Models {
    /// None, yet. `default` is the model that is meant where none is named.
    pub fn new(default: Option<String>) -> Self {
        Self { table: ArcSwap::default(), default, left: Mutex::default() }
    }

    /// What serves at this moment.
    pub fn now(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The model that is meant where none is named, in its highest version: the one that `--default-model` names, or the
    /// only one.
    pub fn default(&self) -> Option<Handle> {
        let table = self.table.load();
        let versions = match &self.default {
            Some(name) => table.0.get(name),
            None => table.0.values().next().filter(|_| table.0.len() == 1),
        };
        versions?.last().cloned()
    }

    /// A model by its name, in its highest version unless one is named.
    pub fn get(&self, name: &str, version: Option<&str>) -> Option<Handle> {
        let table = self.table.load();
        let mut versions = table.0.get(name)?.iter().rev();
        versions.find(|handle| version.is_none_or(|version| handle.version.version == version)).cloned()
    }

    /// Puts `versions` in the place of all that served under `name`, in one step.
    pub fn publish(&self, name: &str, mut versions: Vec<Handle>) {
        versions.sort_by(|a, b| order(&a.version.version).cmp(&order(&b.version.version)));
        self.change(name, &versions, |table| {
            table.0.insert(name.to_owned(), versions.clone());
        });
    }

    /// Takes all versions of `name` away, in one step; those that served.
    pub fn remove(&self, name: &str) -> Vec<Handle> {
        self.change(name, &[], |table| {
            table.0.remove(name);
        })
    }

    /// The versions that have left and are still in memory, by name and version.
    pub fn leaving(&self) -> Vec<(String, String)> {
        let mut left = self.lock();
        left.retain(|left| left.alive.strong_count() > 0);
        left.iter().map(|left| (left.name.clone(), left.version.clone())).collect()
    }

    /// Returns what served under `name` before.
    fn change(&self, name: &str, after: &[Handle], change: impl Fn(&mut Table)) -> Vec<Handle> {
        let before = self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
        let before = before.0.get(name).cloned().unwrap_or_default();
        let stays = |handle: &Handle| after.iter().any(|other| Arc::ptr_eq(&other.version, &handle.version));
        let gone = before.iter().filter(|handle| !stays(handle)).map(|handle| Left {
            name: handle.version.name.clone(),
            version: handle.version.version.clone(),
            alive: Arc::downgrade(&handle.version),
        });
        let mut left = self.lock();
        left.retain(|left| left.alive.strong_count() > 0);
        left.extend(gone);
        drop(left);
        before
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions are numbers; what is none comes before them.
fn order(version: &str) -> (Option<u64>, &str) {
    (version.parse().ok(), version)
}

impl Table {
    /// Every version of every model.
    pub fn all(&self) -> impl Iterator<Item = &Handle> {
        self.0.values().flatten()
    }

    /// The versions of one model.
    pub fn versions(&self, name: &str) -> &[Handle] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that serve, for people: `digits@1, other@2`.
    pub fn ids(&self) -> String {
        self.all().map(|handle| handle.version.id()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::batch::worker::tests::echo::Echo;
    use crate::telemetry::Telemetry;

    /// A version that nobody computes.
    pub(in super::super) fn handle(name: &str, version: &str) -> Handle {
        let loaded = Echo::default().load([name, version], 4, 1);
        Handle::new(loaded, Telemetry::default().model(name, version), 9)
    }

    fn id(found: Option<Handle>) -> Option<String> {
        found.map(|handle| handle.version.id())
    }

    #[test]
    fn a_model_is_found_in_its_highest_version_or_in_the_one_that_is_named() {
        let models = Models::new(None);
        models.publish("a", ["10", "9", "final"].map(|version| handle("a", version)).into());
        assert_eq!(id(models.get("a", None)).as_deref(), Some("a@10"));
        assert_eq!(id(models.get("a", Some("9"))).as_deref(), Some("a@9"));
        assert_eq!(id(models.get("a", Some("09"))), None);
        assert_eq!(id(models.get("b", None)), None);
        assert_eq!(models.now().ids(), "a@final, a@9, a@10");
    }

    #[test]
    fn the_default_is_the_one_that_was_named_or_the_only_one() {
        let (unnamed, named) = (Models::new(None), Models::new(Some("b".to_owned())));
        assert_eq!((id(unnamed.default()), id(named.default())), (None, None));
        for models in [&unnamed, &named] {
            models.publish("a", vec![handle("a", "1")]);
        }
        assert_eq!((id(unnamed.default()).as_deref(), id(named.default())), (Some("a@1"), None));
        for models in [&unnamed, &named] {
            models.publish("b", vec![handle("b", "1")]);
        }
        assert_eq!((id(unnamed.default()), id(named.default()).as_deref()), (None, Some("b@1")));
    }

    #[test]
    fn what_left_is_known_for_as_long_as_somebody_holds_it() {
        let models = Models::new(None);
        models.publish("a", vec![handle("a", "1"), handle("a", "2")]);
        let (first, second) = (models.get("a", Some("1")).unwrap(), models.get("a", None).unwrap());
        models.publish("a", vec![second, handle("a", "3")]);
        assert_eq!(models.leaving(), [("a".to_owned(), "1".to_owned())], "the second stays");
        drop(first);
        assert!(models.leaving().is_empty());
        models.remove("a");
        assert!(models.leaving().is_empty() && models.now().is_empty());
    }

    #[test]
    fn nobody_who_reads_sees_a_table_between_two() {
        let models = Models::new(None);
        let generations: Vec<Vec<Handle>> = (0..50u32)
            .map(|generation| (0..3).map(|part| handle("a", &(generation * 3 + part).to_string())).collect())
            .collect();
        models.publish("a", generations[0].clone());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| generations.into_iter().for_each(|versions| models.publish("a", versions)));
            while !writer.is_finished() {
                let table = models.now();
                let numbers: Vec<u32> =
                    table.versions("a").iter().map(|handle| handle.version.version.parse().unwrap()).collect();
                assert_eq!(numbers, [numbers[0] / 3 * 3, numbers[0] / 3 * 3 + 1, numbers[0] / 3 * 3 + 2]);
            }
        });
    }
}
