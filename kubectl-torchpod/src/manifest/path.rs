//! The way from an object's root to something in it, as messages spell it: `spec.template.spec.containers[0].image`.

use std::fmt;

use super::node::{Node, Span};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Item(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// One key further; several, with dots between.
    #[must_use]
    pub fn key(&self, keys: &str) -> Path {
        let mut steps = self.0.clone();
        steps.extend(keys.split('.').map(|key| Step::Key(key.to_owned())));
        Path(steps)
    }

    /// One key that may have dots in it, such as a label's.
    #[must_use]
    pub fn label(&self, key: &str) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Path(steps)
    }

    #[must_use]
    pub fn item(&self, index: usize) -> Path {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Path(steps)
    }

    /// The last keys, as many as are asked for: `["grpc", "port"]`.
    pub fn ends_with(&self, keys: &[&str]) -> bool {
        self.0.len() >= keys.len()
            && self.0[self.0.len() - keys.len()..]
                .iter()
                .zip(keys)
                .all(|(step, key)| matches!(step, Step::Key(name) if name == key))
    }

    /// What to underline: the last key of the path with its value where that is one word, or, where the path leads to
    /// nothing, the nearest thing on the way there.
    pub(super) fn span(&self, root: &Node) -> Span {
        let (mut node, mut span) = (root, Span { start: root.span.start, end: root.span.start });
        for step in &self.0 {
            match step {
                Step::Key(key) => {
                    let Some(entry) = node.entry(key) else { break };
                    node = &entry.node;
                    let one_line = node.is_scalar() && node.span.end.line == entry.key_span.start.line;
                    span = Span { end: if one_line { node.span.end } else { entry.key_span.end }, ..entry.key_span };
                }
                Step::Item(index) => {
                    let Some(item) = node.items().get(*index) else { break };
                    node = item;
                    // A mapping in a list is known by its first key.
                    span = item.entries().first().map_or(item.span, |entry| entry.key_span);
                }
            }
        }
        span
    }

    pub(super) fn find<'a>(&self, root: &'a Node) -> Option<&'a Node> {
        self.0.iter().try_fold(root, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Item(index) => node.items().get(*index),
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(formatter, "[{index}]")?,
                Step::Key(key) if key.contains(['.', '/']) => write!(formatter, "[{key:?}]")?,
                Step::Key(key) if place == 0 => write!(formatter, "{key}")?,
                Step::Key(key) => write!(formatter, ".{key}")?,
            }
        }
        Ok(())
    }
}
