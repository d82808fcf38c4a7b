//! What a model promises: inputs, outputs, and how it wants to be run. `model.toml` in, a validated `Spec` out.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::engine::DeviceChoice;
use crate::tensor::{DType, Tensor};

/// A validated model description.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub inputs: Vec<Port>,
    /// Empty where the model's own output names are good enough.
    pub outputs: Vec<Output>,
    /// The largest batch, in rows.
    pub max_size: usize,
    /// How long a worker that has something waits for more.
    pub max_delay: Duration,
    pub instances: usize,
    /// Where it computes, unless the server's `--device` says otherwise.
    pub device: DeviceChoice,
    /// Intra-op threads per instance; `None` shares the cores among the instances.
    pub threads: Option<usize>,
    /// Batch sizes, in rows, that are run before the model is ready.
    pub warm_up: Vec<usize>,
    pub golden: Option<Golden>,
}

/// A named tensor. `shape[0]` is the batch; `None` stands for any length.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<Option<usize>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub port: Port,
    /// A text file with one label a line, beside `model.toml`.
    pub labels: Option<PathBuf>,
    pub scores: Scores,
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
    pub file: PathBuf,
    /// The largest accepted |got − expected| / max(1, |expected|).
    pub tolerance: f64,
}

impl Port {
    /// The number of rows of `tensor`, if it fits; one row may come without its batch dimension.
    pub fn rows(&self, tensor: &mut Tensor) -> Result<usize, String> {
        if tensor.dtype != self.dtype {
            return Err(format!("{}: dtype {}, expected {}", self.name, tensor.dtype, self.dtype));
        }
        if tensor.shape.len() + 1 == self.shape.len() {
            tensor.shape.insert(0, 1);
        }
        let fits = tensor.shape.len() == self.shape.len()
            && self.shape.iter().zip(&tensor.shape).all(|(wanted, got)| wanted.is_none_or(|wanted| wanted == *got));
        if !fits {
            let one = &self.shape_text()[1..];
            let row = one.split_once(", ").map_or("a number".to_owned(), |(_, row)| format!("[{row}"));
            return Err(format!(
                "{}: shape {:?}, expected {} (rows first) or {row} for one row",
                self.name,
                tensor.shape,
                self.shape_text(),
            ));
        }
        match tensor.rows() {
            0 => Err(format!("{}: shape {:?} has no rows, expected at least one", self.name, tensor.shape)),
            rows => Ok(rows),
        }
    }

    /// Elements in one row; `None` where the shape leaves a length open.
    pub fn row_elements(&self) -> Option<usize> {
        self.shape[1..].iter().try_fold(1_usize, |elements, length| elements.checked_mul((*length)?))
    }

    /// The shape as `model.toml` writes it, `[-1, 8, 8]`.
    pub fn shape_text(&self) -> String {
        let lengths: Vec<_> =
            self.shape.iter().map(|length| length.map_or("-1".to_owned(), |length| length.to_string())).collect();
        format!("[{}]", lengths.join(", "))
    }
}

/// The names of `ports`, as an error lists them.
pub fn names<'a>(ports: impl IntoIterator<Item = &'a Port>) -> String {
    ports.into_iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The most rows that a batch may have: far beyond what pays.
const MAX_ROWS: usize = 1 << 20;
/// The longest that a batch may wait: clients are people, too.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// The largest row, in elements: many times what a request may carry.
const MAX_ELEMENTS: usize = 1 << 30;

/// `model.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    inputs: Vec<RawPort>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
    #[serde(default)]
    batching: RawBatching,
    #[serde(default)]
    instances: RawInstances,
    #[serde(default)]
    warm_up: RawWarmUp,
    golden: Option<RawGolden>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    name: String,
    dtype: String,
    shape: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutput {
    name: String,
    dtype: String,
    shape: Vec<i64>,
    labels: Option<PathBuf>,
    #[serde(default)]
    scores: Scores,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBatching {
    max_size: usize,
    max_delay: String,
}

impl Default for RawBatching {
    fn default() -> Self {
        Self { max_size: 32, max_delay: "0ms".to_owned() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstances {
    count: usize,
    device: String,
    threads: Option<usize>,
}

impl Default for RawInstances {
    fn default() -> Self {
        Self { count: 1, device: String::new(), threads: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWarmUp {
    #[serde(default)]
    sizes: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGolden {
    file: PathBuf,
    #[serde(default = "default_tolerance")]
    tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-5
}

/// Reads and validates `model.toml`. `Err` holds everything that is wrong with it.
pub fn parse(text: &str) -> Result<Spec, Vec<String>> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        vec![format!("{} at line {line}", error.message().replace('\n', ", "))]
    })?;
    let mut wrong = Vec::new();
    if raw.inputs.is_empty() {
        wrong.push("inputs is empty: a model needs at least one [[inputs]] table".to_owned());
    }
    let inputs = raw.inputs.iter().map(|port| validate(&port.name, &port.dtype, &port.shape, &mut wrong)).collect();
    let outputs: Vec<_> = raw
        .outputs
        .into_iter()
        .map(|output| Output {
            port: validate(&output.name, &output.dtype, &output.shape, &mut wrong),
            labels: output.labels,
            scores: output.scores,
        })
        .collect();
    if !(1..=MAX_ROWS).contains(&raw.batching.max_size) {
        wrong.push(format!("batching.max_size = {}: expected 1 to {MAX_ROWS} rows", raw.batching.max_size));
    }
    let max_delay = humantime::parse_duration(&raw.batching.max_delay).ok().filter(|delay| *delay <= MAX_DELAY);
    let max_delay = max_delay.unwrap_or_else(|| {
        wrong.push(format!("batching.max_delay = {:?}: expected 0ms to 1m, such as 5ms", raw.batching.max_delay));
        Duration::ZERO
    });
    if raw.instances.count == 0 {
        wrong.push("instances.count = 0: a model needs at least one instance".to_owned());
    }
    if raw.instances.threads == Some(0) {
        wrong.push("instances.threads = 0: an instance needs at least one thread".to_owned());
    }
    let max_size = raw.batching.max_size;
    for size in &raw.warm_up.sizes {
        if *size == 0 || *size > max_size {
            wrong.push(format!("warm_up.sizes holds {size}: expected 1 to batching.max_size = {max_size}"));
        }
    }
    let warm_up = if raw.warm_up.sizes.is_empty() { vec![1, max_size] } else { raw.warm_up.sizes };
    let device = raw.instances.device.parse().unwrap_or_else(|error| {
        wrong.push(format!("instances.device = {error}"));
        DeviceChoice::Auto
    });
    let golden = raw.golden.map(|golden| Golden { file: golden.file, tolerance: golden.tolerance });
    if let Some(golden) = golden.as_ref().filter(|golden| golden.tolerance.is_nan() || golden.tolerance < 0.0) {
        wrong.push(format!("golden.tolerance = {}: expected a number of at least 0", golden.tolerance));
    }
    if golden.is_some() && outputs.is_empty() {
        wrong.push("golden.file without [[outputs]]: there is nothing to compare".to_owned());
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Spec {
        inputs,
        outputs,
        max_size,
        max_delay,
        instances: raw.instances.count,
        device,
        threads: raw.instances.threads,
        warm_up,
        golden,
    })
}

fn validate(name: &str, dtype: &str, shape: &[i64], wrong: &mut Vec<String>) -> Port {
    let known = DType::from_name(dtype);
    if known.is_none() {
        wrong.push(format!(
            "{name}: dtype = {dtype:?}: expected BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32 or FP64"
        ));
    }
    if shape.first() != Some(&-1) {
        wrong.push(format!("{name}: shape = {shape:?}: expected -1, the batch, as its first length"));
    }
    let lengths = shape
        .iter()
        .map(|length| match length {
            -1 => None,
            1.. => usize::try_from(*length).ok(),
            _ => {
                wrong.push(format!("{name}: shape = {shape:?}: {length} is neither -1 nor a positive length"));
                None
            }
        })
        .collect();
    let port = Port { name: name.to_owned(), dtype: known.unwrap_or(DType::Fp32), shape: lengths };
    let closed = port.shape.iter().skip(1).all(Option::is_some);
    if closed && !port.shape.is_empty() && port.row_elements().is_none_or(|elements| elements > MAX_ELEMENTS) {
        wrong.push(format!("{name}: shape = {shape:?}: a row has more than {MAX_ELEMENTS} elements"));
    }
    port
}

/// Reads `--input NAME:DTYPE[-1,8,8]`.
pub fn parse_input(text: &str) -> Result<Port, String> {
    let expected = || format!("{text:?}: expected NAME:DTYPE[-1,…], such as image:FP32[-1,8,8]");
    let (name, rest) = text.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let (dtype, shape) = rest.strip_suffix(']').and_then(|rest| rest.split_once('[')).ok_or_else(expected)?;
    let shape: Vec<i64> =
        shape.split(',').map(|length| length.trim().parse().map_err(|_| expected())).collect::<Result<_, _>>()?;
    let mut wrong = Vec::new();
    let port = validate(name, dtype, &shape, &mut wrong);
    if wrong.is_empty() { Ok(port) } else { Err(wrong.join("; ")) }
}

/// The spec of a model that has no `model.toml`: its inputs, and defaults for the rest.
pub fn from_inputs(inputs: Vec<Port>) -> Spec {
    let batching = RawBatching::default();
    Spec {
        inputs,
        outputs: Vec::new(),
        max_size: batching.max_size,
        max_delay: Duration::ZERO,
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

    const DIGITS: &str = r#"
        [[inputs]]
        name = "image"
        dtype = "FP32"
        shape = [-1, 8, 8]
    "#;

    #[test]
    fn a_minimal_file_gets_defaults() {
        let spec = parse(DIGITS).unwrap();
        assert_eq!((spec.max_size, spec.instances, spec.warm_up), (32, 1, vec![1, 32]));
        assert_eq!(spec.inputs[0].shape_text(), "[-1, 8, 8]");
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let text = r#"
            [[inputs]]
            name = "image"
            dtype = "float"
            shape = [8, 0]
            [batching]
            max_size = 0
            max_delay = "soon"
            [instances]
            count = 0
            [warm_up]
            sizes = [64]
        "#;
        let wrong = parse(text).unwrap_err().join("\n");
        for part in ["float", "[8, 0]: expected -1", "0 is neither", "max_size = 0", "soon", "count = 0", "holds 64"] {
            assert!(wrong.contains(part), "{part} in {wrong}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let wrong = parse(&format!("{DIGITS}\n[batchign]\n")).unwrap_err().join("\n");
        assert!(wrong.contains("batchign") && wrong.contains("line 7"), "{wrong}");
    }

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
    fn an_input_flag_is_read_or_refused_with_an_example() {
        assert_eq!(parse_input("x:INT64[-1]").unwrap().shape, [None]);
        for text in ["x", "x:FP32", ":FP32[-1]", "x:FP32[a]", "x:FP32[]"] {
            assert!(parse_input(text).unwrap_err().contains("image:FP32[-1,8,8]"), "{text}");
        }
    }
}
