//! Which files are patches: they look like manifests, lack what their base has, and mean nothing alone.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::node::Node;
use super::source::Source;
use super::yaml::Stream;

/// The sources that some kustomization among them names as a patch.
pub(super) fn patches(sources: &[Source], streams: &[Stream]) -> HashSet<usize> {
    let mut named = HashSet::new();
    for (source, stream) in sources.iter().zip(streams) {
        let folder = Path::new(&source.name).parent().unwrap_or(Path::new(""));
        for document in stream.documents.iter().filter(|document| is_kustomization(&document.root)) {
            named.extend(paths(&document.root).map(|path| tidy(&folder.join(path))));
        }
    }
    let is_patch = |source: &Source| named.contains(&tidy(Path::new(&source.name)));
    sources.iter().enumerate().filter(|(_, source)| is_patch(source)).map(|(index, _)| index).collect()
}

fn is_kustomization(root: &Node) -> bool {
    root.get("apiVersion").and_then(Node::text).is_some_and(|version| version.starts_with("kustomize.config.k8s.io/"))
}

fn paths(root: &Node) -> impl Iterator<Item = &str> {
    let listed = |key| root.get(key).map(Node::items).unwrap_or_default().iter();
    let with_path = ["patches", "patchesJson6902", "replacements"].into_iter().flat_map(listed);
    let plain = ["patchesStrategicMerge", "configurations", "transformers", "generators"].into_iter().flat_map(listed);
    with_path.filter_map(|item| item.get("path")).chain(plain).filter_map(Node::text)
}

/// Without `.` and `..`, so that two ways of writing a path are one.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if tidied.file_name().is_some() => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}
