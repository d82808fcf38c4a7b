//! Which files belong together. A folder may hold alternatives, such as overlays or what was rendered of them, and what
//! is said across them would be false: a file that has an object of another file's is looked at alone, and so is the
//! folder of a kustomization.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::Problem;
use super::object::{Object, Spot};
use super::source::Source;

/// Indices of files that are seen as one whole.
pub type World = Vec<usize>;

pub(super) fn worlds(sources: &[Source], objects: &[Object], problems: &mut Vec<(Spot, Problem)>) -> Vec<World> {
    let mut apart: HashSet<usize> = HashSet::new();
    let mut seen: HashMap<_, &Object> = HashMap::new();
    for object in objects.iter().filter(|object| !object.name.is_empty()) {
        let id = (&object.api_version, &object.kind, &object.namespace, &object.name);
        let first = *seen.entry(id).or_insert(object);
        if first.file != object.file {
            for (one, other) in [(first, object), (object, first)] {
                if apart.insert(one.file) {
                    let file = sources[other.file].name.clone();
                    problems.push((one.place().spot(), Problem::Apart { object: one.label(), file }));
                }
            }
        }
    }
    let kustomized = problems.iter().filter(|(_, problem)| matches!(problem, Problem::Kustomize("a kustomization")));
    let folders: HashSet<&Path> =
        kustomized.filter_map(|(spot, _)| Path::new(&sources[spot.file].name).parent()).collect();
    let mut worlds: BTreeMap<_, World> = BTreeMap::new();
    for (file, source) in sources.iter().enumerate() {
        let folder = Path::new(&source.name).ancestors().skip(1).find(|folder| folders.contains(folder));
        worlds.entry((apart.contains(&file).then_some(file), folder)).or_default().push(file);
    }
    worlds.into_values().collect()
}
