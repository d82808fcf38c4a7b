//! What clients have been shown, version by version: a list is the newest of it, a watch is what comes after a version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

/// As many changes are kept as a test may want to read again.
const KEPT: usize = 10_000;

/// An object's place: `apps/deployments`, its namespace (empty where the kind has none) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One object that came, changed or went.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) resource: &'static str,
    pub(crate) namespace: String,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

#[derive(Default)]
pub(crate) struct History {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    /// Up to this one nothing is known any more.
    forgotten: u64,
    changes: VecDeque<Change>,
}

impl History {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes what there is now. What differs from before gets a new version.
    pub(crate) fn take(&mut self, now: Vec<(Key, Value)>) {
        let mut before = std::mem::take(&mut self.objects);
        for (key, mut value) in now {
            let old = before.remove(&key);
            if let Some(old) = &old {
                value["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
                if value == **old {
                    self.objects.insert(key, old.clone());
                    continue;
                }
            }
            let after = Arc::new(self.stamped(value));
            self.note(&key, old, Some(after.clone()));
            self.objects.insert(key, after);
        }
        for (key, old) in before {
            // What goes has a version of its own, too.
            let last = Arc::new(self.stamped((*old).clone()));
            self.note(&key, Some(last), None);
        }
    }

    fn stamped(&mut self, mut value: Value) -> Value {
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        value
    }

    fn note(&mut self, key: &Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        let namespace = key.namespace.clone();
        self.changes.push_back(Change { version: self.version, resource: key.resource, namespace, before, after });
        while self.changes.len() > KEPT {
            self.forgotten = self.changes.pop_front().map_or(self.forgotten, |change| change.version);
        }
    }

    /// Every version that somebody was told becomes too old to watch from.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.changes.clear();
    }

    pub(crate) fn is_forgotten(&self, version: u64) -> bool {
        version < self.forgotten
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(crate) fn all<'a>(&'a self, resource: &'static str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| key.resource == resource)
    }

    pub(crate) fn after(&self, version: u64) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.version > version)
    }
}
