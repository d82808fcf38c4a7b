//! Where manifests come from: files, folders, standard input.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use walkdir::WalkDir;

/// A file's text, under the name that findings give it.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub text: String,
    /// A folder was asked for and this lay in it, so that it may be something else than a manifest.
    pub found: bool,
}

/// What cannot be read. The caller ends with 2.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("cannot read {name}: {error}")]
    File { name: String, error: io::Error },
    #[error("no .yaml, .yml or .json file in {0}")]
    Empty(String),
    /// So that a pipe whose first half failed does not pass.
    #[error("nothing on standard input")]
    Nothing,
}

/// Everything below the paths, folders in the order of their files' names; `-` is standard input. A file that is named
/// twice is read once.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Unreadable> {
    let mut sources = Vec::new();
    let mut seen = HashSet::new();
    // What cannot be found is told of by whoever opens it.
    let mut fresh = |path: &Path| path.canonicalize().map_or(true, |path| seen.insert(path));
    for path in paths {
        let name = path.display().to_string();
        if name == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|error| Unreadable::File { name, error })?;
            if text.trim().is_empty() {
                return Err(Unreadable::Nothing);
            }
            sources.push(Source { name: "(standard input)".to_owned(), text, found: false });
        } else if path.is_dir() {
            let files = manifests(path)?;
            if files.is_empty() {
                return Err(Unreadable::Empty(name));
            }
            for file in files.iter().filter(|file| fresh(file)) {
                sources.push(file_source(file, true)?);
            }
        } else if fresh(path) {
            sources.push(file_source(path, false)?);
        }
    }
    Ok(sources)
}

fn file_source(path: &Path, found: bool) -> Result<Source, Unreadable> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Source { name, text, found }),
        Err(error) => Err(Unreadable::File { name, error }),
    }
}

fn manifests(folder: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let hidden =
        |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut paths = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(|entry| !hidden(entry)) {
        let entry =
            entry.map_err(|error| Unreadable::File { name: folder.display().to_string(), error: error.into() })?;
        let extension = entry.path().extension();
        let is_manifest =
            extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        // By its target, since a link to a file is read and no folder is walked twice.
        if is_manifest && entry.path().is_file() {
            paths.push(entry.into_path());
        }
    }
    Ok(paths)
}
