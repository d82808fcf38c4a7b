//! What is on disk: `MODELS/<name>/<version>/model.pt`, one model's own folder, a flat folder, or a single file. A package
//! is called `model.pt2`.
//!
//! `find` lists the models and their versions; `description` reads what is known of each.

mod description;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::golden::Golden;
use super::spec::{Port, Spec, Versions};
use crate::engine::Format;

const FILE: &str = "model.pt";
/// A version's files, of which it needs one; the first that is there serves, unless `model.toml` wants another format.
const FILES: [&str; 2] = [FILE, "model.pt2"];

/// A version that can be loaded: everything but its weights has been read.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub version: String,
    pub file: PathBuf,
    /// Without inputs where nothing describes the model.
    pub spec: Spec,
    /// Per output of the spec: its labels.
    pub labels: Vec<Option<Vec<String>>>,
    pub golden: Option<Golden>,
}

/// What the command line says of models.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The inputs of a model that nothing else describes.
    pub inputs: Vec<Port>,
    /// The name of the one model that there is, where it is not that of its folder or file.
    pub model_name: Option<String>,
}

/// Why there is nothing to load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} does not exist: name a folder that holds <name>/<version>/model.pt, or a .pt file")]
    Missing { path: PathBuf },
    #[error("{path} cannot be read ({source}): the server needs read access to it")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no model: expected <name>/<version>/model.pt below it, such as digits/1/model.pt{}", near(.path))]
    Empty { path: PathBuf },
    #[error("{path} holds no version of a model: expected model.pt in a numbered folder, such as 1/model.pt")]
    NoVersion { path: PathBuf },
    #[error("{one} and {other} are the same version: leave one of them, whose name has no zeros in front")]
    Twice { one: PathBuf, other: PathBuf },
    #[error("--model-name {name} names a single model, but {path} holds a folder for each: leave it out")]
    Named { name: String, path: PathBuf },
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// What somebody may have meant who named a folder with a model's file of another name.
fn near(path: &Path) -> String {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|ending| ending == "pt" || ending == "pt2")).collect();
    files.sort();
    files.first().map_or(String::new(), |file| {
        let called = if Format::named(file) == Format::Aoti { FILES[1] } else { FILE };
        format!("; to serve the {} in it, name that file, or call it {called}", name_of(file))
    })
}

/// Finds every model under `path` in the versions that it wants, by name and then by version, upwards.
pub fn find(path: &Path, given: &Given) -> Result<Vec<Found>, Error> {
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Unreadable { path: path.to_owned(), source },
    })?;
    let mut wrong = Vec::new();
    let homes = if metadata.is_file() { vec![single(path, given)] } else { homes(path, given, &mut wrong)? };
    if homes.is_empty() && wrong.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    let found: Vec<Found> = homes.iter().flat_map(|home| home.read(&given.inputs, &mut wrong)).collect();
    if wrong.is_empty() { Ok(found) } else { Err(Error::Invalid(wrong)) }
}

/// Finds one model again, as it is now; empty where there is none of this name. `name` is compared with what lies below
/// `path`, and never made part of a path.
pub fn find_one(path: &Path, name: &str, given: &Given) -> Result<Vec<Found>, Error> {
    if path.is_file() || alone(path)?.is_some() {
        return Ok(find(path, given)?.into_iter().filter(|found| found.name == name).collect());
    }
    let Some(dir) = folders(path)?.into_iter().find(|dir| name_of(dir) == name) else { return Ok(Vec::new()) };
    let home = home(dir.clone())?.ok_or(Error::NoVersion { path: dir })?;
    let mut wrong = Vec::new();
    let found = home.read(&given.inputs, &mut wrong);
    if wrong.is_empty() { Ok(found) } else { Err(Error::Invalid(wrong)) }
}

/// The names of the folders that hold a model, or may come to hold one. Empty where `path` is one model, or cannot be read.
pub fn names(path: &Path) -> Vec<String> {
    match alone(path) {
        Ok(None) => folders(path).unwrap_or_default().iter().map(|dir| name_of(dir)).collect(),
        _ => Vec::new(),
    }
}

/// Where the parts of a model lie.
struct Home {
    name: String,
    /// The folder of `model.toml` and what it names.
    dir: PathBuf,
    /// The versions that are there, upwards, each with its file; at least one.
    versions: Vec<(u64, PathBuf)>,
    asked: Asked,
}

/// What somebody asked for by its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The folder of models that it lies in, or its versions'.
    Folder,
    /// The one version that there is: no rule leaves it out.
    Version,
    /// The file itself: no format is better.
    File,
}

/// A file of its own: named after itself, or, inside a repository, after its folders.
fn single(file: &Path, given: &Given) -> Home {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let model_dir = dir.parent().filter(|parent| parent.join("model.toml").exists());
    let (name, version, dir) = match (model_dir, number(&dir)) {
        (Some(model_dir), Some(number)) => (name_of(model_dir), number, model_dir.to_owned()),
        _ => (stem(), 1, dir),
    };
    let name = given.model_name.clone().unwrap_or(name);
    Home { name, dir, versions: vec![(version, file)], asked: Asked::File }
}

/// Every model's folder under `root`, or `root` itself where it is one.
fn homes(root: &Path, given: &Given, wrong: &mut Vec<String>) -> Result<Vec<Home>, Error> {
    if let Some(mut home) = alone(root)? {
        home.name = given.model_name.clone().unwrap_or(home.name);
        return Ok(vec![home]);
    }
    if let Some(name) = given.model_name.clone() {
        return Err(Error::Named { name, path: root.to_owned() });
    }
    let mut homes = Vec::new();
    for dir in folders(root)? {
        match home(dir.clone()) {
            Ok(Some(home)) => homes.push(home),
            // A folder of something else.
            Ok(None) if !dir.join("model.toml").exists() => {}
            Ok(None) => wrong.push(Error::NoVersion { path: dir }.to_string()),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    Ok(homes)
}

/// The one model of a folder that holds `model.pt`, as `KServe` mounts it, or numbered versions of it.
fn alone(root: &Path) -> Result<Option<Home>, Error> {
    let mut root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    if root.file_name().is_none() {
        // It ends with `..`, which is no name.
        root = root.canonicalize().unwrap_or(root);
    }
    if let Some(file) = file_in(&root) {
        return Ok(Some(Home { name: name_of(&root), dir: root, versions: vec![(1, file)], asked: Asked::Version }));
    }
    home(root)
}

/// The model whose numbered folders lie in `dir`; `None` where there are none with a model.
fn home(dir: PathBuf) -> Result<Option<Home>, Error> {
    let versions = folders(&dir)?.into_iter().filter_map(|version| Some((number(&version)?, file_in(&version)?)));
    let mut versions: Vec<_> = versions.collect();
    versions.sort();
    if let Some([(_, one), (_, other)]) = versions.array_windows().find(|[(one, _), (other, _)]| one == other) {
        return Err(Error::Twice { one: one.clone(), other: other.clone() });
    }
    Ok((!versions.is_empty()).then(|| Home { name: name_of(&dir), dir, versions, asked: Asked::Folder }))
}

/// The file that serves, of those in `dir`.
fn file_in(dir: &Path) -> Option<PathBuf> {
    FILES.map(|file| dir.join(file)).into_iter().find(|file| file.is_file())
}

/// The folders in `dir`, in the order of their names.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Unreadable { path: dir.to_owned(), source };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Kubernetes mounts ConfigMaps and Secrets through links named `..data`; hidden folders are never models, nor is
        // what a file system keeps at its root for root alone.
        let name = name_of(&path);
        let hidden = name.starts_with('.') || name == "lost+found";
        if path.is_dir() && !hidden {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A version folder's number.
fn number(version: &Path) -> Option<u64> {
    let name = version.file_name()?.to_str()?;
    // Rust would read `+1`, too.
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
}

impl Home {
    /// Those of its versions that `rule` wants; what is missing is told, with `toml`, where the rule stands.
    fn wanted(&self, rule: &Versions, toml: &str, wrong: &mut Vec<String>) -> Vec<&(u64, PathBuf)> {
        if self.asked != Asked::Folder {
            return self.versions.iter().collect();
        }
        let Versions::Only { numbers, line } = rule else {
            let skipped = if *rule == Versions::All { 0 } else { self.versions.len() - 1 };
            return self.versions[skipped..].iter().collect();
        };
        for number in numbers.iter().filter(|number| !self.versions.iter().any(|(known, _)| known == *number)) {
            let there: Vec<_> = self.versions.iter().map(|(known, _)| known.to_string()).collect();
            let there = there.join(", ");
            wrong.push(format!("versions names {number}, but only {there} have a {FILE}, at line {line} in {toml}"));
        }
        self.versions.iter().filter(|(number, _)| numbers.contains(number)).collect()
    }
}

#[cfg(test)]
mod tests;
