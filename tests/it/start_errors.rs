//! A start that cannot succeed says why, where people look, with a code that scripts can rely on.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{ANY_PORT, BINARY, ROOT, Turn};

/// One way to start in vain.
struct Mistake {
    what: &'static str,
    arguments: Vec<String>,
    code: i32,
    /// What the reason must name, and its hint.
    says: Vec<String>,
}

fn mistake(what: &'static str, arguments: &[&str], code: i32, says: &[&str]) -> Mistake {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Mistake { what, arguments: owned(arguments), code, says: owned(says) }
}

/// A folder of models with a copy of digits, to be spoilt.
fn digits(scratch: &Path, name: &str) -> PathBuf {
    let models = scratch.join(name);
    fs::create_dir_all(models.join("digits/1")).unwrap();
    for file in ["1/model.pt", "model.toml", "labels.txt", "golden.json"] {
        fs::copy(format!("{ROOT}/models/digits/{file}"), models.join("digits").join(file)).unwrap();
    }
    models
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with a file that is no model there, by its name.
fn without_models(scratch: &Path) -> PathBuf {
    let empty = scratch.join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("net.pt"), "").unwrap();
    empty
}

/// Whoever adds a reason to exit adds a row.
fn mistakes(scratch: &Path, taken_port: &str) -> Vec<Mistake> {
    let empty = without_models(scratch);
    let missing = scratch.join("missing");

    let truncated = digits(scratch, "truncated");
    let model = truncated.join("digits/1/model.pt");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() / 2]).unwrap();

    let different = digits(scratch, "different");
    alter_golden(&different.join("digits/golden.json"));

    let misspelt = digits(scratch, "misspelt");
    let toml = misspelt.join("digits/model.toml");
    let spelt = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, spelt.replace("max_size = 32", "max_sise = 32")).unwrap();

    let two = digits(scratch, "two");
    fs::rename(two.join("digits"), two.join("other")).unwrap();
    let two = digits(scratch, "two");

    let mut mistakes = vec![
        mistake("a missing folder", &[text(&missing)], 2, &[text(&missing), "does not exist: name a folder"]),
        mistake(
            "no model",
            &[text(&empty)],
            2,
            &[text(&empty), "holds no model: expected <name>/<version>/model.pt", "the net.pt in it"],
        ),
        mistake(
            "a truncated model",
            &[text(&truncated)],
            3,
            &["digits@1", text(&model), "expected a TorchScript archive"],
        ),
        mistake(
            "other outputs",
            &[text(&different)],
            3,
            &["digits@1", "logits: element 0 is", "hint: the weights and the golden file"],
        ),
        mistake(
            "a port in use",
            &["models", "--listen", taken_port],
            2,
            &["--listen", taken_port, "choose another port"],
        ),
        mistake(
            "a gRPC port in use",
            &["models", "--grpc-listen", taken_port],
            2,
            &["--grpc-listen", taken_port, "choose another port"],
        ),
        mistake(
            "an invalid value",
            &["models", "--drain-delay", "soon"],
            2,
            &["--drain-delay soon", "expected a duration such as 5s"],
        ),
        mistake("a misspelt key", &[text(&misspelt)], 2, &[text(&toml), "max_sise", "line 19", "one of `max_size`"]),
        mistake(
            "a row of terabytes",
            &[text(&model), "--input", "image:FP32[-1,99999999999]"],
            2,
            &["--input", "99999999999", "more than 1073741824 elements"],
        ),
        mistake(
            "an endless wait",
            &["models", "--request-timeout", "1000years"],
            2,
            &["--request-timeout", "at most 24h"],
        ),
        mistake(
            "no such default",
            &[text(&two), "--default-model", "x"],
            2,
            &["--default-model x", "expected one of digits, other"],
        ),
        mistake(
            "no libtorch",
            &["models", "--libtorch", text(&empty)],
            3,
            &["--libtorch", text(&empty), "name the folder that holds lib/libtorch_cpu.so"],
        ),
        mistake(
            "no engine",
            &["models", "--engine-dir", text(&empty)],
            3,
            &["libtorchpod_torch.so is missing", text(&empty), "--engine-dir"],
        ),
        mistake(
            "an unknown flag",
            &["models", "--drain-dealy", "1s"],
            2,
            &["--drain-dealy", "'--drain-delay'", "--help"],
        ),
    ];
    if !Path::new("/dev/nvidiactl").exists() {
        mistakes.push(mistake(
            "no GPU",
            &["models", "--device", "cuda"],
            3,
            &["device cuda:0 is not there", "--device auto"],
        ));
    }
    mistakes
}

/// Changes the first of the expected numbers a little more than is tolerated.
fn alter_golden(path: &Path) {
    let mut golden: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let number = &mut golden["outputs"]["logits"][0][0];
    *number = (number.as_f64().unwrap() + 0.001).into();
    fs::write(path, golden.to_string()).unwrap();
}

#[test]
fn a_start_in_vain_says_why_with_its_own_exit_code() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let termination_log = scratch.path().join("termination-log");
    for Mistake { what, arguments, code, says } in mistakes(scratch.path(), &taken.local_addr().unwrap().to_string()) {
        fs::write(&termination_log, "").unwrap();
        let mut line = vec!["serve"];
        line.extend(arguments.iter().map(String::as_str));
        if !line.contains(&"--listen") {
            line.extend(["--listen", ANY_PORT]);
        }
        line.extend(["--termination-log", text(&termination_log)]);
        let output = turn.run(&line);

        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
        let reason = stderr.lines().last().unwrap_or_default();
        assert!(reason.starts_with("torchpod: ") && stderr.ends_with('\n'), "{what}: {stderr}");
        for part in says {
            assert!(reason.contains(&part), "{what}: {part:?} in {reason:?}");
        }
        assert_eq!(fs::read_to_string(&termination_log).unwrap().trim_end(), reason, "{what}: the termination log");
    }
}

#[test]
fn a_termination_log_that_the_kubelet_did_not_make_is_not_made() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    let output = turn.run(&["serve", "--listen", "nowhere", "--termination-log", text(&termination_log)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!termination_log.exists());
}

#[test]
fn a_stderr_that_refuses_every_line_changes_neither_the_code_nor_the_termination_log() {
    let (_turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    fs::write(&termination_log, "").unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "/nowhere", "--listen", ANY_PORT, "--grpc-listen", ANY_PORT]);
    command.args(["--termination-log", text(&termination_log)]);
    let status = command.stderr(fs::File::options().write(true).open("/dev/full").unwrap()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(fs::read_to_string(&termination_log).unwrap().contains("/nowhere"));
}

/// A name and a value.
type Variable = (&'static str, &'static str);

#[test]
fn no_password_is_told_however_it_is_misplaced() {
    let (_turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let file = scratch.path().join("torchpod.toml");
    fs::write(&file, "max-queue = 'redis://:hunter2@cache'").unwrap();
    let url = "redis://:hunter2@cache";
    let table: [(&[&str], &[Variable], &str); 9] = [
        (&["--dependency", "redis://cache", url], &[], "MODELS_DIR|FILE.pt is set to something else"),
        (&["--config", url], &[], "--config: "),
        (&["models", "--dependency", "redis://cache", url], &[], "unexpected argument 'redis://***' found"),
        (&["models", "--dependency", "tcp://a:1", "host=db password=hunter2"], &[], "unexpected argument '***' found"),
        (&["--max-queue", url], &[], "invalid value 'redis://***' for '--max-queue"),
        (&["--config", text(&file)], &[], "invalid value 'redis://***' for '--max-queue"),
        (&["--dependency", "mysql://db/app?password=hunter2"], &[], "--dependency #1: mysql://db: expected"),
        (&[], &[("TORCHPOD_LISTEN", url)], "--listen is set to something else"),
        (&[], &[("TORCHPOD_ON_FATAL", url)], "invalid value 'redis://***' for '--on-fatal"),
    ];
    for (arguments, variables, says) in table {
        let mut command = Command::new(BINARY);
        let output = command.arg("serve").args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says) && !stderr.contains("hunter2"), "{arguments:?} {variables:?}: {stderr}");
    }
}

#[test]
fn the_server_does_not_link_libtorch() {
    let _turn = Turn::shared();
    let output = Command::new("ldd").arg(BINARY).output().expect("ldd runs");
    let libraries = String::from_utf8(output.stdout).unwrap();
    assert!(libraries.contains("libc.so"), "{libraries}");
    assert!(!libraries.contains("torch") && !libraries.contains("c10"), "{libraries}");
}

#[test]
fn the_version_names_server_abi_engine_and_libtorch() {
    let turn = Turn::shared();
    let output = turn.run(&["--version"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for part in [concat!("torchpod ", env!("CARGO_PKG_VERSION")), "engine ABI ", "engine torch ", "libtorch 2.11.0"] {
        assert!(stdout.contains(part), "{part:?} in {stdout}");
    }
}

#[test]
fn help_is_no_failure_and_lists_the_flags() {
    let turn = Turn::shared();
    for (arguments, part) in [(vec!["--help"], "serve"), (vec!["serve", "--help"], "--drain-delay")] {
        let output = turn.run(&arguments);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), stdout.contains(part)), (Some(0), true), "{stdout}");
    }
}
