//! Folders of models: odd ones, and copies of digits to be changed under a server's feet, each version with weights of its
//! own, so that an answer's numbers tell which version computed it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, Answer, JSON, SAMPLE};
use crate::support::{ANY_PORT, ROOT};

/// What each version adds to its first logit.
const STEP: f64 = 1000.0;

/// The shipped model as a package; `tests/models/packages.py` makes it.
pub(crate) const PACKAGE: &str = "tests/models/aoti/digits.pt2";

/// Models that return their input `INPUT0`, rows of any length, as `OUTPUT0`: one for each type, by its name.
pub(crate) const IDENTITIES: [&str; 14] = [
    "identity_bool",
    "identity_uint8",
    "identity_uint16",
    "identity_uint32",
    "identity_uint64",
    "identity_int8",
    "identity_int16",
    "identity_int32",
    "identity_int64",
    "identity_fp16",
    "identity_bf16",
    "identity_fp32",
    "identity_fp64",
    "identity_bytes",
];

/// Three inputs a row, returned beside their sum, by three instances in batches of at most 32.
pub(crate) const ROW_SUM: &str = r#"
[[inputs]]
name = "x"
dtype = "FP32"
shape = [-1, 3]
[[outputs]]
name = "rows"
dtype = "FP32"
shape = [-1, 3]
[[outputs]]
name = "sums"
dtype = "FP32"
shape = [-1]
[batching]
max_size = 32
[instances]
count = 3
threads = 1
"#;

/// A folder of models.
pub(crate) struct Repository(TempDir);

impl Repository {
    pub(crate) fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With one model in its version 1.
    pub(crate) fn of(name: &str) -> Self {
        let repository = Self::empty();
        repository.describe(name, &without_golden());
        repository.add(name, 1);
        repository
    }

    /// With models as people really write them, of those that `tests/models/make.py` knows.
    pub(crate) fn odd(names: &[&str]) -> Self {
        let repository = Self::empty();
        let mut make = Command::new("python3");
        make.args(["-B", "tests/models/make.py", repository.path()]).args(names).current_dir(ROOT);
        assert!(make.status().is_ok_and(|status| status.success()), "make.py writes {names:?}");
        repository
    }

    /// The shipped model as a package, under its own description.
    pub(crate) fn packaged() -> Self {
        let repository = Self::empty();
        repository.describe("digits", &described());
        repository.put_package("digits", 1);
        repository
    }

    /// Puts the shipped model's package there in one step.
    pub(crate) fn put_package(&self, name: &str, version: u32) {
        let folder = self.folder(name).join(version.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(format!("{ROOT}/{PACKAGE}"), folder.join("coming")).unwrap();
        fs::rename(folder.join("coming"), folder.join("model.pt2")).unwrap();
    }

    /// Puts a copy of a model of `models/` there.
    pub(crate) fn shipped(&self, name: &str) {
        let from = Path::new(ROOT).join("models").join(name);
        let copied = Command::new("cp").arg("-r").arg(from).arg(self.folder(name)).status();
        assert!(copied.is_ok_and(|status| status.success()), "{name} can be copied");
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The arguments of a server whose models may be changed, by the probe listener.
    pub(crate) fn explicit<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&[self.path(), "--model-control", "explicit", "--probe-listen", ANY_PORT], more].concat()
    }

    /// Writes the model's description.
    pub(crate) fn describe(&self, name: &str, toml: &str) {
        let folder = self.folder(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.toml"), toml).unwrap();
        for file in ["labels.txt", "golden.json"] {
            fs::copy(format!("{ROOT}/models/digits/{file}"), folder.join(file)).unwrap();
        }
    }

    /// Puts a version there whose outputs nobody else has.
    pub(crate) fn add(&self, name: &str, version: u32) {
        self.put(name, version, &weights(version));
    }

    /// Puts `file` there in one step.
    pub(crate) fn put(&self, name: &str, version: u32, file: &[u8]) {
        let folder = self.folder(name).join(version.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("coming"), file).unwrap();
        fs::rename(folder.join("coming"), folder.join("model.pt")).unwrap();
    }
}

/// The shipped model in every form that there is, all of which compute the same.
pub(crate) fn forms() -> [Repository; 2] {
    let script = Repository::empty();
    script.shipped("digits");
    [script, Repository::packaged()]
}

/// What `sha256sum` says of the shipped model, as torchpod writes it.
pub(crate) fn digest_of_digits() -> String {
    digest_of("models/digits/1/model.pt")
}

/// The same of any file.
pub(crate) fn digest_of(path: &str) -> String {
    let output = Command::new("sha256sum").arg(format!("{ROOT}/{path}")).output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap())
}

/// digits' own description.
pub(crate) fn described() -> String {
    fs::read_to_string(format!("{ROOT}/models/digits/model.toml")).unwrap()
}

/// The same, for weights that do not compute the golden outputs.
pub(crate) fn without_golden() -> String {
    described().split("[golden]").next().unwrap().to_owned()
}

/// digits' weights, whose first logit is `version` steps larger.
pub(crate) fn weights(version: u32) -> Vec<u8> {
    let mut archive = fs::read(format!("{ROOT}/models/digits/1/model.pt")).unwrap();
    // The biases of the last layer: ten numbers.
    change(&mut archive, "archive/constants/7", |biases| {
        assert_eq!(biases.len(), 40);
        let bias = f32::from_le_bytes(biases[..4].try_into().unwrap());
        let changed = f64::from(bias) + f64::from(version) * STEP;
        #[allow(clippy::cast_possible_truncation)] // A step is a million times as large as what is lost.
        biases[..4].copy_from_slice(&(changed as f32).to_le_bytes());
    });
    archive
}

/// Changes an entry of a ZIP archive that is stored as it is, and the three checksums of it.
fn change(archive: &mut [u8], name: &str, change: impl FnOnce(&mut [u8])) {
    let entry = central_entry(archive, name);
    let (size, header) = (number(archive, entry + 24), number(archive, entry + 42));
    let start = header + 30 + short(archive, header + 26) + short(archive, header + 28);
    let data = start..start + size;
    change(&mut archive[data.clone()]);
    let checksum = crc32(&archive[data.clone()]).to_le_bytes();
    archive[entry + 16..entry + 20].copy_from_slice(&checksum);
    // The local header leaves the checksum to a descriptor behind the data.
    assert_eq!(&archive[data.end..data.end + 4], b"PK\x07\x08");
    archive[data.end + 4..data.end + 8].copy_from_slice(&checksum);
}

fn central_entry(archive: &[u8], name: &str) -> usize {
    let is_it = |place: &usize| {
        archive[*place..].starts_with(b"PK\x01\x02")
            && archive[place + 46..].starts_with(name.as_bytes())
            && short(archive, place + 28) == name.len()
    };
    (0..archive.len() - 46).find(is_it).expect("the entry is there")
}

fn number(bytes: &[u8], place: usize) -> usize {
    u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) as usize
}

fn short(bytes: &[u8], place: usize) -> usize {
    u16::from_le_bytes(bytes[place..place + 2].try_into().unwrap()).into()
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// The version whose weights computed the answer's first row.
pub(crate) fn computed_by(answer: &Answer) -> u32 {
    let logit = answer.json()["outputs"]["logits"][0][0].as_f64().unwrap();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A small number.
    let version = (logit / STEP).round() as u32;
    version
}

/// Asks a model by name for the sample.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Answer {
    post(address, path, SAMPLE)
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Answer {
    client::ask(address, &posting(path, &[], body)).unwrap_or_else(|error| panic!("POST {path}: {error}"))
}

pub(crate) fn posting(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let (content_type, length) = (format!("Content-Type: {JSON}"), format!("Content-Length: {}", body.len()));
    let lines = [&[content_type.as_str(), length.as_str()], headers].concat();
    client::request("POST", path, &lines, body)
}

/// Orders a model by the probe listener.
pub(crate) fn order(address: Option<SocketAddr>, what: &str, model: &str) -> Answer {
    post(address.expect("--probe-listen was given"), &format!("/v2/repository/models/{model}/{what}"), b"")
}

/// The index, by name and version: the state and the reason.
pub(crate) fn index(address: SocketAddr) -> Vec<(String, String, String)> {
    let answer = post(address, "/v2/repository/index", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |line: &Value| {
        (text(&line["name"]) + "@" + &text(&line["version"]), text(&line["state"]), text(&line["reason"]))
    };
    answer.json().as_array().unwrap().iter().map(line).collect()
}
