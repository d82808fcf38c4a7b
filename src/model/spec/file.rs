//! `model.toml`: as written, then validated, with everything that is wrong with it and the line of each.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{DEFAULT_MAX_SIZE, Golden, MemoryFormat, Output, Part, Port, Reference, Scores, Spec, Versions};
use crate::engine::{DeviceChoice, Format};
use crate::tensor::DType;

/// The most rows that a batch may have: far beyond what pays.
const MAX_ROWS: usize = 1 << 20;
/// The longest that a batch may wait: clients are people, too.
const MAX_DELAY: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    versions: Option<Spanned<RawVersions>>,
    format: Option<Spanned<String>>,
    precision: Option<Spanned<String>>,
    memory_format: Option<Spanned<String>>,
    inputs: Spanned<Vec<RawPort>>,
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
#[serde(untagged)]
enum RawVersions {
    Rule(String),
    Numbers(Vec<i64>),
    Other(toml::Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    name: Spanned<String>,
    dtype: Spanned<String>,
    shape: Spanned<Vec<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutput {
    name: Spanned<String>,
    dtype: Spanned<String>,
    shape: Spanned<Vec<i64>>,
    labels: Option<Spanned<PathBuf>>,
    #[serde(default)]
    scores: Scores,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBatching {
    max_size: Option<Spanned<usize>>,
    max_delay: Option<Spanned<String>>,
    row_wise: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstances {
    count: Option<Spanned<usize>>,
    device: Option<Spanned<String>>,
    threads: Option<Spanned<usize>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWarmUp {
    sizes: Vec<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGolden {
    file: Spanned<PathBuf>,
    tolerance: Option<Spanned<f64>>,
}

/// What is wrong, each with its line.
struct Wrong<'a> {
    text: &'a str,
    reasons: Vec<String>,
}

impl Wrong<'_> {
    fn note(&mut self, span: Range<usize>, reason: &str) {
        self.reasons.push(format!("{reason} at line {}", self.line(&span)));
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text[..span.start].matches('\n').count() + 1
    }

    /// The value, or what stands in for one that is not there; `check` says what is wrong with it.
    fn checked<T>(&mut self, given: Option<Spanned<T>>, otherwise: T, check: impl Fn(&T) -> Option<String>) -> T {
        let Some(given) = given else { return otherwise };
        if let Some(reason) = check(given.get_ref()) {
            self.note(given.span(), &reason);
        }
        given.into_inner()
    }

    fn reference(&self, file: Spanned<PathBuf>) -> Reference {
        Reference { line: self.line(&file.span()), file: file.into_inner() }
    }
}

/// Reads and validates `model.toml`. `Err` holds everything that is wrong with it.
pub fn parse(text: &str) -> Result<Spec, Vec<String>> {
    let mut wrong = Wrong { text, reasons: Vec::new() };
    let raw: Raw = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            wrong.note(error.span().unwrap_or(0..0), &error.message().replace('\n', ", "));
            return Err(wrong.reasons);
        }
    };
    if raw.inputs.get_ref().is_empty() {
        wrong.note(raw.inputs.span(), "inputs is empty: a model needs at least one [[inputs]] table");
    }
    let versions = raw.versions.map_or(Versions::Latest, |versions| self::versions(&versions, &mut wrong));
    let format = raw.format.and_then(|name| one_of(&name, "format", &FORMATS, &mut wrong));
    let precision = raw.precision.and_then(|name| one_of(&name, "precision", &PRECISIONS, &mut wrong)).flatten();
    let memory_format = raw.memory_format.and_then(|name| one_of(&name, "memory_format", &MEMORY_FORMATS, &mut wrong));
    let mut names = Vec::new();
    let inputs = raw.inputs.get_ref().iter();
    let inputs = inputs.map(|input| port(input, super::port_of_rows, &mut names, &mut wrong)).collect();
    let read = if raw.batching.row_wise == Some(false) { super::port } else { super::port_of_rows };
    let outputs = outputs(raw.outputs, read, &mut wrong);
    let max_size = wrong.checked(raw.batching.max_size, DEFAULT_MAX_SIZE, |size| {
        let fits = (1..=MAX_ROWS).contains(size);
        (!fits).then(|| format!("batching.max_size = {size}: expected 1 to {MAX_ROWS} rows"))
    });
    let instances = wrong.checked(raw.instances.count, 1, |count| {
        (*count == 0).then(|| "instances.count = 0: a model needs at least one instance".to_owned())
    });
    let threads = raw.instances.threads.map(|threads| {
        wrong.checked(Some(threads), 1, |threads| {
            (*threads == 0).then(|| "instances.threads = 0: an instance needs at least one thread".to_owned())
        })
    });
    let max_delay = raw.batching.max_delay.map_or(Duration::ZERO, |text| delay(&text, &mut wrong));
    let device = raw.instances.device.map_or(DeviceChoice::Auto, |text| {
        text.get_ref().parse().unwrap_or_else(|error| {
            wrong.note(text.span(), &format!("instances.device = {error}"));
            DeviceChoice::Auto
        })
    });
    let warm_up = warm_up(raw.warm_up, max_size, &mut wrong);
    let golden = raw.golden.map(|golden| self::golden(golden, &outputs, &mut wrong));
    if !wrong.reasons.is_empty() {
        return Err(wrong.reasons);
    }
    let row_wise = raw.batching.row_wise;
    let is_learned = false;
    Ok(Spec {
        versions,
        format,
        precision,
        memory_format: memory_format.unwrap_or_default(),
        inputs,
        is_learned,
        outputs,
        max_size,
        max_delay,
        row_wise,
        instances,
        device,
        threads,
        warm_up,
        golden,
    })
}

const FORMATS: [(&str, Format); 2] = [(Format::Script.name(), Format::Script), (Format::Aoti.name(), Format::Aoti)];
/// FP32 is what models are written in: it changes nothing.
const PRECISIONS: [(&str, Option<DType>); 3] =
    [("fp32", None), ("bf16", Some(DType::Bf16)), ("fp16", Some(DType::Fp16))];
const MEMORY_FORMATS: [(&str, MemoryFormat); 2] =
    [("contiguous", MemoryFormat::Contiguous), ("channels_last", MemoryFormat::ChannelsLast)];

/// What `name` stands for, of what may stand there.
fn one_of<T: Copy>(name: &Spanned<String>, key: &str, known: &[(&str, T)], wrong: &mut Wrong<'_>) -> Option<T> {
    let found = known.iter().find(|(known, _)| known == name.get_ref());
    if found.is_none() {
        let known = known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        wrong.note(name.span(), &format!("{key} = {:?}: expected {known}", name.get_ref()));
    }
    found.map(|(_, meant)| *meant)
}

fn versions(versions: &Spanned<RawVersions>, wrong: &mut Wrong<'_>) -> Versions {
    let line = wrong.line(&versions.span());
    let shown = match versions.get_ref() {
        RawVersions::Rule(rule) if rule == "latest" => return Versions::Latest,
        RawVersions::Rule(rule) if rule == "all" => return Versions::All,
        RawVersions::Numbers(numbers) if !numbers.is_empty() => {
            let known: Vec<u64> = numbers.iter().filter_map(|number| u64::try_from(*number).ok()).collect();
            if known.len() == numbers.len() {
                return Versions::Only { numbers: known, line };
            }
            format!("{numbers:?}")
        }
        RawVersions::Rule(rule) => format!("{rule:?}"),
        RawVersions::Numbers(numbers) => format!("{numbers:?}"),
        RawVersions::Other(value) => value.to_string(),
    };
    let reason = format!("versions = {shown}: expected \"latest\", \"all\" or numbers such as [1, 3]");
    wrong.note(versions.span(), &reason);
    Versions::Latest
}

/// Makes a port of its name, type and shape, of rows or not.
type Read = fn(&str, &str, &[i64], &mut dyn FnMut(Part, String)) -> Port;

/// `names` are those of the ports before, which must be others.
fn port(raw: &RawPort, read: Read, names: &mut Vec<String>, wrong: &mut Wrong<'_>) -> Port {
    let RawPort { name, dtype, shape } = raw;
    if name.get_ref().is_empty() {
        wrong.note(name.span(), "name is empty: expected the name of a tensor");
    } else if names.contains(name.get_ref()) {
        wrong.note(name.span(), &format!("{}: stands there twice, expected another name", name.get_ref()));
    }
    names.push(name.get_ref().clone());
    let mut hear = |part, reason: String| match part {
        Part::DType => wrong.note(dtype.span(), &reason),
        Part::Shape => wrong.note(shape.span(), &reason),
    };
    read(name.get_ref(), dtype.get_ref(), shape.get_ref(), &mut hear)
}

fn outputs(raw: Vec<RawOutput>, read: Read, wrong: &mut Wrong<'_>) -> Vec<Output> {
    let mut names = Vec::new();
    let output = |RawOutput { name, dtype, shape, labels, scores }| {
        let port = port(&RawPort { name, dtype, shape }, read, &mut names, wrong);
        if let Some(file) = labels.as_ref().filter(|_| port.dtype == Some(DType::Bytes)) {
            let reason = format!(
                "{}: labels = \"{}\": expected none, since BYTES are no numbers",
                port.name,
                file.get_ref().display()
            );
            wrong.note(file.span(), &reason);
        }
        Output { port, labels: labels.map(|file| wrong.reference(file)), scores }
    };
    raw.into_iter().map(output).collect()
}

fn delay(text: &Spanned<String>, wrong: &mut Wrong<'_>) -> Duration {
    let delay = humantime::parse_duration(text.get_ref()).ok().filter(|delay| *delay <= MAX_DELAY);
    delay.unwrap_or_else(|| {
        let reason = format!("batching.max_delay = {:?}: expected 0ms to 1m, such as 5ms", text.get_ref());
        wrong.note(text.span(), &reason);
        Duration::ZERO
    })
}

fn warm_up(raw: RawWarmUp, max_size: usize, wrong: &mut Wrong<'_>) -> Vec<usize> {
    for size in &raw.sizes {
        if !(1..=max_size).contains(size.get_ref()) {
            let reason =
                format!("warm_up.sizes holds {}: expected 1 to batching.max_size = {max_size}", size.get_ref());
            wrong.note(size.span(), &reason);
        }
    }
    let sizes: Vec<usize> = raw.sizes.into_iter().map(Spanned::into_inner).collect();
    if sizes.is_empty() { vec![1, max_size] } else { sizes }
}

fn golden(raw: RawGolden, outputs: &[Output], wrong: &mut Wrong<'_>) -> Golden {
    const TOLERANCE: f64 = 1e-5;
    if outputs.is_empty() {
        wrong.note(raw.file.span(), "golden.file without [[outputs]]: there is nothing to compare");
    }
    let tolerance = wrong.checked(raw.tolerance, TOLERANCE, |tolerance| {
        let wrong = tolerance.is_nan() || *tolerance < 0.0;
        wrong.then(|| format!("golden.tolerance = {tolerance}: expected a number of at least 0"))
    });
    Golden { file: wrong.reference(raw.file), tolerance }
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
        assert_eq!((spec.versions, spec.row_wise), (Versions::Latest, None));
        assert_eq!(spec.inputs[0].shape_text(), "[-1, 8, 8]");
    }

    #[test]
    fn everything_wrong_is_reported_at_once_with_its_line() {
        let text = r#"versions = "newest"
            format = "onnx"
            precision = "int8"
            memory_format = "channels_first"
            [[inputs]]
            name = "image"
            dtype = "float"
            shape = [8, 0]
            [[inputs]]
            name = "image"
            dtype = "FP32"
            shape = [-1]
            [batching]
            max_size = 0
            max_delay = "soon"
            [instances]
            count = 0
            threads = 0
            device = "tpu"
            [warm_up]
            sizes = [
                64,
            ]
            [golden]
            file = "golden.json"
            tolerance = -1.0"#;
        let wrong = parse(text).unwrap_err().join("\n");
        for part in [
            r#"versions = "newest": expected "latest", "all" or numbers such as [1, 3] at line 1"#,
            r#"format = "onnx": expected "torchscript" or "aoti" at line 2"#,
            r#"precision = "int8": expected "fp32" or "bf16" or "fp16" at line 3"#,
            r#"memory_format = "channels_first": expected "contiguous" or "channels_last" at line 4"#,
            "FP64 or BYTES at line 7",
            "[8, 0]: expected -1, the batch, as its first length at line 8",
            "0 is neither -1 nor a positive length at line 8",
            "image: stands there twice, expected another name at line 10",
            "max_size = 0: expected 1 to 1048576 rows at line 14",
            "max_delay = \"soon\": expected 0ms to 1m, such as 5ms at line 15",
            "count = 0: a model needs at least one instance at line 17",
            "threads = 0: an instance needs at least one thread at line 18",
            "device = tpu: expected auto, cpu, cuda or cuda:0 at line 19",
            "holds 64: expected 1 to batching.max_size = 0 at line 22",
            "golden.file without [[outputs]]: there is nothing to compare at line 25",
            "tolerance = -1: expected a number of at least 0 at line 26",
        ] {
            assert!(wrong.contains(part), "{part} in {wrong}");
        }
        assert_eq!(wrong.lines().count(), 16, "{wrong}");
    }

    #[test]
    fn texts_have_no_labels() {
        let output = "[[outputs]]\nname = \"t\"\ndtype = \"BYTES\"\nshape = [-1]\nlabels = \"labels.txt\"\n";
        let wrong = parse(&format!("{DIGITS}\n{output}")).unwrap_err();
        assert_eq!(wrong, ["t: labels = \"labels.txt\": expected none, since BYTES are no numbers at line 11"]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let wrong = parse(&format!("{DIGITS}\n[batchign]\n")).unwrap_err().join("\n");
        assert!(wrong.contains("batchign") && wrong.contains("line 7"), "{wrong}");
    }

    #[test]
    fn versions_are_a_rule_or_numbers() {
        let versions = |text: &str| parse(&format!("versions = {text}\n{DIGITS}")).map(|spec| spec.versions);
        assert_eq!(versions("\"latest\""), Ok(Versions::Latest));
        assert_eq!(versions("\"all\""), Ok(Versions::All));
        assert_eq!(versions("[3, 1]"), Ok(Versions::Only { numbers: vec![3, 1], line: 1 }));
        for text in ["[]", "[-1]", "3", "[\"1\"]", "{}"] {
            assert!(versions(text).unwrap_err()[0].contains("expected \"latest\""), "{text}");
        }
    }

    #[test]
    fn outputs_of_a_model_that_is_not_row_wise_need_no_batch() {
        let output = "[[outputs]]\nname = \"mean\"\ndtype = \"FP32\"\nshape = []\n";
        assert!(parse(&format!("{DIGITS}\n{output}")).unwrap_err()[0].contains("expected -1"));
        let spec = parse(&format!("{DIGITS}\n{output}[batching]\nrow_wise = false")).unwrap();
        assert_eq!((spec.row_wise, spec.outputs[0].port.shape.len()), (Some(false), 0));
    }
}
