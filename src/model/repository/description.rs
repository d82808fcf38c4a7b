//! What is known of a model without its weights: its `model.toml`, beside its versions or inside the archive, the files
//! that it names, or the inputs of the command line.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Asked, FILES, Found, Home};
use crate::engine::Format;
use crate::model::archive::Archive;
use crate::model::golden;
use crate::model::spec::{self, Port, Reference, Spec};

const TOML: &str = "model.toml";

/// A place that holds a `model.toml` and what it names.
enum Place<'a> {
    Folder(&'a Path),
    /// The extra files of an archive, and its path.
    Archive(Archive, &'a Path),
}

impl Place<'_> {
    fn read(&mut self, file: &Path) -> Result<String, String> {
        match self {
            Self::Folder(dir) => std::fs::read_to_string(dir.join(file)).map_err(|error| error.to_string()),
            Self::Archive(archive, _) => archive
                .extra(&file.to_string_lossy())
                .ok_or_else(|| "it is no text among the extra files of the archive".to_owned()),
        }
    }

    fn shown(&self, file: &Path) -> String {
        match self {
            Self::Folder(dir) => dir.join(file).display().to_string(),
            Self::Archive(_, path) => format!("{} inside {}", file.display(), path.display()),
        }
    }
}

impl Home {
    /// Reads everything but the weights of the versions that are wanted; what is wrong goes to `wrong`, with its file and
    /// line.
    pub(super) fn read(&self, inputs: &[Port], wrong: &mut Vec<String>) -> Vec<Found> {
        let toml = self.dir.join(TOML);
        match std::fs::read_to_string(&toml) {
            Ok(text) => self.read_folder(&text, wrong),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                wrong.push(format!("{} cannot be read: {error}", toml.display()));
                Vec::new()
            }
            Err(_) => self.read_archives(inputs, wrong),
        }
    }

    /// One description for every version.
    fn read_folder(&self, text: &str, wrong: &mut Vec<String>) -> Vec<Found> {
        let mut place = Place::Folder(&self.dir);
        let Some((version, file)) = self.versions.last() else { return Vec::new() };
        let Some(found) = self.describe(text, &mut place, (*version, file), wrong) else { return Vec::new() };
        let wanted = self.wanted(&found.spec.versions, &place.shown(TOML.as_ref()), wrong);
        let of = |(version, file): &(u64, PathBuf)| Found {
            version: version.to_string(),
            file: self.file_of(file, found.spec.format),
            ..found.clone()
        };
        wanted.into_iter().map(of).collect()
    }

    /// The file of that format beside `file`, where there is one; a file that somebody asked for stays.
    fn file_of(&self, file: &Path, format: Option<Format>) -> PathBuf {
        let named = FILES.iter().filter(|_| self.asked != Asked::File).map(|name| file.with_file_name(name));
        let mut wanted = named.filter(|file| format == Some(Format::named(file)) && file.is_file());
        wanted.next().unwrap_or_else(|| file.to_owned())
    }

    /// Each version describes itself, or nobody does; the highest says which ones are wanted.
    fn read_archives(&self, inputs: &[Port], wrong: &mut Vec<String>) -> Vec<Found> {
        let mut known = HashMap::new();
        let mut read = |(version, file): &(u64, PathBuf), wrong: &mut Vec<String>| {
            let found = known.entry(*version).or_insert_with(|| self.read_archive((*version, file), inputs, wrong));
            found.clone()
        };
        let Some(highest) = self.versions.last() else { return Vec::new() };
        let Some(found) = read(highest, wrong) else { return Vec::new() };
        let toml = format!("{TOML} inside {}", highest.1.display());
        let wanted = self.wanted(&found.spec.versions, &toml, wrong);
        wanted.into_iter().filter_map(|version| read(version, wrong)).collect()
    }

    fn read_archive(&self, (version, file): (u64, &Path), inputs: &[Port], wrong: &mut Vec<String>) -> Option<Found> {
        // A file that is no archive is refused when it is loaded, beside others that can be.
        if let Ok(mut archive) = Archive::open(file)
            && let Some(text) = archive.extra(TOML)
        {
            return self.describe(&text, &mut Place::Archive(archive, file), (version, file), wrong);
        }
        let spec = spec::from_inputs(inputs.to_vec());
        Some(Found {
            name: self.name.clone(),
            version: version.to_string(),
            file: file.to_owned(),
            spec,
            labels: Vec::new(),
            golden: None,
        })
    }

    fn describe(
        &self,
        text: &str,
        place: &mut Place<'_>,
        (version, file): (u64, &Path),
        wrong: &mut Vec<String>,
    ) -> Option<Found> {
        let toml = place.shown(TOML.as_ref());
        let spec = spec::parse(text);
        let spec =
            spec.map_err(|reasons| wrong.extend(reasons.iter().map(|reason| format!("{reason} in {toml}")))).ok()?;
        let mut reader = Reader { place, toml: &toml, wrong };
        let labels = reader.labels(&spec);
        let golden = spec.golden.as_ref().and_then(|golden| {
            let text = reader.read(&golden.file)?;
            golden::parse(&text, &spec).map_err(|reason| reader.note(&golden.file, &reason)).ok()
        });
        Some(Found {
            name: self.name.clone(),
            version: version.to_string(),
            file: file.to_owned(),
            spec,
            labels,
            golden,
        })
    }
}

/// Reads what a `model.toml` names.
struct Reader<'a, 'b> {
    place: &'a mut Place<'b>,
    toml: &'a str,
    wrong: &'a mut Vec<String>,
}

impl Reader<'_, '_> {
    fn note(&mut self, named: &Reference, reason: &str) {
        let file = self.place.shown(&named.file);
        self.wrong.push(format!("{file}: {reason}; it is named at line {} in {}", named.line, self.toml));
    }

    fn read(&mut self, named: &Reference) -> Option<String> {
        self.place.read(&named.file).map_err(|error| self.note(named, &format!("cannot be read ({error})"))).ok()
    }

    /// Per output: its labels, one for each number of a row.
    fn labels(&mut self, spec: &Spec) -> Vec<Option<Vec<String>>> {
        let mut all = Vec::new();
        for output in &spec.outputs {
            let named = output.labels.as_ref();
            let text = named.and_then(|named| self.read(named));
            let labels = text.map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
            if let (Some(named), Some(labels), Some(classes)) = (named, &labels, output.port.row_elements())
                && labels.len() != classes
            {
                let name = &output.port.name;
                self.note(named, &format!("{name}: {} labels for {classes} numbers a row", labels.len()));
            }
            all.push(labels);
        }
        all
    }
}
