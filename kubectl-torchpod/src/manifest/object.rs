//! One object of the input: its typed form, and the place of every field.

use std::any::Any;
use std::sync::OnceLock;

use super::kind::Typed;
use super::node::{Node, Span};
use super::path::Path;

/// What one document, or one item of a List, describes.
#[derive(Debug)]
pub struct Object {
    /// Which of the sources it comes from.
    pub file: usize,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// None, where the command line or the cluster decides.
    pub namespace: Option<String>,
    pub root: Node,
    pub(super) typed: Option<Typed>,
}

impl Object {
    pub(super) fn new(file: usize, api_version: String, kind: String, root: Node) -> Object {
        let metadata = |key| root.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Node::text);
        Object {
            file,
            api_version,
            kind,
            name: metadata("name").unwrap_or_default().to_owned(),
            namespace: metadata("namespace").map(str::to_owned),
            root,
            typed: None,
        }
    }

    /// The typed form, where this is that kind and it could be read.
    pub fn typed<T: Any>(&self) -> Option<&T> {
        self.typed.as_ref()?.downcast_ref()
    }

    /// Whether its kind is, and enough of it could be read.
    pub fn is_known(&self) -> bool {
        self.typed.is_some()
    }

    /// `Deployment/web`
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    pub fn place(&self) -> Place<'_> {
        Place { object: self, path: Path::default() }
    }

    pub(super) fn spot(&self, path: &Path) -> Spot {
        let span = if path.0.is_empty() { self.head() } else { path.span(&self.root) };
        Spot { file: self.file, span, path: path.to_string(), object: self.label() }
    }

    /// Where a finding about the object as a whole points to: its name.
    fn head(&self) -> Span {
        static NAME: OnceLock<Path> = OnceLock::new();
        let name = NAME.get_or_init(|| Path::default().key("metadata.name"));
        let path = if name.find(&self.root).is_some() { name.clone() } else { Path::default().key("kind") };
        path.span(&self.root)
    }
}

/// Something in an object, there or not.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub object: &'a Object,
    pub path: Path,
}

impl<'a> Place<'a> {
    /// Keys further in, with dots between.
    #[must_use]
    pub fn key(&self, keys: &str) -> Place<'a> {
        Place { object: self.object, path: self.path.key(keys) }
    }

    /// One key that may have dots in it.
    #[must_use]
    pub fn label(&self, key: &str) -> Place<'a> {
        Place { object: self.object, path: self.path.label(key) }
    }

    #[must_use]
    pub fn item(&self, keys: &str, index: usize) -> Place<'a> {
        Place { object: self.object, path: self.path.key(keys).item(index) }
    }

    /// An item of the list that this is.
    #[must_use]
    pub fn at(&self, index: usize) -> Place<'a> {
        Place { object: self.object, path: self.path.item(index) }
    }

    pub fn node(&self) -> Option<&'a Node> {
        self.path.find(&self.object.root)
    }

    pub fn spot(&self) -> Spot {
        self.object.spot(&self.path)
    }
}

/// Where a finding points to. Without the object, so that it outlives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub file: usize,
    pub span: Span,
    /// In the object, as messages spell it; empty for the object itself.
    pub path: String,
    /// `Deployment/web`; empty for what is no object.
    pub object: String,
}

impl Spot {
    pub(super) fn start(file: usize, span: Span) -> Spot {
        Spot { file, span: Span { start: span.start, end: span.start }, path: String::new(), object: String::new() }
    }
}
