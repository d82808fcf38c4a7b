//! What a model's file is, and what it says of itself, read before libtorch is touched.
//!
//! A TorchScript archive is a zip of one folder: `code/` and `constants.pkl` tell it from what torch.save and
//! torch.export write, and `extra/` holds whatever files somebody gave to torch.jit.save. A package of `AOTInductor` is
//! one, too, with machine code in `data/aotinductor/`.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zip::ZipArchive;

use super::package::{COMPILE, Package};
use crate::engine::Format;

/// An opened TorchScript archive, or package.
pub struct Archive {
    zip: ZipArchive<File>,
    /// The one folder that holds everything.
    folder: String,
    package: Option<Package>,
}

/// Why there is no archive to read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is something else; what, and what to do about it.
    #[error("{what}; hint: {hint}")]
    Foreign { what: String, hint: &'static str },
}

const SCRIPT: &str = "export the model with torch.jit.script or torch.jit.trace, then .save(…)";
/// What every refusal of a file asks for in the end.
pub const WHOLE: &str = "expected a TorchScript archive, whole, as torch.jit.save writes it";
/// The same of a package that the loader refuses: it unpacks what it opens.
pub const OPENABLE: &str =
    "expected a package that libtorch 2.11 compiled, and a /tmp that can be written to and executed from";
/// The folder of machine code that is called.
const CODE: &str = "data/aotinductor/model/";

fn foreign(what: impl Into<String>, hint: &'static str) -> Error {
    Error::Foreign { what: what.into(), hint }
}

impl Archive {
    /// Reads the directory of the archive at `path`, not its weights.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = Vec::new();
        (&mut file).take(HEAD).read_to_end(&mut head)?;
        if !head.starts_with(b"PK\x03\x04") {
            return Err(not_a_zip(&head, size));
        }
        let mut zip = ZipArchive::new(file)
            .map_err(|_| foreign("it is truncated or damaged: an archive without its directory at the end", WHOLE))?;
        let names: Vec<String> = zip.file_names().flatten().map(Cow::into_owned).collect();
        let folder = names.first().and_then(|name| name.split('/').next()).unwrap_or_default().to_owned();
        let holds = |name: &str| names.contains(&format!("{folder}/{name}"));
        if holds("constants.pkl") {
            return Ok(Self { zip, folder, package: None });
        }
        let code: Vec<&String> = names.iter().filter(|name| name.starts_with(&format!("{folder}/{CODE}"))).collect();
        if code.iter().any(|name| name.rsplit('.').next() == Some("so")) {
            let mut text = |ending: &str| {
                let name = code.iter().find(|name| name.ends_with(ending))?;
                entry(&mut zip, name).and_then(|bytes| String::from_utf8(bytes).ok())
            };
            let (wrapper, metadata) =
                (text("wrapper.cpp"), text("wrapper_metadata.json").or_else(|| text("_metadata.json")));
            let package = Package::read(wrapper.as_deref(), metadata.as_deref());
            return Ok(Self { zip, folder, package: Some(package) });
        }
        let is_exported = holds("archive_format") || names.iter().any(|name| name.ends_with("exported_program.json"));
        Err(if names.iter().any(|name| name.contains("/data/aotinductor/")) {
            foreign("it is a package (.pt2) without machine code for a model called model", COMPILE)
        } else if is_exported {
            foreign("it is an exported program (.pt2), as torch.export writes it, that nobody has compiled", COMPILE)
        } else if let Some(pickle) = entry(&mut zip, &format!("{folder}/data.pkl")) {
            match class(&pickle) {
                Some(class) => foreign(format!("it is a whole module ({class}) that torch.save wrote"), SCRIPT),
                None => {
                    foreign("it is a checkpoint (a state_dict) that torch.save wrote: weights without code", SCRIPT)
                }
            }
        } else {
            foreign("it is a zip archive of something else", WHOLE)
        })
    }

    /// What it is, whatever its name says.
    pub fn format(&self) -> Format {
        if self.package.is_some() { Format::Aoti } else { Format::Script }
    }

    /// What a package says of itself; `None` for a script.
    pub fn into_package(self) -> Option<Package> {
        self.package
    }

    /// The text of an extra file; `None` where there is none of this name, or it is no text.
    pub fn extra(&mut self, name: &str) -> Option<String> {
        let bytes = entry(&mut self.zip, &format!("{}/extra/{name}", self.folder))?;
        String::from_utf8(bytes).ok()
    }
}

/// The bytes of one entry, which is a small one.
fn entry(zip: &mut ZipArchive<File>, name: &str) -> Option<Vec<u8>> {
    const LARGEST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    zip.by_name(name).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What of a file is looked at to tell what it is.
const HEAD: u64 = 64;

fn not_a_zip(head: &[u8], size: u64) -> Error {
    let header = head.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
    match head {
        [] => foreign("it is empty", WHOLE),
        head if head.starts_with(b"version https://git-lfs") => {
            foreign("it is a Git LFS pointer, not the file itself", "fetch the file with git lfs pull")
        }
        [0x80, ..] => foreign("it is a pickle, as old versions of torch.save write it", SCRIPT),
        head if header < size && head.get(8) == Some(&b'{') => {
            foreign("it is a safetensors file: weights without code", SCRIPT)
        }
        // A protocol buffer whose first field is ONNX's ir_version, then its producer's name or its graph.
        [0x08, 1..=32, 0x12 | 0x3a, ..] => foreign("it is an ONNX model", SCRIPT),
        _ => foreign("it is no TorchScript archive", WHOLE),
    }
}

/// The class of the object that a pickle makes first, unless it is one of Python's own or of torch's: a whole module.
fn class(pickle: &[u8]) -> Option<String> {
    let rest = pickle.strip_prefix(b"\x80\x02c")?;
    let mut lines = rest.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let (module, name) = (lines.next()?, lines.next()?);
    (module != "collections").then(|| format!("{module}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Archive::open(file.path()).err().expect("it is no archive").to_string()
    }

    #[test]
    fn what_is_no_zip_is_told_by_its_first_bytes() {
        for (bytes, what) in [
            (&b""[..], "it is empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
            (b"\x80\x02\x8a\x0al\xfc", "a pickle"),
            (b"\x02\0\0\0\0\0\0\0{}\0\0", "a safetensors file"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
            (b"PK\x03\x04 and no end", "truncated or damaged"),
            (b"hello, world", "no TorchScript archive"),
        ] {
            assert!(said(bytes).contains(what), "{what} in {}", said(bytes));
        }
    }

    #[test]
    fn the_shipped_model_is_an_archive_without_extra_files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/1/model.pt");
        assert_eq!(Archive::open(&path).unwrap().extra("model.toml"), None);
    }

    #[test]
    fn a_class_of_somebodys_own_makes_a_whole_module() {
        assert_eq!(class(b"\x80\x02c__main__\nNet\n)\x81"), Some("__main__.Net".to_owned()));
        assert_eq!(class(b"\x80\x02ccollections\nOrderedDict\n)R"), None);
        assert_eq!(class(b"\x80\x02}"), None);
    }
}
