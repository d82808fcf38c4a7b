//! Whether a row's outputs depend on that row alone, without which requests must not share a batch.
//!
//! Two different rows are computed together and alone, and compared. Everything here is pure but for the closure that
//! computes.

mod text;

use super::spec::Port;
use crate::engine::{Error, Outputs};
use crate::tensor::text::encode;
use crate::tensor::{DType, Tensor};

/// Two rows, each with a tensor of one row per input.
pub type Pair = [Vec<Tensor>; 2];

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowWise {
    /// Two rows came out together as they came out alone.
    Proved,
    /// The `model.toml` says so, or says that it is not.
    Declared(bool),
    /// Why not.
    Disproved(String),
    /// Why that cannot be told, and what is taken for true.
    Unknown { reason: String, assumed: bool },
}

impl RowWise {
    /// Whether requests may share a batch.
    pub fn holds(&self) -> bool {
        match self {
            Self::Proved => true,
            Self::Declared(holds) | Self::Unknown { assumed: holds, .. } => *holds,
            Self::Disproved(_) => false,
        }
    }

    /// Why it is so, in words; empty for what has been proved.
    pub fn reason(&self) -> &str {
        match self {
            Self::Proved => "",
            Self::Declared(_) => "declared in model.toml",
            Self::Disproved(reason) | Self::Unknown { reason, .. } => reason,
        }
    }
}

/// Computes the first of `pairs` that the model can bear, together and alone. `assumed` is what holds where nothing can be
/// told. `Err` where it can bear none of them, or the device is lost.
pub fn probe(
    pairs: impl IntoIterator<Item = Pair>,
    assumed: bool,
    compute: &mut dyn FnMut(&[Tensor]) -> Result<Outputs, Error>,
) -> Result<RowWise, Error> {
    let unknown = |reason: String| RowWise::Unknown { reason, assumed };
    let mut raised = Error::Failed("there are no rows to try".to_owned());
    for pair in pairs {
        // The first row twice: a model that draws random numbers cannot be compared with itself.
        let alone = [&pair[0], &pair[0], &pair[1]].map(|row| compute(row));
        let [first, again, second] = match alone {
            [Ok(first), Ok(again), Ok(second)] => [first, again, second],
            alone => {
                raised = alone.into_iter().find_map(Result::err).unwrap_or(raised);
                if matches!(raised, Error::DeviceLost(_)) {
                    break;
                }
                continue;
            }
        };
        let is_same = |((_, first), (_, again)): (&(_, Tensor), &(_, Tensor))| differ(again, first).is_none();
        if first.len() != again.len() || !first.iter().zip(&again).all(is_same) {
            return Ok(unknown("its outputs differ between two runs over the same row".to_owned()));
        }
        return match compute(&together(&pair)) {
            Ok(both) => Ok(match compare(&both, [&first, &second]) {
                Some(reason) => RowWise::Disproved(reason),
                // Where both are alike, their mean is each of them.
                None if pair[0] == pair[1] => unknown("it could bear no two rows that differ".to_owned()),
                None => RowWise::Proved,
            }),
            Err(error @ Error::DeviceLost(_)) => Err(error),
            Err(error @ Error::OutOfMemory(_)) => Ok(unknown(error.gist())),
            Err(error) => Ok(RowWise::Disproved(format!("it fails when two rows share a batch: {}", error.gist()))),
        };
    }
    Err(raised)
}

/// What of `both`, the outputs of two rows, is not that of each row alone, in words.
fn compare(both: &Outputs, alone: [&Outputs; 2]) -> Option<String> {
    if both.len() != alone[0].len() || both.len() != alone[1].len() {
        let counts = [both.len(), alone[0].len(), alone[1].len()];
        return Some(format!(
            "it returns {} outputs for two rows, {} and {} for each alone",
            counts[0], counts[1], counts[2]
        ));
    }
    let odd = |(outputs, rows): (&Outputs, usize)| {
        let (name, tensor) = outputs.iter().find(|(_, tensor)| tensor.shape.first() != Some(&rows))?;
        let words = if rows == 2 { "two rows" } else { "one row" };
        Some(format!("output {name} has shape {:?} for {words}: expected a first dimension of {rows}", tensor.shape))
    };
    if let Some(reason) = [(both, 2), (alone[0], 1), (alone[1], 1)].into_iter().find_map(odd) {
        return Some(reason);
    }
    both.iter().enumerate().find_map(|(index, (name, both))| {
        let of_row = |row: usize| differ(&both.slice(row..row + 1), &alone[row][index].1);
        let how = [0, 1].into_iter().find_map(of_row)?;
        Some(format!("output {name} of a row changes when another row shares its batch: {how}"))
    })
}

/// How `got` differs from `expected` by more than the order of additions may, in words.
fn differ(got: &Tensor, expected: &Tensor) -> Option<String> {
    if (got.dtype, &got.shape) != (expected.dtype, &expected.shape) {
        return Some(format!("shape {:?} instead of {:?}", got.shape, expected.shape));
    }
    if got.dtype == DType::Bytes {
        return text::differ(got, expected);
    }
    let allowed = tolerance(got.dtype);
    let (got, expected) = (got.to_f64(), expected.to_f64());
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let is_near = |(got, expected): (&f64, &f64)| {
        let is_same = got.total_cmp(expected).is_eq() || (got.is_nan() && expected.is_nan());
        is_same || (got - expected).abs() <= allowed * largest
    };
    let element = got.iter().zip(&expected).position(|pair| !is_near(pair))?;
    Some(format!("element {element} is {} instead of {}", got[element], expected[element]))
}

/// The largest difference that another order of additions may make, as a part of the largest number.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Fp64 => 1e-6,
        DType::Fp32 => 1e-3,
        DType::Fp16 => 1e-2,
        DType::Bf16 => 5e-2,
        _ => 0.0,
    }
}

fn is_float(dtype: DType) -> bool {
    tolerance(dtype) > 0.0
}

/// One of a pair's rows.
#[derive(Clone, Copy)]
enum Side {
    First,
    Second,
}

/// Pairs of rows to try, the most telling first: `known` ones, then numbers and texts that most models can bear, then zeros
/// and empty texts.
///
/// Floats: at first the two rows have opposite signs and sizes, so that a decision over a whole batch goes the way of the
/// second row; integers are 0 and 1, which are in most vocabularies.
pub fn pairs(known: Option<Pair>, ports: &[Port]) -> Vec<Pair> {
    let first: Value = |dtype, index| if is_float(dtype) { spread(index) } else { parity(index) };
    let second: Value = |dtype, index| if is_float(dtype) { -2.0 * spread(index + 5) } else { 1.0 - parity(index) };
    let positive: Value = |dtype, index| if is_float(dtype) { spread(index + 5) } else { 0.0 };
    let negative: Value = |dtype, index| if is_float(dtype) { -spread(index) } else { 0.0 };
    let zero: Value = |_, _| 0.0;
    let row = |value: Value, text: &str| ports.iter().map(|port| row_of(port, value, text)).collect::<Vec<_>>();
    let made = [[first, second], [first, positive], [second, negative], [zero, zero]].into_iter().enumerate();
    let made = made.map(|(number, [first, second])| {
        [row(first, text::of(number, Side::First)), row(second, text::of(number, Side::Second))]
    });
    known.into_iter().chain(made).collect()
}

/// The number at a place of a row.
type Value = fn(DType, usize) -> f64;

/// Above 0, at most 1, and no two neighbours alike.
#[allow(clippy::cast_precision_loss)] // Below 64.
fn spread(index: usize) -> f64 {
    ((index * 37 + 11) % 64 + 1) as f64 / 64.0
}

#[allow(clippy::cast_precision_loss)] // 0 or 1.
fn parity(index: usize) -> f64 {
    (index % 2) as f64
}

/// One row of `port`; a length that it leaves open is 1.
fn row_of(port: &Port, value: Value, text: &str) -> Tensor {
    let dtype = port.dtype.unwrap_or(DType::Fp32);
    let shape: Vec<usize> = port.shape.iter().map(|length| length.unwrap_or(1)).collect();
    let mut bytes = Vec::new();
    for index in 0..shape.iter().product() {
        if dtype == DType::Bytes {
            bytes.extend(encode([text]));
        } else {
            write(&mut bytes, dtype, value(dtype, index));
        }
    }
    Tensor { dtype, shape, bytes: bytes.into() }
}

/// The same, out of rows that somebody sent, which are all that is known: the first and another that differs from it, or
/// the first and what can be made of it, or at last the first twice.
pub fn pairs_of(inputs: &[Tensor]) -> Vec<Pair> {
    let rows = inputs.iter().map(Tensor::rows).min().unwrap_or(0);
    // Row after row, so that nobody walks over all texts before each.
    let mut rest = inputs.to_vec();
    let mut next = || rest.iter_mut().map(|tensor| tensor.split_to(1)).collect::<Vec<_>>();
    let first = next();
    let sent = (1..rows).map(|_| next()).find(|other| *other != first);
    let made = CHANGES.iter().map(|change| first.iter().map(|tensor| changed(tensor, *change)).collect::<Vec<_>>());
    let others = sent.into_iter().chain(made.filter(|other| *other != first));
    let mut pairs: Vec<Pair> = others.map(|other| [first.clone(), other]).collect();
    pairs.push([first.clone(), first]);
    pairs
}

/// The most telling of them.
pub fn pair_of(inputs: &[Tensor]) -> Pair {
    pairs_of(inputs).swap_remove(0)
}

/// What makes another row of one.
#[derive(Clone, Copy)]
enum Change {
    /// Floats of the other sign and another size; integers in reverse, which are mostly as good indices as before; texts
    /// twice, one behind the other.
    Turned,
    /// Floats that are larger; integers that are 0, which is in every vocabulary; the first halves of texts.
    Lowered,
    /// The same floats, and integers that are 1: a row of zeros must differ from something; empty texts.
    Raised,
}

const CHANGES: [Change; 3] = [Change::Turned, Change::Lowered, Change::Raised];

fn changed(row: &Tensor, change: Change) -> Tensor {
    if row.dtype == DType::Bytes {
        return Tensor { bytes: text::changed(row, change).into(), ..row.clone() };
    }
    let (dtype, mut values) = (row.dtype, row.to_f64());
    let floats = values.iter_mut().enumerate();
    match (change, is_float(dtype)) {
        (Change::Turned, true) => floats.for_each(|(index, value)| *value = -2.0 * *value - spread(index)),
        (Change::Turned, false) => values.reverse(),
        (Change::Lowered, true) => floats.for_each(|(index, value)| *value *= 1.0 + spread(index)),
        (Change::Lowered, false) => values.fill(0.0),
        (Change::Raised, true) => {}
        (Change::Raised, false) => values.fill(1.0),
    }
    let mut bytes = Vec::new();
    for value in values {
        write(&mut bytes, dtype, value);
    }
    Tensor { dtype, shape: row.shape.clone(), bytes: bytes.into() }
}

/// Both rows in one tensor per input.
fn together([first, second]: &Pair) -> Vec<Tensor> {
    let join = |(first, second): (&Tensor, &Tensor)| {
        let mut shape = first.shape.clone();
        shape[0] = 2;
        Tensor { dtype: first.dtype, shape, bytes: [&first.bytes[..], &second.bytes].concat().into() }
    };
    first.iter().zip(second).map(join).collect()
}

/// Appends `value`, rounded to `dtype`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The values come from tensors of the same type.
fn write(bytes: &mut Vec<u8>, dtype: DType, value: f64) {
    match dtype {
        DType::Bool | DType::Uint8 => bytes.push(value as u8),
        DType::Uint16 => bytes.extend((value as u16).to_le_bytes()),
        DType::Uint32 => bytes.extend((value as u32).to_le_bytes()),
        DType::Uint64 => bytes.extend((value as u64).to_le_bytes()),
        DType::Int8 => bytes.extend((value as i8).to_le_bytes()),
        DType::Int16 => bytes.extend((value as i16).to_le_bytes()),
        DType::Int32 => bytes.extend((value as i32).to_le_bytes()),
        DType::Int64 => bytes.extend((value as i64).to_le_bytes()),
        DType::Fp16 => bytes.extend(half::f16::from_f64(value).to_le_bytes()),
        DType::Bf16 => bytes.extend(half::bf16::from_f64(value).to_le_bytes()),
        DType::Fp32 => bytes.extend((value as f32).to_le_bytes()),
        DType::Fp64 => bytes.extend(value.to_le_bytes()),
        DType::Bytes => bytes.extend(encode([value.to_string()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[usize], values: &[f64]) -> Tensor {
        let mut bytes = Vec::new();
        for value in values {
            write(&mut bytes, DType::Fp32, *value);
        }
        Tensor { dtype: DType::Fp32, shape: shape.to_vec(), bytes: bytes.into() }
    }

    fn port() -> Port {
        Port { name: "x".to_owned(), dtype: Some(DType::Fp32), shape: vec![None, Some(2)] }
    }

    fn sum(x: &Tensor) -> f64 {
        x.to_f64().iter().sum()
    }

    /// What a probe finds of a model that maps the numbers of its input.
    fn found(model: impl Fn(&Tensor) -> Result<Tensor, Error>) -> RowWise {
        let mut compute = |inputs: &[Tensor]| Ok(vec![("y".into(), model(&inputs[0])?)]);
        probe(pairs(None, &[port()]), true, &mut compute).unwrap()
    }

    fn disproved(model: impl Fn(&Tensor) -> Result<Tensor, Error>, part: &str) {
        let found = found(model);
        assert!(!found.holds() && found.reason().contains(part), "{part} in {found:?}");
    }

    #[test]
    fn a_model_that_treats_each_row_alike_is_proved() {
        let twice = |x: &Tensor| floats(&x.shape, &x.to_f64().iter().map(|x| 2.0 * x).collect::<Vec<_>>());
        assert_eq!(found(|x| Ok(twice(x))), RowWise::Proved);
        assert_eq!(found(|x| Ok(floats(&[x.rows(), 0], &[]))), RowWise::Proved, "empty outputs");
        let nans = |x: &Tensor| floats(&[x.rows()], &vec![f64::NAN; x.rows()]);
        assert_eq!(found(|x| Ok(nans(x))), RowWise::Proved);
        // Another order of additions.
        let nearly = |x: &Tensor| {
            floats(
                &x.shape,
                &x.to_f64()
                    .iter()
                    .map(|v| v * (1.0 + 1e-5 * sum(&floats(&[x.rows()], &vec![1.0; x.rows()]))))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(found(|x| Ok(nearly(x))), RowWise::Proved);
    }

    #[test]
    fn a_row_that_knows_of_its_neighbours_is_named_with_its_output() {
        disproved(
            |x| Ok(floats(&[x.rows()], &vec![sum(x); x.rows()])),
            "output y of a row changes when another row shares its batch: element 0 is ",
        );
        disproved(
            |x| Ok(floats(&[], &[sum(x)])),
            "output y has shape [] for two rows: expected a first dimension of 2",
        );
        disproved(|x| Ok(floats(&[1, 2], &[sum(x), 0.0])), "shape [1, 2] for two rows");
        disproved(
            |x| Ok(floats(&[x.rows(), x.rows()], &vec![1.0; x.rows() * x.rows()])),
            "shape [1, 2] instead of [1, 1]",
        );
        // A decision over the whole batch goes another way than over its first row.
        let sign = |x: &Tensor| floats(&[x.rows()], &vec![sum(x).signum(); x.rows()]);
        disproved(|x| Ok(sign(x)), "element 0 is -1 instead of 1");
        let fails = |x: &Tensor| if x.rows() == 1 { Ok(x.clone()) } else { Err(Error::Failed("only one".to_owned())) };
        disproved(fails, "it fails when two rows share a batch: only one");
    }

    #[test]
    fn what_cannot_be_told_is_assumed() {
        let count = std::cell::Cell::new(0.0);
        let random = |x: &Tensor| {
            count.set(count.get() + 1.0);
            Ok(floats(&[x.rows()], &vec![count.get(); x.rows()]))
        };
        let unknown = found(random);
        assert!(unknown.holds() && unknown.reason().contains("differ between two runs"), "{unknown:?}");
        for error in [Error::DeviceLost("gone".to_owned()), Error::Failed("never".to_owned())] {
            let raised = probe(pairs(None, &[port()]), true, &mut |_| Err(error.clone()));
            assert_eq!(raised, Err(error));
        }
    }

    #[test]
    fn rows_that_the_model_cannot_bear_give_way_to_others() {
        let only = |bearable: fn(&f64) -> bool| {
            move |x: &Tensor| {
                let is_fine = x.to_f64().iter().all(bearable);
                if is_fine { Ok(x.clone()) } else { Err(Error::Failed("unbearable".to_owned())) }
            }
        };
        assert_eq!(found(only(|x| *x >= 0.0)), RowWise::Proved, "not the negative ones");
        assert_eq!(found(only(|x| *x < 0.0)), RowWise::Proved, "only the negative ones");
        // Two rows of zeros say too little.
        let zeros = found(only(|x| x.abs() < 1e-9));
        assert!(zeros.holds() && zeros.reason() == "it could bear no two rows that differ", "{zeros:?}");
    }

    #[test]
    fn a_pair_out_of_a_request_is_two_rows_that_differ() {
        let values = |pair: Pair| pair.map(|row| row[0].to_f64());
        assert_eq!(values(pair_of(&[floats(&[2, 1], &[3.0, 4.0])])), [[3.0], [4.0]]);
        let [first, second] = values(pair_of(&[floats(&[1, 2], &[0.0, 1.0])]));
        assert!(first.iter().zip(&second).all(|(first, second)| (first - second).abs() > 0.01), "{first:?} {second:?}");
        let integers = |values: &[i64]| Tensor {
            dtype: DType::Int64,
            shape: vec![1, values.len()],
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into(),
        };
        assert_eq!(values(pair_of(&[integers(&[3, 4])])), [[3.0, 4.0], [4.0, 3.0]]);
        assert_eq!(values(pair_of(&[integers(&[3, 3])])), [[3.0, 3.0], [0.0, 0.0]]);
        assert_eq!(values(pair_of(&[integers(&[0, 0])])), [[0.0, 0.0], [1.0, 1.0]]);
        // The third row is the first that differs.
        assert_eq!(values(pair_of(&[floats(&[3, 1], &[3.0, 3.0, 4.0])])), [[3.0], [4.0]]);
    }

    fn texts(shape: &[usize], texts: &[&str]) -> Tensor {
        Tensor { dtype: DType::Bytes, shape: shape.to_vec(), bytes: encode(texts).into() }
    }

    #[test]
    fn rows_of_texts_are_compared_by_their_bytes() {
        let port = Port { name: "x".to_owned(), dtype: Some(DType::Bytes), shape: vec![None] };
        let found = |model: fn(&Tensor) -> Tensor| {
            let mut compute = |inputs: &[Tensor]| Ok(vec![("y".into(), model(&inputs[0]))]);
            probe(pairs(None, std::slice::from_ref(&port)), true, &mut compute).unwrap()
        };
        assert_eq!(found(Tensor::clone), RowWise::Proved);
        // As long as the longest of them: what padding does.
        let padded = found(|x| {
            let longest = x.elements().map(<[u8]>::len).max().unwrap();
            let padded = x.elements().map(|text| format!("{:longest$}", str::from_utf8(text).unwrap()));
            Tensor { bytes: encode(padded).into(), ..x.clone() }
        });
        assert!(
            padded.reason().ends_with("element 0 is \"a text                   \" instead of \"a text\""),
            "{padded:?}"
        );
    }

    #[test]
    fn another_row_of_texts_is_made_of_the_same_words() {
        let made = |sent: &Tensor| pair_of(std::slice::from_ref(sent))[1][0].clone();
        assert_eq!(made(&texts(&[1, 2], &["a", ""])), texts(&[1, 2], &["a a", "a text"]));
        assert_eq!(made(&texts(&[3], &["a", "a", "b"])), texts(&[1], &["b"]));
        let long = "é".repeat(5000);
        assert_eq!(made(&texts(&[1], &[&long])), texts(&[1], &[&long[..4096]]));
        // Twice a million texts that are alike are read once, not once for each of them.
        let alike = Tensor { dtype: DType::Bytes, shape: vec![1 << 20], bytes: vec![0; 4 << 20].into() };
        assert_eq!(made(&alike), texts(&[1], &["a text"]));
    }

    #[test]
    fn a_request_of_rows_that_are_alike_proves_nothing() {
        // Each number less the mean of its batch: what two rows that are alike do not tell.
        let centred = |inputs: &[Tensor]| {
            let mean = sum(&inputs[0]) / f64::from(u32::try_from(inputs[0].to_f64().len()).unwrap());
            let values: Vec<f64> = inputs[0].to_f64().iter().map(|x| x - mean).collect();
            Ok(vec![("y".into(), floats(&inputs[0].shape, &values))])
        };
        let zeros = Tensor { dtype: DType::Int64, shape: vec![2, 1], bytes: vec![0; 16].into() };
        for inputs in [zeros, floats(&[1, 1], &[0.0]), floats(&[2, 1], &[5.0, 5.0])] {
            let found = probe(pairs_of(std::slice::from_ref(&inputs)), false, &mut { centred }).unwrap();
            assert!(found.reason().contains("changes when another row shares its batch"), "{inputs:?}: {found:?}");
        }
        // It can bear nothing but what was sent.
        let picky = &mut |inputs: &[Tensor]| {
            let is_known = inputs[0].to_f64().iter().all(|x| (x - 7.0).abs() < 1e-9);
            if is_known { centred(inputs) } else { Err(Error::Failed("unbearable".to_owned())) }
        };
        let found = probe(pairs_of(&[floats(&[1, 1], &[7.0])]), false, picky).unwrap();
        assert!(!found.holds() && found.reason() == "it could bear no two rows that differ", "{found:?}");
    }
}
