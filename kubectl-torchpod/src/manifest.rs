//! Manifests: YAML or JSON in, typed objects out, with the place of everything and whatever was wrong on the way.

mod kind;
mod kustomize;
mod node;
mod object;
mod path;
mod scalar;
mod schema;
mod source;
mod value;
mod world;
mod yaml;

use std::collections::HashMap;

use kind::Kind;
pub use node::{Entry, Mark, Node, Span, Value};
pub use object::{Object, Place, Spot};
pub use path::{Path, Step};
use schema::Schema;
pub use source::{Source, Unreadable, read};
pub use world::World;

/// How like two names of kinds must be for one to be taken for the other, from 0 to 1.
const ALIKE: f64 = 0.9;

/// All that was given, read.
#[derive(Debug, Default)]
pub struct Manifests {
    pub sources: Vec<Source>,
    pub objects: Vec<Object>,
    pub problems: Vec<(Spot, Problem)>,
    /// Every file is in one of them.
    pub worlds: Vec<World>,
}

/// What reading found, before anybody thought about what it means.
#[derive(Debug, Clone)]
pub enum Problem {
    /// The rest of the file cannot be read.
    Broken(String),
    Repeated {
        key: String,
        first: usize,
    },
    NotAManifest(&'static str),
    /// The file has an object that another file has, too, and is therefore looked at alone.
    Apart {
        object: String,
        file: String,
    },
    /// A file that kustomize reads, and no cluster.
    Kustomize(&'static str),
    /// The version of the API has no such kind; what was meant.
    Misspelt(String),
    /// A kind whose schema is not at hand.
    Unchecked {
        api_version: String,
        kind: String,
    },
    Unknown {
        path: Path,
        nearest: Option<String>,
    },
    Missing(Path),
    Wrong {
        path: Path,
        why: String,
    },
    /// A value that no API server takes, although its type is right.
    Refused {
        path: Path,
        why: String,
    },
}

impl Manifests {
    pub fn parse(sources: Vec<Source>) -> Manifests {
        let mut reader = Reader::default();
        let streams: Vec<_> = sources.iter().map(|source| yaml::parse(&source.text)).collect();
        let patches = kustomize::patches(&sources, &streams);
        for (file, stream) in streams.into_iter().enumerate() {
            let patch = patches.contains(&file);
            for document in stream.documents {
                let spot = Spot::start(file, document.root.span);
                for repeated in document.repeated {
                    let problem = Problem::Repeated { key: repeated.key, first: repeated.first };
                    reader.out.problems.push((Spot { span: repeated.at, ..spot.clone() }, problem));
                }
                if patch {
                    reader.out.problems.push((spot, Problem::Kustomize("a patch of a kustomization")));
                } else {
                    reader.document(file, document.root, sources[file].found);
                }
            }
            if let Some(error) = stream.error {
                reader.out.problems.push((Spot::start(file, error.at), Problem::Broken(error.why)));
            }
        }
        let worlds = world::worlds(&sources, &reader.out.objects, &mut reader.out.problems);
        Manifests { sources, worlds, ..reader.out }
    }
}

#[derive(Default)]
struct Reader {
    out: Manifests,
    schemas: HashMap<(&'static str, &'static str), Schema>,
}

impl Reader {
    fn document(&mut self, file: usize, root: Node, found: bool) {
        let spot = Spot::start(file, root.span);
        let text = |key: &str| root.get(key).and_then(Node::text).map(str::to_owned);
        match (text("apiVersion"), text("kind")) {
            (Some(version), _) if version.starts_with("kustomize.config.k8s.io/") => {
                self.out.problems.push((spot, Problem::Kustomize("a kustomization")));
            }
            (Some(version), Some(kind)) if kind.ends_with("List") && root.get("items").is_some() => {
                for item in root.get("items").map(Node::items).unwrap_or_default() {
                    self.document(file, as_item(item.clone(), &version, kind.trim_end_matches("List")), found);
                }
            }
            (Some(version), Some(kind)) => self.object(Object::new(file, version, kind, root)),
            _ if matches!(root.value, Value::Null) => {}
            // A named thing that is neither is an object whose head was forgotten, or some tool's own file.
            (None, None) if found || root.get("metadata").and_then(|metadata| metadata.get("name")).is_none() => {
                self.out.problems.push((spot, Problem::NotAManifest("neither apiVersion nor kind")));
            }
            (None, _) => self.out.problems.push((spot, Problem::Missing(Path::default().key("apiVersion")))),
            (_, None) => self.out.problems.push((spot, Problem::Missing(Path::default().key("kind")))),
        }
    }

    fn object(&mut self, mut object: Object) {
        let root = object.place().spot();
        let Some(kind) = Kind::of(&object.api_version, &object.kind) else {
            let unchecked =
                || Problem::Unchecked { api_version: object.api_version.clone(), kind: object.kind.clone() };
            let problem = meant(&object).map_or_else(unchecked, Problem::Misspelt);
            self.out.problems.push((root, problem));
            self.out.objects.push(object);
            return;
        };
        let schema = self.schemas.entry((kind.api_version, kind.name)).or_insert_with(|| Schema::new(kind.schema()));
        let mut problems = schema.check(&object.root);
        let wrong = problems.iter().filter(|(_, problem)| matches!(problem, Problem::Wrong { .. }));
        let right = schema::without(object.root.json(), wrong.map(|(path, _)| path));
        match kind.read(right) {
            Some(Ok(typed)) => object.typed = Some(typed),
            Some(Err(error)) => {
                let path = Path::default();
                problems.push((path.clone(), Problem::Wrong { path, why: error.to_string() }));
            }
            None => {}
        }
        let spots = problems.into_iter().map(|(path, problem)| (object.spot(&path), problem));
        self.out.problems.extend(spots);
        self.out.objects.push(object);
    }
}

/// An item of a typed list, such as a `ServiceList`, need not say what it is.
fn as_item(mut item: Node, version: &str, kind: &str) -> Node {
    let span = item.span;
    if let Value::Map(entries) = &mut item.value {
        for (key, value) in [("apiVersion", version), ("kind", kind)] {
            if !kind.is_empty() && !entries.iter().any(|entry| entry.key == key) {
                let node = Node { span, value: Value::Text(value.to_owned()) };
                entries.push(Entry { key: key.to_owned(), key_span: span, node });
            }
        }
    }
    item
}

/// What a kind that its version lacks was meant to be: one that is spelt nearly so, or the same of another group.
fn meant(object: &Object) -> Option<String> {
    let near = Kind::all().filter(|kind| kind.api_version == object.api_version);
    let near = near.map(|kind| (strsim::jaro_winkler(kind.name, &object.kind), kind));
    // Versions of which no kind is known may have any.
    let (alike, nearest) = near.max_by(|one, other| one.0.total_cmp(&other.0))?;
    let kind = if alike >= ALIKE { nearest } else { Kind::all().find(|kind| kind.name == object.kind)? };
    Some(format!("{} {}", kind.api_version, kind.name))
}
