//! What a package's code may be fed, from the checks in its own source, which nothing calls unless an environment variable
//! says so: one function an input, with a line for its type and for each length. As libtorch 2.11's compiler writes them
//! (source: `torch/_inductor/codegen/cpp_wrapper_cpu.py`). Pure.

use std::collections::BTreeMap;

use crate::tensor::DType;

/// What one input must be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Input {
    /// `None` where it is none that can be served.
    pub(super) dtype: Option<DType>,
    pub(super) shape: Vec<Length>,
    /// Row-major, without gaps.
    pub(super) is_dense: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Length {
    Exactly(usize),
    /// Any that the code itself reads off this input.
    Read(Bounds),
    /// Any that the code takes from another input.
    Tied(Bounds),
}

/// What the compiler found out of an open length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    least: usize,
    most: Option<usize>,
}

impl Length {
    pub(super) fn exactly(self) -> Option<usize> {
        if let Self::Exactly(length) = self { Some(length) } else { None }
    }

    fn bounds(self) -> Bounds {
        match self {
            Self::Exactly(length) => Bounds { least: length, most: Some(length) },
            Self::Read(bounds) | Self::Tied(bounds) => bounds,
        }
    }

    pub(super) fn least(self) -> usize {
        self.bounds().least
    }

    pub(super) fn most(self) -> Option<usize> {
        self.bounds().most
    }

    pub(super) fn takes(self, length: usize) -> bool {
        length >= self.least() && self.most().is_none_or(|most| length <= most)
    }

    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Read(_))
    }

    pub(super) fn is_tied(self) -> bool {
        matches!(self, Self::Tied(_))
    }
}

/// The inputs in their order; `None` where the source shows none, or is of a form that nobody knows.
pub(super) fn inputs(source: &str) -> Option<Vec<Input>> {
    let parts: Vec<&str> = source.split("static void check_input_").skip(1).collect();
    let is_whole = |(index, part): (usize, &&str)| part.starts_with(&format!("{index}("));
    if parts.is_empty() || !parts.iter().enumerate().all(is_whole) {
        return None;
    }
    parts.into_iter().map(|part| input(part, source)).collect()
}

fn input(part: &str, source: &str) -> Option<Input> {
    let (body, _) = part.split_once("\n}")?;
    let name = between(body, "ConstantHandle ", " =")?;
    let dtype = dtype(between(body, "aoti_torch_dtype_", "()")?);
    let mut checks = Checks::default();
    for line in body.lines() {
        checks.take(line.trim(), name)?;
    }
    let lengths = (0..checks.rank).map(|place| {
        if let Some(length) = checks.sizes.get(&place) {
            return Length::Exactly(*length);
        }
        // It writes 2 wherever a length is open, and computes one row as well.
        let least = checks.least.get(&place).copied().filter(|least| *least > 2).unwrap_or(0);
        let bounds = Bounds { least, most: checks.most.get(&place).copied() };
        let is_read = source.contains(&format!(" = {name}_size[{place}];"));
        if is_read { Length::Read(bounds) } else { Length::Tied(bounds) }
    });
    let shape: Vec<Length> = lengths.collect();
    let is_dense = checks.is_dense(&shape);
    Some(Input { dtype, shape, is_dense })
}

/// What the lines of a check compare.
#[derive(Default)]
struct Checks {
    rank: usize,
    sizes: BTreeMap<usize, usize>,
    least: BTreeMap<usize, usize>,
    most: BTreeMap<usize, usize>,
    strides: BTreeMap<usize, usize>,
}

impl Checks {
    /// Reads `if (64 != x_size[1]) {` or `if (x_size[0] > 1024) {`; skips whatever compares something else.
    fn take(&mut self, line: &str, name: &str) -> Option<()> {
        let condition = line.strip_prefix("if (").and_then(|rest| rest.strip_suffix(") {"));
        let Some(condition) = condition else { return Some(()) };
        let words: Vec<&str> = condition.split(' ').collect();
        let place = |word: &str, what: &str| {
            let place = word.strip_prefix(name)?.strip_prefix(what)?.strip_prefix('[')?.strip_suffix(']')?;
            place.parse::<usize>().ok()
        };
        let [left, sign, right] = words[..] else { return Some(()) };
        let (into, place, number) = match (place(right, "_size"), place(right, "_stride"), place(left, "_size")) {
            (Some(place), _, _) if sign == "!=" => (&mut self.sizes, place, left),
            (_, Some(place), _) if sign == "!=" => (&mut self.strides, place, left),
            (_, _, Some(place)) if sign == ">" => (&mut self.most, place, right),
            (_, _, Some(place)) if sign == "<" => (&mut self.least, place, right),
            _ => return Some(()),
        };
        // A length that is no number is none that is understood.
        into.insert(place, number.trim_end_matches('L').parse().ok()?);
        self.rank = self.rank.max(place + 1);
        Some(())
    }

    /// Whether every stride that is known is that of rows without gaps.
    fn is_dense(&self, shape: &[Length]) -> bool {
        let mut expected = Some(1);
        for (place, length) in shape.iter().enumerate().rev() {
            let known = self.strides.get(&place).copied();
            let matters = length.exactly() != Some(1);
            if matters && known.is_some() && expected.is_some() && known != expected {
                return false;
            }
            expected = expected.and_then(|stride: usize| stride.checked_mul(length.exactly()?));
        }
        true
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    Some(rest.split_once(to)?.0)
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "bool" => DType::Bool,
        "uint8" => DType::Uint8,
        "uint16" => DType::Uint16,
        "uint32" => DType::Uint32,
        "uint64" => DType::Uint64,
        "int8" => DType::Int8,
        "int16" => DType::Int16,
        "int32" => DType::Int32,
        "int64" => DType::Int64,
        "float16" => DType::Fp16,
        "bfloat16" => DType::Bf16,
        "float32" => DType::Fp32,
        "float64" => DType::Fp64,
        _ => return None,
    })
}
