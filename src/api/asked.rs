//! What a request of the inference protocol asks for beside its tensors: its `parameters`, in either form of the protocol.

use std::time::{Duration, Instant};

use super::Terms;
use super::describe::Signature;
use super::error::{Error, shown};
use crate::batch::{Outputs, Priority};
use crate::model::Version;
use crate::tensor::Tensor;

/// One tensor per input of the model.
pub struct Inputs {
    pub tensors: Vec<Tensor>,
    pub rows: usize,
}

/// What the answer shall be.
#[derive(Debug, Default)]
pub struct Asked {
    /// Empty for none.
    pub id: String,
    pub parameters: Request,
    /// In this order; empty for all outputs.
    pub outputs: Vec<(String, Output)>,
}

impl Asked {
    /// Refuses outputs that the model does not have, where it is known which it has.
    pub fn check(&self, version: &Version) -> Result<(), Error> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let known: Vec<String> = Signature::of(version).outputs.into_iter().map(|output| output.name).collect();
        match self.outputs.iter().find(|(name, _)| !known.is_empty() && !known.contains(name)) {
            Some((name, _)) => Err(unknown_output(name, &known)),
            None => Ok(()),
        }
    }

    /// What of `outputs` is wanted: their places, and how.
    pub fn select(&self, outputs: &Outputs) -> Result<Vec<(usize, Output)>, Error> {
        if self.outputs.is_empty() {
            return Ok((0..outputs.len()).map(|index| (index, Output::default())).collect());
        }
        let known = || outputs.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        let place = |name: &str| outputs.iter().position(|(known, _)| **known == *name);
        let select = |(name, wish): &(String, Output)| match place(name) {
            Some(index) => Ok((index, *wish)),
            None => Err(unknown_output(name, &known())),
        };
        self.outputs.iter().map(select).collect()
    }
}

fn unknown_output(name: &str, known: &[String]) -> Error {
    Error::bad_input(format!("unknown output {:?}, expected {}", shown(name), known.join(", ")))
}

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(&'a str),
    /// Whatever no parameter is.
    Other,
}

/// Of a whole request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    /// How long it may take; the protocol says microseconds.
    pub timeout: Option<Duration>,
    pub priority: Option<Priority>,
    /// Whether outputs are answered as raw bytes unless they are asked for otherwise.
    pub binary: bool,
}

/// Of one output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Output {
    /// How many of the best classes are wanted in place of the numbers.
    pub classes: Option<usize>,
    pub binary: Option<bool>,
}

impl Request {
    /// Takes a parameter; those that are not known mean nothing, as with other servers.
    pub fn take(&mut self, name: &str, value: Value) -> Result<(), Error> {
        match (name, value) {
            // Triton's clients send zeros and false where nothing is meant.
            ("sequence_id", Value::Whole(0) | Value::Text(""))
            | ("sequence_start" | "sequence_end", Value::Bool(false))
            | ("timeout" | "priority", Value::Whole(0)) => {}
            ("sequence_id" | "sequence_start" | "sequence_end", _) => {
                return Err(Error::bad_input(format!(
                    "parameter {name}: expected none, models here keep no sequences"
                )));
            }
            ("timeout", Value::Whole(micros)) if micros > 0 => {
                self.timeout = Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
            }
            ("priority", Value::Whole(level)) if level > 0 => {
                self.priority = Some(if level == 1 { Priority::Normal } else { Priority::Low });
            }
            ("binary_data_output", Value::Bool(binary)) => self.binary = binary,
            ("timeout", _) => return Err(wrong(name, value, "microseconds as a whole number")),
            ("priority", _) => return Err(wrong(name, value, "1 for the highest, or a whole number above")),
            ("binary_data_output", _) => return Err(wrong(name, value, "true or false")),
            _ => {}
        }
        Ok(())
    }

    /// The terms with what the request itself asks for: it can shorten its time, and choose its priority.
    pub fn apply(&self, terms: Terms, started: Instant) -> Terms {
        let deadline = self.timeout.and_then(|timeout| started.checked_add(timeout));
        Terms {
            deadline: deadline.map_or(terms.deadline, |deadline| deadline.min(terms.deadline)),
            priority: self.priority.unwrap_or(terms.priority),
        }
    }
}

impl Output {
    /// Takes a parameter of the output `output`.
    pub fn take(&mut self, output: &str, name: &str, value: Value) -> Result<(), Error> {
        let name_of = || format!("{name} of output {}", shown(output));
        match (name, value) {
            ("classification", Value::Whole(0)) => {}
            ("classification", Value::Whole(classes)) if classes > 0 => {
                self.classes = Some(usize::try_from(classes).unwrap_or(usize::MAX));
            }
            ("binary_data", Value::Bool(binary)) => self.binary = Some(binary),
            ("classification", _) => return Err(wrong(&name_of(), value, "how many classes, a whole number")),
            ("binary_data", _) => return Err(wrong(&name_of(), value, "true or false")),
            _ => refuse_shared_memory(name)?,
        }
        Ok(())
    }
}

/// Of inputs and outputs: tensors come and go with their requests.
pub fn refuse_shared_memory(name: &str) -> Result<(), Error> {
    if name.starts_with("shared_memory") {
        let message =
            format!("parameter {name}: expected none, tensors are taken from requests and not from shared memory");
        return Err(Error::bad_input(message));
    }
    Ok(())
}

fn wrong(name: &str, value: Value, expected: &str) -> Error {
    let got = match value {
        Value::Bool(value) => value.to_string(),
        Value::Whole(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => format!("{:?}", shown(value)),
        Value::Other => "something else".to_owned(),
    };
    Error::bad_input(format!("parameter {name}: got {got}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(parameters: &[(&str, Value)]) -> Result<Request, String> {
        let mut request = Request::default();
        for (name, value) in parameters {
            request.take(name, *value).map_err(|error| error.message().to_owned())?;
        }
        Ok(request)
    }

    #[test]
    fn zeros_mean_nothing_and_levels_above_one_can_wait() {
        let zeros = [("timeout", Value::Whole(0)), ("priority", Value::Whole(0)), ("sequence_id", Value::Whole(0))];
        assert_eq!(asked(&zeros), Ok(Request::default()));
        for (level, priority) in [(1, Priority::Normal), (2, Priority::Low), (9, Priority::Low)] {
            assert_eq!(asked(&[("priority", Value::Whole(level))]).unwrap().priority, Some(priority));
        }
        let timeout = asked(&[("timeout", Value::Whole(1500)), ("whatever", Value::Other)]).unwrap().timeout;
        assert_eq!(timeout, Some(Duration::from_micros(1500)));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, value, word) in [
            ("sequence_id", Value::Whole(7), "sequences"),
            ("sequence_start", Value::Bool(true), "sequences"),
            ("timeout", Value::Text("soon"), "microseconds"),
            ("timeout", Value::Whole(-1), "got -1"),
            ("priority", Value::Float(0.5), "got 0.5"),
            ("binary_data_output", Value::Whole(1), "true or false"),
        ] {
            let error = asked(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
        let error = Output::default().take("logits", "shared_memory_region", Value::Text("r")).unwrap_err();
        assert!(error.message().contains("shared_memory_region"));
    }

    #[test]
    fn a_request_shortens_its_time_and_never_lengthens_it() {
        let started = Instant::now();
        let terms = Terms { deadline: started + Duration::from_secs(5), priority: Priority::Normal };
        for (timeout, left) in [(Some(2), 2), (Some(9), 5), (None, 5)] {
            let request = Request { timeout: timeout.map(Duration::from_secs), ..Request::default() };
            assert_eq!(request.apply(terms, started).deadline, started + Duration::from_secs(left));
        }
        let low = Request { priority: Some(Priority::Low), ..Request::default() };
        assert_eq!(low.apply(terms, started).priority, Priority::Low);
    }
}
