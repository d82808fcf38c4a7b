//! The models that are measured, and what clients send to them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use torchpod::model::spec::{self, MemoryFormat};

use crate::HERE;

pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// The shape of one row of its only input.
    pub(crate) row: &'static [usize],
    values: Values,
    /// A forward takes milliseconds at least: it, not the server, is what a request costs.
    pub(crate) heavy: bool,
    /// As many rows as may wait at once in a benchmark that is to end.
    pub(crate) most_rows: usize,
}

/// What the input holds, a number an element.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// The first pixels of the digits' golden file: FP32, whole numbers from 0 to 16.
    Golden,
    /// FP32 between -1 and 1.
    Noise,
    /// INT64, of so many words.
    Tokens(u32),
}

const IMAGE: &[usize] = &[3, 224, 224];

pub(crate) static MODELS: [Model; 5] = [
    Model { name: "mlp", row: &[64], values: Values::Noise, heavy: false, most_rows: usize::MAX },
    Model { name: "digits", row: &[8, 8], values: Values::Golden, heavy: false, most_rows: usize::MAX },
    Model { name: "resnet18", row: IMAGE, values: Values::Noise, heavy: true, most_rows: 256 },
    Model { name: "resnet50", row: IMAGE, values: Values::Noise, heavy: true, most_rows: 32 },
    Model { name: "bert", row: &[128], values: Values::Tokens(30522), heavy: true, most_rows: 32 },
];

pub(crate) fn named(name: &str) -> Result<&'static Model> {
    let names = MODELS.each_ref().map(|model| model.name).join(", ");
    MODELS.iter().find(|model| model.name == name).with_context(|| format!("no model {name}; there are {names}"))
}

/// How a request says its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Json,
    /// The elements' bytes, little-endian.
    Binary,
}

impl Body {
    pub(crate) const ALL: [Self; 2] = [Self::Json, Self::Binary];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Binary => "application/octet-stream",
        }
    }
}

impl Model {
    /// The folder that torchpod serves; written first, where the benchmark makes it.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        if self.values == Values::Golden {
            return Ok(Path::new(HERE).join("models").join(self.name));
        }
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
        let script = Path::new(HERE).join("benches/models/make.py");
        let written = Command::new("python3").arg("-B").arg(script).arg(&made).arg(self.name).status();
        ensure!(written.context("python3 cannot be started")?.success(), "make.py failed");
        Ok(made.join(self.name))
    }

    /// A folder under `scratch` like [`Self::folder`], whose description has other lines in the place of some.
    pub(crate) fn changed(&self, scratch: &Path, lines: &[(&str, String)]) -> Result<PathBuf> {
        let (from, to) = (self.folder()?, scratch.join(self.name));
        std::fs::create_dir_all(to.join("1"))?;
        std::fs::copy(from.join("1/model.pt"), to.join("1/model.pt"))?;
        let mut toml = std::fs::read_to_string(from.join("model.toml"))?;
        for (start, line) in lines {
            let found = toml.lines().find(|line| line.starts_with(start)).map(str::to_owned);
            let found = found.with_context(|| format!("{}'s model.toml has no line {start} …", self.name))?;
            toml = toml.replacen(&found, line, 1);
        }
        std::fs::write(to.join("model.toml"), toml)?;
        Ok(to)
    }

    pub(crate) fn file(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join("1/model.pt"))
    }

    /// Whether its description wants images' channels last.
    pub(crate) fn channels_last(&self) -> Result<bool> {
        let toml = std::fs::read_to_string(self.folder()?.join("model.toml"))?;
        let spec = spec::parse(&toml).map_err(|wrong| anyhow!("{}'s model.toml: {}", self.name, wrong.join("; ")))?;
        Ok(spec.memory_format == MemoryFormat::ChannelsLast)
    }

    pub(crate) fn dtype(&self) -> torchpod::tensor::DType {
        match self.values {
            Values::Tokens(_) => torchpod::tensor::DType::Int64,
            Values::Golden | Values::Noise => torchpod::tensor::DType::Fp32,
        }
    }

    /// A request of the first `rows` rows.
    pub(crate) fn request(&self, rows: usize, body: Body) -> Result<Vec<u8>> {
        match body {
            Body::Json => self.json(rows),
            Body::Binary => self.bytes(rows),
        }
    }

    /// No row is like another: a forward of equal numbers may be quicker than one of what clients send.
    fn bytes(&self, rows: usize) -> Result<Vec<u8>> {
        let elements = rows * self.row.iter().product::<usize>();
        Ok(match self.values {
            Values::Golden => golden(rows)?.iter().flat_map(|pixel| pixel.to_le_bytes()).collect(),
            Values::Noise => noise(elements).flat_map(f32::to_le_bytes).collect(),
            Values::Tokens(words) => tokens(words, elements).flat_map(i64::to_le_bytes).collect(),
        })
    }

    /// Floats in the fewest digits that give them back, about nine.
    fn json(&self, rows: usize) -> Result<Vec<u8>> {
        let elements = rows * self.row.iter().product::<usize>();
        Ok(match self.values {
            Values::Golden => serde_json::to_vec(&json!({ "inputs": images(rows)? }))?,
            Values::Noise => nested(noise(elements).map(|number| number.to_string()), self.row).into_bytes(),
            Values::Tokens(words) => {
                nested(tokens(words, elements).map(|word| word.to_string()), self.row).into_bytes()
            }
        })
    }
}

/// `{"inputs": …}` of rows that are nested as `row` says.
fn nested(numbers: impl Iterator<Item = String>, row: &[usize]) -> String {
    let mut parts: Vec<String> = numbers.collect();
    for length in row.iter().rev() {
        parts = parts.chunks(*length).map(|chunk| format!("[{}]", chunk.join(","))).collect();
    }
    format!("{{\"inputs\":[{}]}}", parts.join(","))
}

fn noise(elements: usize) -> impl Iterator<Item = f32> {
    let mut random = fastrand::Rng::with_seed(18);
    (0..elements).map(move |_| random.f32() * 2.0 - 1.0)
}

fn tokens(words: u32, elements: usize) -> impl Iterator<Item = i64> {
    let mut random = fastrand::Rng::with_seed(18);
    (0..elements).map(move |_| i64::from(random.u32(0..words)))
}

fn golden(rows: usize) -> Result<Vec<f32>> {
    let images: Vec<[[f32; 8]; 8]> = serde_json::from_value(images(rows)?)?;
    Ok(images.into_iter().flatten().flatten().collect())
}

fn images(rows: usize) -> Result<Value> {
    let file = Path::new(HERE).join("models/digits/golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let images = golden["inputs"]["image"].as_array().context("golden.json has no images")?;
    Ok(images.get(..rows).context("golden.json has too few images")?.into())
}
