//! What a model promises: inputs, outputs, and how it wants to be run. `file` reads it from a `model.toml`. Pure.

mod file;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use file::parse;

use crate::engine::{DeviceChoice, Format};
use crate::tensor::{DType, Tensor};

/// A validated model description.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which versions of the model are wanted.
    pub versions: Versions,
    /// Which of its files is wanted, where there is one of each format.
    pub format: Option<Format>,
    /// What a script computes its floating-point numbers in; `None` leaves it to the model.
    pub precision: Option<DType>,
    pub memory_format: MemoryFormat,
    /// Empty where nothing describes them: the model's own arguments take their place when it is loaded.
    pub inputs: Vec<Port>,
    /// Whether `inputs` are what the model's own file tells, since nothing describes them.
    pub is_learned: bool,
    /// Empty where the model's own output names are good enough.
    pub outputs: Vec<Output>,
    /// The largest batch, in rows.
    pub max_size: usize,
    /// How long a worker that has something waits for more.
    pub max_delay: Duration,
    /// Whether a row's outputs depend on that row alone; `None` leaves it to a probe.
    pub row_wise: Option<bool>,
    pub instances: usize,
    /// Where it computes, unless the server's `--device` says otherwise.
    pub device: DeviceChoice,
    /// Intra-op threads per instance; `None` shares the cores among the instances.
    pub threads: Option<usize>,
    /// Batch sizes, in rows, that are run before the model is ready.
    pub warm_up: Vec<usize>,
    pub golden: Option<Golden>,
}

/// A rule for the numbered folders of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// The highest.
    #[default]
    Latest,
    All,
    /// These, all of which must be there.
    Only {
        numbers: Vec<u64>,
        line: usize,
    },
}

/// How a script's images lie in memory while it computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryFormat {
    #[default]
    Contiguous,
    ChannelsLast,
}

/// A named tensor. `shape[0]` is the batch; `None` stands for any length.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    /// `None` takes whatever comes: then `shape` is empty, and any is right that has rows first.
    pub dtype: Option<DType>,
    pub shape: Vec<Option<usize>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub port: Port,
    /// A text file with one label a line.
    pub labels: Option<Reference>,
    pub scores: Scores,
}

/// A file that a `model.toml` names, beside it, and the line where it does.
#[derive(Clone, Debug)]
pub struct Reference {
    pub file: PathBuf,
    pub line: usize,
}

/// A comment above it moves the line, and changes nothing.
impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

/// How an output's numbers become scores between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    #[default]
    None,
    Softmax,
    Sigmoid,
}

/// Inputs and outputs that must match before the model is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    pub file: Reference,
    /// The largest accepted |got − expected| / max(1, |expected|).
    pub tolerance: f64,
}

impl Spec {
    /// Whether a version that runs by this description is as `found` wants it, beside which of its neighbours are wanted.
    /// Where nothing describes the inputs, they are learned when the model is loaded.
    pub fn is_as(&self, found: &Self) -> bool {
        let (inputs, is_learned) =
            if found.inputs.is_empty() { (&self.inputs, true) } else { (&found.inputs, found.is_learned) };
        *self == Self { versions: self.versions.clone(), inputs: inputs.clone(), is_learned, ..found.clone() }
    }
}

impl Port {
    /// An input of which nothing but the name is known.
    pub fn open(name: &str) -> Self {
        Self { name: name.to_owned(), dtype: None, shape: Vec::new() }
    }

    /// The number of rows of `tensor`, if it fits; one row may come without its batch dimension.
    pub fn rows(&self, tensor: &mut Tensor) -> Result<usize, String> {
        if self.dtype.is_some() && tensor.shape.len() + 1 == self.shape.len() {
            tensor.shape.insert(0, 1);
        }
        self.fits(tensor)?;
        match tensor.shape.first() {
            None => Err(format!("{}: a single value, expected an array of rows", self.name)),
            Some(0) => Err(format!("{}: shape {:?} has no rows, expected at least one", self.name, tensor.shape)),
            Some(rows) => Ok(*rows),
        }
    }

    /// Whether `tensor` has this type and shape.
    pub fn fits(&self, tensor: &Tensor) -> Result<(), String> {
        let Some(dtype) = self.dtype else { return Ok(()) };
        if tensor.dtype != dtype {
            return Err(format!("{}: dtype {}, expected {dtype}", self.name, tensor.dtype));
        }
        let fits = tensor.shape.len() == self.shape.len()
            && self.shape.iter().zip(&tensor.shape).all(|(wanted, got)| wanted.is_none_or(|wanted| wanted == *got));
        if fits {
            return Ok(());
        }
        let (got, shape) = (&tensor.shape, self.shape_text());
        let one_row = match shape.split_once(", ") {
            Some(("[-1", row)) => format!(" (rows first) or [{row} for one row"),
            None if shape == "[-1]" && dtype == DType::Bytes => " (rows first) or a text for one row".to_owned(),
            None if shape == "[-1]" => " (rows first) or a number for one row".to_owned(),
            _ => String::new(),
        };
        Err(format!("{}: shape {got:?}, expected {shape}{one_row}", self.name))
    }

    /// Elements in one row; `None` where the shape leaves a length open.
    pub fn row_elements(&self) -> Option<usize> {
        self.shape.get(1..)?.iter().try_fold(1_usize, |elements, length| elements.checked_mul((*length)?))
    }

    /// The shape as `model.toml` writes it, `[-1, 8, 8]`; that of a port which takes whatever comes is `any`.
    pub fn shape_text(&self) -> String {
        if self.dtype.is_none() { "any".to_owned() } else { written(&self.shape) }
    }

    /// The shape of one row, in the same way: `[8, 8]`.
    pub fn row_text(&self) -> String {
        if self.dtype.is_none() { "any".to_owned() } else { written(self.shape.get(1..).unwrap_or(&[])) }
    }
}

fn written(shape: &[Option<usize>]) -> String {
    let lengths: Vec<_> =
        shape.iter().map(|length| length.map_or("-1".to_owned(), |length| length.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}

/// The names of `ports`, as an error lists them.
pub fn names<'a>(ports: impl IntoIterator<Item = &'a Port>) -> String {
    ports.into_iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The largest batch of a model that names none.
const DEFAULT_MAX_SIZE: usize = 32;
/// The largest row, in elements: many times what a request may carry.
const MAX_ELEMENTS: usize = 1 << 30;

/// What of a port is wrong.
#[derive(Clone, Copy)]
enum Part {
    DType,
    Shape,
}

/// A port as somebody wrote it; `wrong` hears what cannot be.
fn port(name: &str, dtype: &str, shape: &[i64], wrong: &mut dyn FnMut(Part, String)) -> Port {
    let known = DType::from_name(dtype);
    if known.is_none() {
        wrong(
            Part::DType,
            format!(
                "{name}: dtype = {dtype:?}: expected BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64 or BYTES"
            ),
        );
    }
    let lengths = shape
        .iter()
        .map(|length| match length {
            -1 => None,
            1.. => usize::try_from(*length).ok(),
            _ => {
                wrong(Part::Shape, format!("{name}: shape = {shape:?}: {length} is neither -1 nor a positive length"));
                None
            }
        })
        .collect();
    let port = Port { name: name.to_owned(), dtype: Some(known.unwrap_or(DType::Fp32)), shape: lengths };
    if known == Some(DType::Bytes) && !(1..=2).contains(&shape.len()) {
        wrong(Part::Shape, format!("{name}: shape = {shape:?}: expected [-1] or [-1, n], a text or n of them a row"));
    }
    let closed = port.shape.len() > 1 && port.shape.iter().skip(1).all(Option::is_some);
    if closed && port.row_elements().is_none_or(|elements| elements > MAX_ELEMENTS) {
        wrong(Part::Shape, format!("{name}: shape = {shape:?}: a row has more than {MAX_ELEMENTS} elements"));
    }
    port
}

/// The same, of rows.
fn port_of_rows(name: &str, dtype: &str, shape: &[i64], wrong: &mut dyn FnMut(Part, String)) -> Port {
    if shape.first() != Some(&-1) {
        wrong(Part::Shape, format!("{name}: shape = {shape:?}: expected -1, the batch, as its first length"));
    }
    port(name, dtype, shape, wrong)
}

/// Reads `--input NAME:DTYPE[-1,8,8]`.
pub fn parse_input(text: &str) -> Result<Port, String> {
    let expected = || format!("{text:?}: expected NAME:DTYPE[-1,…], such as image:FP32[-1,8,8]");
    let (name, rest) = text.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let (dtype, shape) = rest.strip_suffix(']').and_then(|rest| rest.split_once('[')).ok_or_else(expected)?;
    let shape: Vec<i64> =
        shape.split(',').map(|length| length.trim().parse().map_err(|_| expected())).collect::<Result<_, _>>()?;
    let mut wrong = Vec::new();
    let port = port_of_rows(name, dtype, &shape, &mut |_, reason| wrong.push(reason));
    if wrong.is_empty() { Ok(port) } else { Err(wrong.join("; ")) }
}

/// The spec of a model that has no `model.toml`: its inputs, as far as they are known, and defaults for the rest.
pub fn from_inputs(inputs: Vec<Port>) -> Spec {
    Spec {
        versions: Versions::Latest,
        format: None,
        precision: None,
        memory_format: MemoryFormat::Contiguous,
        inputs,
        is_learned: false,
        outputs: Vec::new(),
        max_size: DEFAULT_MAX_SIZE,
        max_delay: Duration::ZERO,
        row_wise: None,
        instances: 1,
        device: DeviceChoice::Auto,
        threads: None,
        warm_up: vec![1, 2],
        golden: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_counts_rows_and_says_what_does_not_fit() {
        let port = parse_input("image:FP32[-1,2,2]").unwrap();
        let tensor = |shape: &[usize]| Tensor { dtype: DType::Fp32, shape: shape.to_vec(), bytes: bytes::Bytes::new() };
        assert_eq!(port.rows(&mut tensor(&[3, 2, 2])), Ok(3));
        let mut one = tensor(&[2, 2]);
        assert_eq!((port.rows(&mut one), one.shape), (Ok(1), vec![1, 2, 2]));
        let error = port.rows(&mut tensor(&[3, 2, 4])).unwrap_err();
        assert_eq!(error, "image: shape [3, 2, 4], expected [-1, 2, 2] (rows first) or [2, 2] for one row");
        assert!(port.rows(&mut tensor(&[0, 2, 2])).unwrap_err().contains("no rows"));
    }

    #[test]
    fn an_open_port_takes_what_has_rows() {
        let port = Port::open("x");
        let tensor = |shape: &[usize]| Tensor { dtype: DType::Int8, shape: shape.to_vec(), bytes: bytes::Bytes::new() };
        assert_eq!((port.rows(&mut tensor(&[3])), port.rows(&mut tensor(&[2, 2]))), (Ok(3), Ok(2)));
        assert_eq!(port.rows(&mut tensor(&[])).unwrap_err(), "x: a single value, expected an array of rows");
        assert_eq!((port.row_elements(), port.shape_text().as_str()), (None, "any"));
    }

    #[test]
    fn an_input_flag_is_read_or_refused_with_an_example() {
        assert_eq!(parse_input("x:INT64[-1]").unwrap().shape, [None]);
        assert_eq!(parse_input("x:BYTES[-1,2]").unwrap().shape, [None, Some(2)]);
        let error = parse_input("x:BYTES[-1,2,3]").unwrap_err();
        assert_eq!(error, "x: shape = [-1, 2, 3]: expected [-1] or [-1, n], a text or n of them a row");
        for text in ["x", "x:FP32", ":FP32[-1]", "x:FP32[a]", "x:FP32[]"] {
            assert!(parse_input(text).unwrap_err().contains("image:FP32[-1,8,8]"), "{text}");
        }
    }
}
