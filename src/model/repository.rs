//! What is on disk: `MODELS/<name>/<version>/model.pt`, or a single file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::spec::{self, Port, Spec};

/// A model that can be loaded: everything but its weights has been read.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub version: String,
    pub file: PathBuf,
    pub spec: Spec,
    /// Per output of the spec: its labels.
    pub labels: Vec<Option<Vec<String>>>,
    /// The golden file's text.
    pub golden: Option<String>,
}

/// Why there is nothing to load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} does not exist: name a folder that holds <name>/<version>/model.pt, or a .pt file")]
    Missing { path: PathBuf },
    #[error("{path} cannot be read ({source}): the server needs read access to it")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no model: expected <name>/<version>/model.pt below it, such as digits/1/model.pt")]
    Empty { path: PathBuf },
    #[error("{path} holds no version of a model: expected model.pt in a numbered folder, such as 1/model.pt")]
    NoVersion { path: PathBuf },
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Finds every model under `path`, each in its highest version. `inputs` describe a model that has no `model.toml`.
pub fn find(path: &Path, inputs: &[Port]) -> Result<Vec<Found>, Error> {
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Unreadable { path: path.to_owned(), source },
    })?;
    let places = if metadata.is_file() { vec![single(path)] } else { below(path)? };
    if places.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    let mut wrong = Vec::new();
    let found = places.into_iter().filter_map(|place| place.read(inputs, &mut wrong)).collect();
    if wrong.is_empty() { Ok(found) } else { Err(Error::Invalid(wrong)) }
}

/// Finds what is in one model's folder now; empty where there is no such model. `name` is compared with what lies below
/// `path`, and never made part of a path.
pub fn find_one(path: &Path, name: &str, inputs: &[Port]) -> Result<Vec<Found>, Error> {
    if path.is_file() {
        return Ok(find(path, inputs)?.into_iter().filter(|found| found.name == name).collect());
    }
    let Some(dir) = folders(path)?.into_iter().find(|dir| name_of(dir) == name) else { return Ok(Vec::new()) };
    let mut wrong = Vec::new();
    let places = in_folder(dir.clone())?;
    if places.is_empty() {
        return Err(Error::NoVersion { path: dir });
    }
    let found = places.into_iter().filter_map(|place| place.read(inputs, &mut wrong)).collect();
    if wrong.is_empty() { Ok(found) } else { Err(Error::Invalid(wrong)) }
}

/// The names of the folders that hold a model, or may come to hold one. Empty where `path` cannot be read.
pub fn names(path: &Path) -> Vec<String> {
    folders(path).unwrap_or_default().iter().map(|dir| name_of(dir)).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a model's parts lie.
struct Place {
    name: String,
    version: String,
    file: PathBuf,
    /// The folder of `model.toml` and what it names.
    dir: PathBuf,
}

/// A file of its own: named after itself, or, inside a repository, after its folders.
fn single(file: &Path) -> Place {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let model_dir = dir.parent().filter(|parent| number(&dir).is_some() && parent.join("model.toml").exists());
    if let Some(model_dir) = model_dir {
        let (name, version) = (name_of(model_dir), name_of(&dir));
        return Place { name, version, file: file.clone(), dir: model_dir.to_owned() };
    }
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Place { name, version: "1".to_owned(), file, dir }
}

fn below(root: &Path) -> Result<Vec<Place>, Error> {
    let places = folders(root)?.into_iter().map(in_folder).collect::<Result<Vec<_>, _>>()?;
    Ok(places.into_iter().flatten().collect())
}

/// The versions of one model that are wanted: the highest.
fn in_folder(dir: PathBuf) -> Result<Vec<Place>, Error> {
    let versions = folders(&dir)?.into_iter().filter(|version| version.join("model.pt").exists());
    let highest = versions.filter_map(|version| number(&version).map(|number| (number, version))).max();
    match highest {
        Some((number, version)) => {
            Ok(vec![Place { name: name_of(&dir), version: number.to_string(), file: version.join("model.pt"), dir }])
        }
        None if dir.join("model.toml").exists() => Err(Error::NoVersion { path: dir }),
        None => Ok(Vec::new()),
    }
}

/// The folders in `dir`, in the order of their names.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Unreadable { path: dir.to_owned(), source };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Kubernetes mounts ConfigMaps and Secrets through links named `..data`; hidden folders are never models, nor is
        // what a file system keeps at its root for root alone.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = name.starts_with('.') || name == "lost+found";
        if path.is_dir() && !hidden {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// A version folder's number.
fn number(version: &Path) -> Option<u64> {
    version.file_name()?.to_str()?.parse().ok()
}

impl Place {
    /// Reads everything but the weights; what is wrong goes to `wrong`, with its file.
    fn read(self, inputs: &[Port], wrong: &mut Vec<String>) -> Option<Found> {
        let toml = self.dir.join("model.toml");
        let spec = match std::fs::read_to_string(&toml) {
            Ok(text) => spec::parse(&text)
                .map_err(|reasons| wrong.extend(reasons.iter().map(|reason| format!("{reason} in {}", toml.display()))))
                .ok()?,
            Err(error) if error.kind() != ErrorKind::NotFound => {
                wrong.push(format!("{} cannot be read: {error}", toml.display()));
                return None;
            }
            Err(_) if !inputs.is_empty() => spec::from_inputs(inputs.to_vec()),
            Err(_) => {
                wrong.push(format!(
                    "no {} says what {} takes: write one, or describe its inputs with --input image:FP32[-1,8,8]",
                    toml.display(),
                    self.file.display()
                ));
                return None;
            }
        };
        let mut read = |path: &Path| {
            let path = self.dir.join(path);
            std::fs::read_to_string(&path)
                .map_err(|error| {
                    wrong.push(format!("{} cannot be read ({error}), and {} names it", path.display(), toml.display()));
                })
                .ok()
        };
        let golden = spec.golden.as_ref().map(|golden| read(&golden.file).unwrap_or_default());
        let texts: Vec<_> = spec.outputs.iter().map(|output| output.labels.as_deref().and_then(&mut read)).collect();
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let labels: Vec<_> = texts.into_iter().map(|text| text.map(lines)).collect();
        for (output, labels) in spec.outputs.iter().zip(&labels) {
            let (Some(labels), Some(classes)) = (labels, output.port.row_elements()) else { continue };
            if labels.len() != classes {
                let name = &output.port.name;
                wrong.push(format!(
                    "{name}: {} labels for {classes} numbers a row in {}",
                    labels.len(),
                    toml.display()
                ));
            }
        }
        Some(Found { name: self.name, version: self.version, file: self.file, spec, labels, golden })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "[[inputs]]\nname = \"x\"\ndtype = \"FP32\"\nshape = [-1, 4]\n";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn each_model_is_found_in_its_highest_version() {
        let root = repository(&[
            ("a/model.toml", TOML),
            ("a/9/model.pt", ""),
            ("a/10/model.pt", ""),
            ("a/notes/model.pt", ""),
            ("b/model.toml", TOML),
            ("b/1/model.pt", ""),
            (".hidden/1/model.pt", ""),
            ("README.md", ""),
        ]);
        let found = find(root.path(), &[]).unwrap();
        let names: Vec<_> = found.iter().map(|found| format!("{}@{}", found.name, found.version)).collect();
        assert_eq!(names, ["a@10", "b@1"]);
    }

    #[test]
    fn a_single_file_in_a_repository_keeps_its_name_and_version() {
        let root = repository(&[("digits/model.toml", TOML), ("digits/3/model.pt", ""), ("flat/net.pt", "")]);
        let found = find(&root.path().join("digits/3/model.pt"), &[]).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("digits", "3"));
        let input = spec::parse_input("x:FP32[-1,4]").unwrap();
        let found = find(&root.path().join("flat/net.pt"), &[input]).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("net", "1"));
    }

    #[test]
    fn what_is_wrong_is_reported_for_all_models_at_once() {
        let root = repository(&[
            ("a/model.toml", "[[inputs]]\nname = 1\n"),
            ("a/1/model.pt", ""),
            ("b/1/model.pt", ""),
            (
                "c/model.toml",
                &format!(
                    "{TOML}[[outputs]]\nname = \"y\"\ndtype = \"FP32\"\nshape = [-1, 3]\n[golden]\nfile = \"gone.json\"\n"
                ),
            ),
            ("c/1/model.pt", ""),
            (
                "d/model.toml",
                &format!("{TOML}[[outputs]]\nname = \"y\"\ndtype = \"FP32\"\nshape = [-1, 3]\nlabels = \"l\"\n"),
            ),
            ("d/l", "one\ntwo\n"),
            ("d/1/model.pt", ""),
        ]);
        let error = find(root.path(), &[]).unwrap_err().to_string();
        for part in ["a/model.toml", "b/model.toml", "--input", "gone.json", "y: 2 labels for 3 numbers"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn one_model_is_found_again_by_its_name_and_no_name_leads_elsewhere() {
        let root = repository(&[
            ("models/a/model.toml", TOML),
            ("models/a/1/model.pt", ""),
            ("models/broken/model.toml", "nonsense"),
            ("models/broken/1/model.pt", ""),
            ("models/empty/notes.txt", ""),
            ("secret/model.toml", TOML),
            ("secret/1/model.pt", ""),
        ]);
        let models = root.path().join("models");
        assert_eq!(find_one(&models, "a", &[]).unwrap()[0].version, "1", "whatever is wrong with another");
        for name in ["../secret", "..", ".", "", "a/1", "gone", &root.path().join("secret").to_string_lossy()] {
            assert!(find_one(&models, name, &[]).unwrap().is_empty(), "{name:?}");
        }
        assert!(matches!(find_one(&models, "broken", &[]).unwrap_err(), Error::Invalid(_)));
        assert!(matches!(find_one(&models, "empty", &[]).unwrap_err(), Error::NoVersion { .. }));
        assert_eq!(names(&models), ["a", "broken", "empty"]);
    }

    #[test]
    fn nothing_there_is_said_in_so_many_words() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(find(root.path(), &[]).unwrap_err(), Error::Empty { .. }));
        assert!(matches!(find(&root.path().join("gone"), &[]).unwrap_err(), Error::Missing { .. }));
    }
}
