//! Folders as people lay them out, and what is said of those that cannot be served.

use super::*;
use crate::model::spec;

const TOML: &str = "[[inputs]]\nname = \"x\"\ndtype = \"FP32\"\nshape = [-1, 4]\n";
const OUTPUT: &str = "[[outputs]]\nname = \"y\"\ndtype = \"FP32\"\nshape = [-1, 3]\n";

fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

fn named(name: &str) -> Given {
    Given { model_name: Some(name.to_owned()), ..Given::default() }
}

fn ids(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| format!("{}@{}", found.name, found.version)).collect()
}

fn find_ids(path: &Path, given: &Given) -> Vec<String> {
    ids(&find(path, given).unwrap())
}

#[test]
fn each_model_is_found_in_its_highest_version() {
    let root = repository(&[
        ("a/model.toml", TOML),
        ("a/9/model.pt", ""),
        ("a/10/model.pt", ""),
        ("a/notes/model.pt", ""),
        ("b/model.toml", TOML),
        ("b/1/model.pt", ""),
        (".hidden/1/model.pt", ""),
        ("README.md", ""),
    ]);
    assert_eq!(find_ids(root.path(), &Given::default()), ["a@10", "b@1"]);
}

#[test]
fn a_version_may_have_zeros_in_front_and_be_there_once() {
    let root = repository(&[("a/model.toml", TOML), ("a/007/model.pt", ""), ("a/+9/model.pt", "")]);
    assert_eq!(find_ids(root.path(), &Given::default()), ["a@7"]);
    let root = repository(&[("a/model.toml", TOML), ("a/7/model.pt", ""), ("a/007/model.pt", "")]);
    for error in [find(root.path(), &Given::default()), find_one(root.path(), "a", &Given::default())] {
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("a/007/model.pt and ") && error.contains("a/7/model.pt are the same version"),
            "{error}"
        );
    }
}

#[test]
fn a_rule_chooses_among_the_versions() {
    let versions = |rule: &str| {
        let toml = format!("{rule}\n{TOML}");
        repository(&[("a/model.toml", &toml), ("a/2/model.pt", ""), ("a/10/model.pt", ""), ("a/3/model.pt", "")])
    };
    for (rule, expected) in [
        ("versions = \"latest\"", &["a@10"][..]),
        ("versions = \"all\"", &["a@2", "a@3", "a@10"]),
        ("versions = [10, 2]", &["a@2", "a@10"]),
    ] {
        assert_eq!(find_ids(versions(rule).path(), &Given::default()), expected, "{rule}");
    }
    let error = find(versions("versions = [3, 4]").path(), &Given::default()).unwrap_err().to_string();
    assert!(error.contains("versions names 4, but only 2, 3, 10 have a model.pt, at line 1 in "), "{error}");
}

#[test]
fn a_package_serves_where_there_is_nothing_else_or_the_model_toml_wants_it() {
    let of = |line: &str, files: &[&str]| {
        let toml = format!("{line}\n{TOML}");
        let files: Vec<_> = files.iter().map(|file| (*file, "")).collect();
        let root = repository(&[&[("a/model.toml", toml.as_str())], &files[..]].concat());
        let found = find(root.path(), &Given::default()).unwrap();
        found[0].file.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned()
    };
    let both = ["a/1/model.pt", "a/1/model.pt2"];
    assert_eq!(of("", &both[1..]), "a/1/model.pt2");
    assert_eq!(of("", &both), "a/1/model.pt");
    assert_eq!(of("format = \"torchscript\"", &both), "a/1/model.pt");
    assert_eq!(of("format = \"aoti\"", &both), "a/1/model.pt2");
    // What is wanted and not there is told when the file is read.
    assert_eq!(of("format = \"aoti\"", &both[..1]), "a/1/model.pt");
    // KServe's flat folder is one model, and a file that somebody names is that file.
    let toml = format!("format = \"aoti\"\n{TOML}");
    let root = repository(&[("model.pt", ""), ("model.pt2", ""), ("model.toml", &toml)]);
    let file = |path: &std::path::Path| find(path, &Given::default()).unwrap()[0].file.clone();
    assert_eq!(file(root.path()), root.path().join("model.pt2"));
    assert_eq!(file(&root.path().join("model.pt")), root.path().join("model.pt"));
}

#[test]
fn a_single_file_in_a_repository_keeps_its_name_and_version() {
    let toml = format!("versions = [9]\n{TOML}");
    let root = repository(&[("digits/model.toml", &toml), ("digits/3/model.pt", ""), ("flat/net.pt", "")]);
    let file = root.path().join("digits/3/model.pt");
    assert_eq!(find_ids(&file, &Given::default()), ["digits@3"]);
    assert_eq!(find_ids(&file, &named("mine")), ["mine@3"]);
    let inputs = vec![spec::parse_input("x:FP32[-1,4]").unwrap()];
    let found = find(&root.path().join("flat/net.pt"), &Given { inputs, model_name: None }).unwrap();
    assert_eq!((ids(&found), found[0].spec.inputs.len()), (vec!["net@1".to_owned()], 1));
}

#[test]
fn a_folder_that_is_a_model_itself_may_be_named() {
    let root =
        repository(&[("flat/model.pt", ""), ("flat/model.toml", TOML), ("deep/7/model.pt", ""), ("b/1/x.pt", "")]);
    for (folder, version) in [("flat", "1"), ("deep", "7")] {
        let path = root.path().join(folder);
        assert_eq!(find_ids(&path, &Given::default()), [format!("{folder}@{version}")]);
        assert_eq!(find_ids(&path, &named("net")), [format!("net@{version}")]);
        std::fs::create_dir_all(path.join("7")).unwrap();
        assert_eq!(find_ids(&path.join("7/.."), &Given::default()), [format!("{folder}@{version}")]);
        assert_eq!(ids(&find_one(&path, "net", &named("net")).unwrap()).len(), 1);
        assert_eq!(ids(&find_one(&path, folder, &named("net")).unwrap()).len(), 0);
    }
    let error = find(root.path(), &named("net")).unwrap_err();
    assert!(error.to_string().starts_with("--model-name net names a single model"), "{error}");
}

#[test]
fn a_model_that_nothing_describes_has_no_inputs() {
    let root = repository(&[("a/1/model.pt", "")]);
    assert!(find(root.path(), &Given::default()).unwrap()[0].spec.inputs.is_empty());
}

#[test]
fn what_is_wrong_is_reported_for_all_models_at_once_with_file_and_line() {
    let golden = format!("{TOML}{OUTPUT}[golden]\nfile = \"gone.json\"\n");
    let labels = format!("{TOML}{OUTPUT}labels = \"labels\"\n[golden]\nfile = \"golden\"\n");
    let root = repository(&[
        ("a/model.toml", "[[inputs]]\nname = 1\n"),
        ("a/1/model.pt", ""),
        ("b/model.toml", TOML),
        ("c/model.toml", &golden),
        ("c/1/model.pt", ""),
        ("d/model.toml", &labels),
        ("d/labels", "one\ntwo\n"),
        ("d/golden", r#"{"inputs": {"x": [[1, 2]]}, "outputs": {"y": [[1, 2, 3]]}}"#),
        ("d/1/model.pt", ""),
    ]);
    let error = find(root.path(), &Given::default()).unwrap_err().to_string();
    let root = root.path().display();
    for part in [
        format!("at line 2 in {root}/a/model.toml"),
        format!("{root}/b holds no version of a model"),
        format!("{root}/c/gone.json: cannot be read (No such file"),
        format!("it is named at line 10 in {root}/c/model.toml"),
        format!("{root}/d/labels: y: 2 labels for 3 numbers a row; it is named at line 9 in {root}/d/model.toml"),
        format!("{root}/d/golden: x: shape [1, 2], expected [-1, 4]"),
        format!("it is named at line 11 in {root}/d/model.toml"),
    ] {
        assert!(error.contains(&part), "{part} in {error}");
    }
}

#[test]
fn nothing_there_is_said_in_so_many_words() {
    let root = tempfile::tempdir().unwrap();
    let given = Given::default();
    assert!(matches!(find(root.path(), &given).unwrap_err(), Error::Empty { .. }));
    assert!(matches!(find(&root.path().join("gone"), &given).unwrap_err(), Error::Missing { .. }));
}

#[test]
fn one_model_is_found_again_by_its_name_and_no_name_leads_elsewhere() {
    let root = repository(&[
        ("models/a/model.toml", TOML),
        ("models/a/1/model.pt", ""),
        ("models/broken/model.toml", "nonsense"),
        ("models/broken/1/model.pt", ""),
        ("models/empty/notes.txt", ""),
        ("secret/model.toml", TOML),
        ("secret/1/model.pt", ""),
    ]);
    let (models, given) = (root.path().join("models"), Given::default());
    assert_eq!(ids(&find_one(&models, "a", &given).unwrap()), ["a@1"], "whatever is wrong with another");
    for name in ["../secret", "..", ".", "", "a/1", "gone", &root.path().join("secret").to_string_lossy()] {
        assert!(find_one(&models, name, &given).unwrap().is_empty(), "{name:?}");
    }
    assert!(matches!(find_one(&models, "broken", &given).unwrap_err(), Error::Invalid(_)));
    assert!(matches!(find_one(&models, "empty", &given).unwrap_err(), Error::NoVersion { .. }));
}
