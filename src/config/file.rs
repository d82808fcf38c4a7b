//! `--config FILE`: the values of a TOML file become the defaults of the flags whose names its keys are, so that flags and
//! variables win and everything is validated in one place.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use toml::{Table, Value};

use crate::cli::{self, Cli};
use crate::dependency::may_hold_password;

/// The command line, with the defaults that its `--config` gives.
pub fn parse() -> Result<Cli, clap::Error> {
    let set = |name: &OsStr| std::env::var_os(name);
    let command = without_empty_variables(Cli::command(), &set);
    let cli = Cli::from_arg_matches(&command.clone().try_get_matches()?)?;
    let Some(cli::Command::Serve(args)) = &cli.command else { return Ok(cli) };
    let Some(path) = &args.config else { return Ok(cli) };
    let wrong = |error| Cli::command().error(clap::error::ErrorKind::InvalidValue, error);
    let command = with_defaults(command, path).map_err(wrong)?;
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// A variable that is set to nothing, as `value: ""` does in a manifest, is not set; but `TORCHPOD_GRPC_LISTEN` opens no
/// port then.
fn without_empty_variables(command: Command, set: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    let is_empty = |argument: &Arg| {
        let name = argument.get_env().filter(|name| *name != "TORCHPOD_GRPC_LISTEN");
        name.and_then(set).is_some_and(|value| value.is_empty())
    };
    let forget = |argument: Arg| if is_empty(&argument) { argument.env(None::<&'static str>) } else { argument };
    command.mut_args(forget).mut_subcommands(|command| command.mut_args(forget))
}

fn with_defaults(command: Command, path: &Path) -> Result<Command, String> {
    let name = path.to_string_lossy();
    let shown = if may_hold_password(&name) { String::new() } else { format!(" {name}") };
    let at = |error: String| format!("--config{shown}: {error}");
    let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
    let table: Table = text.parse().map_err(|error| at(without_the_line(&text, &error)))?;
    table.into_iter().try_fold(command, |command, (key, value)| with_default(command, &key, value)).map_err(at)
}

/// What is wrong and where. The error itself would show the line, in which a password may stand.
fn without_the_line(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    format!("line {line}: {}", error.message())
}

fn with_default(command: Command, key: &str, value: Value) -> Result<Command, String> {
    let is_meant = |argument: &&Arg| argument.get_long() == Some(key) && !["config", "version"].contains(&key);
    let found = |command: &Command| {
        let argument = command.get_arguments().find(is_meant)?;
        Some((argument.get_id().clone(), matches!(argument.get_action(), ArgAction::Append)))
    };
    // The engine's flags are those of every command.
    let of_serve = command.find_subcommand("serve").and_then(found);
    let is_of_serve = of_serve.is_some();
    let (id, multiple) = of_serve
        .or_else(|| found(&command))
        .ok_or_else(|| format!("unknown {}: expected the name of a flag of `torchpod serve --help`", shown(key)))?;
    let texts = texts(key, value, multiple)?;
    let give = |command: Command| command.mut_arg(id, |argument| argument.default_values(texts));
    Ok(if is_of_serve { command.mut_subcommand("serve", give) } else { give(command) })
}

/// The values as a command line would hold them.
fn texts(key: &str, value: Value, multiple: bool) -> Result<Vec<String>, String> {
    match value {
        Value::Array(values) if multiple => values.into_iter().map(|value| text(key, value)).collect(),
        value => Ok(vec![text(key, value)?]),
    }
}

/// A key, unless it may be a value that stands in the wrong place.
fn shown(key: &str) -> String {
    let is_name = key.chars().all(|c| c.is_alphanumeric() || ['-', '_', '.'].contains(&c));
    if is_name { format!("key {key}") } else { "key that is no name".to_owned() }
}

fn text(key: &str, value: Value) -> Result<String, String> {
    const EXPECTED: &str = "expected a text, a whole number, true or false, as the flag takes it";
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Table(table) if key == "dependency" => dependency(table),
        // It may hold URLs with passwords.
        Value::Table(_) | Value::Array(_) => Err(format!("{key}: {EXPECTED}, not a whole {}", value.type_str())),
        other => Err(format!("{key} = {other}: {EXPECTED}")),
    }
}

/// `{ url = "redis://cache", optional = true, interval = "2s" }` as `redis://cache#interval=2s,optional`. No error shows
/// a value.
fn dependency(mut table: Table) -> Result<String, String> {
    let url = table.remove("url").and_then(|url| url.as_str().map(str::to_owned));
    let url = url.ok_or("a dependency without a url: expected url = \"redis://cache:6379\"")?;
    let options: Vec<String> = table.into_iter().map(|(key, value)| option(&key, &value)).collect::<Result<_, _>>()?;
    // The URL may have options of its own, of which a later one wins.
    let separator = if url.contains('#') { ',' } else { '#' };
    Ok(if options.is_empty() { url } else { format!("{url}{separator}{}", options.join(",")) })
}

fn option(key: &str, value: &Value) -> Result<String, String> {
    let expected = match (key, value) {
        ("optional", Value::Boolean(true)) | ("required", Value::Boolean(false)) => return Ok("optional".to_owned()),
        ("required", Value::Boolean(true)) | ("optional", Value::Boolean(false)) => return Ok("required".to_owned()),
        ("interval" | "timeout" | "name" | "failures" | "successes", Value::String(text)) => {
            return Ok(format!("{key}={}", utf8_percent_encode(text, NON_ALPHANUMERIC)));
        }
        ("failures" | "successes", Value::Integer(number)) => return Ok(format!("{key}={number}")),
        ("optional" | "required", _) => "true or false",
        ("interval" | "timeout" | "name", _) => "a text",
        ("failures" | "successes", _) => "a whole number",
        _ => {
            return Err(format!(
                "a dependency with an unknown {}: expected url, optional, required, interval, timeout, failures, \
                 successes or name",
                shown(key)
            ));
        }
    };
    Err(format!("a dependency's {key}: expected {expected}, not a value of type {}", value.type_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::Dependency;

    fn serve(file: &str, arguments: &[&str]) -> Result<cli::ServeArgs, String> {
        let table: Table = file.parse().unwrap();
        let command =
            table.into_iter().try_fold(Cli::command(), |command, (key, value)| with_default(command, &key, value))?;
        let arguments = ["torchpod", "serve"].iter().chain(arguments);
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        match Cli::from_arg_matches(&matches).unwrap().command {
            Some(cli::Command::Serve(args)) => Ok(*args),
            _ => panic!("not serve"),
        }
    }

    #[test]
    fn a_file_gives_defaults_and_flags_win() {
        let file = "drain-delay = '9s'\nmax-queue = 7\nready-while-draining = true\nlog-format = 'json'";
        let args = serve(file, &["--drain-delay", "1s"]).unwrap();
        assert_eq!((args.drain_delay.as_str(), args.max_queue), ("1s", 7));
        assert!(args.ready_while_draining);
        assert_eq!(args.log_format, crate::telemetry::LogFormat::Json);
    }

    #[test]
    fn dependencies_are_tables_or_texts() {
        let file = "dependency = ['tcp://a:1#optional', {url = 'redis://b', optional = true, interval = '2s'}]";
        assert_eq!(serve(file, &[]).unwrap().dependencies, ["tcp://a:1#optional", "redis://b#interval=2s,optional"]);
        let file = "[[dependency]]\nurl = 'tcp://a:1'\nfailures = 2";
        assert_eq!(serve(file, &[]).unwrap().dependencies, ["tcp://a:1#failures=2"]);
        for (word, optional) in [("optional = true", true), ("optional = false", false), ("required = false", true)] {
            let file = format!("dependency = [{{url = 'tcp://a:1', {word}, name = 'my cache, the first'}}]");
            let dependency: Dependency = serve(&file, &[]).unwrap().dependencies[0].parse().unwrap();
            assert_eq!((dependency.required, &*dependency.name), (!optional, "my cache, the first"), "{word}");
        }
        let file = "dependency = {url = 'tcp://a:1#optional,failures=9', failures = 2, name = 'a,required'}";
        let dependency: Dependency = serve(file, &[]).unwrap().dependencies[0].parse().unwrap();
        assert_eq!((dependency.required, dependency.pace.failures, &*dependency.name), (false, 2, "a,required"));
    }

    #[test]
    fn a_variable_set_to_nothing_is_not_set_but_that_of_grpc() {
        let names = |command: &Command| -> Vec<String> {
            let serve = command.find_subcommand("serve").unwrap();
            let arguments = command.get_arguments().chain(serve.get_arguments());
            arguments.filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned())).collect()
        };
        let every = names(&Cli::command());
        assert!(every.len() > 20 && every.contains(&"TORCHPOD_CONFIG".to_owned()), "{every:?}");
        let emptied = without_empty_variables(Cli::command(), &|_| Some(OsString::new()));
        assert_eq!(names(&emptied), ["TORCHPOD_GRPC_LISTEN"]);
        for set in [None, Some(OsString::from("x"))] {
            assert_eq!(names(&without_empty_variables(Cli::command(), &|_| set.clone())), every);
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_what_may_be_a_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, said) in [
            ("label = 'x'\ndependency = ['redis://:hunter2@cache]", "line 2: "),
            ("dependency = [['redis://:hunter2@cache']]", "dependency: expected a text"),
            ("dependency = [{url = ['redis://:hunter2@cache']}]", "without a url"),
            ("dependency = [{url = 'redis://c', password = 'hunter2'}]", "unknown key password: expected url"),
            ("dependency = [{url = 'redis://c', auth = {password = 'hunter2'}}]", "unknown key auth: expected url"),
            (
                "dependency = [{url = 'redis://c', name = {x = 'hunter2'}}]",
                "name: expected a text, not a value of type table",
            ),
            ("dependency = [{url = 'redis://c', interval = 2}]", "interval: expected a text"),
            ("dependency = [{url = 'redis://c', optional = 'hunter2'}]", "optional: expected true or false"),
            ("dependency = [{url = 'redis://c', failures = ['hunter2']}]", "failures: expected a whole number"),
            ("dependency = [{url = 'redis://c', 'redis://:hunter2@c' = 1}]", "unknown key that is no name"),
            ("listen = {password = 'hunter2'}", "listen: expected a text"),
            ("'redis://:hunter2@cache' = 1", "unknown key that is no name"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = with_defaults(Cli::command(), file.path()).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_no_flag_is_named() {
        for (file, said) in [
            ("drain-dealy = '1s'", "drain-dealy"),
            ("config = 'x'", "config"),
            ("version = true", "version"),
            ("max-queue = 'many'", "many"),
            ("drain-delay = 1.5", "drain-delay = 1.5"),
            ("dependency = [{uri = 'x'}]", "url"),
        ] {
            let error = serve(file, &[]).unwrap_err();
            assert!(error.contains(said), "{said} in {error}");
        }
    }
}
