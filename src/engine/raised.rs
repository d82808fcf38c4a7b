//! What a model raised, out of the text that libtorch makes of it: a trace of the model's code, then the exception. Pure.

/// Marks the place in the model's code; the exception follows the last of them.
const HERE: &str = "<--- HERE";

/// What the engine puts before the message of a package, which leaves no trace.
const PACKAGE: &str = "the package raised: ";

/// Signs of C++ in a message, which nobody who sends requests understands.
const FOREIGN: [&str; 6] = [".cpp", "enforce fail", "c10::", "at::", "torch::", "Exception raised from"];

/// `RuntimeError: index out of range in self`: the exception's line at the end of a TorchScript trace.
pub(super) fn line(text: &str) -> Option<&str> {
    let (_, after) = text.rsplit_once(HERE)?;
    after.lines().find(|line| class_and_message(line).is_some())
}

/// The exception's own message, where it is fit for clients.
pub(super) fn told(text: &str) -> Option<&str> {
    let (class, message) = match text.strip_prefix(PACKAGE) {
        Some(message) => ("the package", message.lines().next()?),
        None => class_and_message(line(text)?)?,
    };
    let is_path = |word: &str| {
        let word = word.trim_start_matches(['"', '\'', '(', '[']);
        word.strip_prefix('/').is_some_and(|rest| rest.contains('/'))
    };
    if FOREIGN.iter().any(|sign| message.contains(sign)) || message.split_whitespace().any(is_path) {
        return None;
    }
    let message = message.trim().trim_end_matches('.');
    // `raise ValueError` says nothing but its name.
    Some(if message.is_empty() { class.rsplit('.').next().unwrap_or(class) } else { message })
}

/// `builtins.ValueError: too large` in two. The trace's own lines of code are indented, or have no name before a colon.
fn class_and_message(line: &str) -> Option<(&str, &str)> {
    let (class, message) =
        line.split_once(':').filter(|(_, message)| message.is_empty() || message.starts_with(' '))?;
    let is_name = class.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && class.chars().all(|c| c.is_alphanumeric() || ['_', '.'].contains(&c));
    let is_code = message.trim().is_empty() && !class.contains('.') && !class.ends_with("Error");
    (is_name && !is_code).then_some((class, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libtorch 2.11 writes it.
    fn trace(exception: &str) -> String {
        format!(
            "The following operation failed in the TorchScript interpreter.\n\
             Traceback of TorchScript, serialized code (most recent call last):\n  \
             File \"code/__torch__.py\", line 6, in forward\n    \
             if bool(torch.gt(x, 9)):\n      torch.embedding(self.weight, ids)\n      ~~~~~~~~~~~~~~~ {HERE}\n\
             else:\n      pass\n{exception}\n"
        )
    }

    #[test]
    fn the_exception_comes_after_the_trace() {
        for (exception, said) in [
            ("RuntimeError: index out of range in self", "index out of range in self"),
            ("builtins.ValueError: x: expected at most 9.", "x: expected at most 9"),
            ("RuntimeError: The size (3) must match (4)\nand more", "The size (3) must match (4)"),
            ("builtins.AssertionError: ", "AssertionError"),
        ] {
            assert_eq!(told(&trace(exception)), Some(said));
        }
        assert_eq!(line(&trace("RuntimeError: a/b")), Some("RuntimeError: a/b"));
    }

    #[test]
    fn what_clients_must_not_read_is_not_told() {
        for exception in [
            "RuntimeError: [enforce fail at inline_container.cc:355] . PytorchStreamReader failed",
            "RuntimeError: c10::Error at Tensor.cpp:12",
            "RuntimeError: cannot open /secret/weights.bin",
            "RuntimeError: cannot open '/secret/weights.bin'",
        ] {
            assert_eq!(told(&trace(exception)), None, "{exception}");
        }
        assert_eq!(told("no trace: at all"), None);
        assert_eq!(told("the package raised: c10::Error at Tensor.cpp:12"), None);
    }

    #[test]
    fn a_package_says_it_in_a_line() {
        assert_eq!(
            told(
                "the package raised: index out of range: 9 < 4.
more"
            ),
            Some("index out of range: 9 < 4")
        );
    }
}
