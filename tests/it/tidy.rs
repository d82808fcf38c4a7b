//! Rules that no compiler keeps: who imports whom, how long a file is, what is documented, and what a script leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::ROOT;

/// Who may import whom, as ARCHITECTURE.md says it. Every module has a row.
const IMPORTS: [(&str, &[&str]); 20] = [
    ("main", &["cli", "config", "app", "probe", "signal", "telemetry", "top"]),
    (
        "app",
        &[
            "api",
            "batch",
            "chaos",
            "cli",
            "config",
            "dependency",
            "engine",
            "grpc",
            "health",
            "http",
            "lifecycle",
            "model",
            "signal",
            "telemetry",
            "tensor",
        ],
    ),
    ("fuzz", &["api", "grpc", "http", "model", "tensor"]),
    ("http", &["api", "health", "batch", "model", "lifecycle", "tensor", "telemetry"]),
    ("grpc", &["api", "health", "batch", "model", "lifecycle", "tensor", "telemetry"]),
    ("api", &["engine", "health", "batch", "model", "lifecycle", "tensor", "telemetry"]),
    ("health", &["lifecycle", "dependency"]),
    ("probe", &["cli"]),
    ("top", &["cli", "probe", "signal"]),
    ("dependency", &[]),
    ("batch", &["model", "engine", "tensor", "lifecycle", "telemetry", "chaos"]),
    ("model", &["engine", "tensor"]),
    ("engine", &["tensor"]),
    ("config", &["cli", "chaos", "dependency", "engine", "lifecycle", "model", "telemetry"]),
    ("cli", &["telemetry"]),
    ("telemetry", &["lifecycle", "dependency"]),
    ("lifecycle", &[]),
    ("tensor", &[]),
    ("chaos", &[]),
    ("signal", &[]),
];

/// No runtime, no sockets: tested as tables.
const PURE: [&str; 11] = [
    "src/lifecycle/phase",
    "src/lifecycle/fault",
    "src/lifecycle/state",
    "src/dependency/hysteresis",
    "src/batch/pace",
    "src/batch/policy",
    "src/batch/waiting",
    "src/tensor",
    "src/model/spec",
    "src/model/row_wise",
    "src/engine/raised",
];

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

/// Every Rust file below the folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| Path::new(ROOT).join(folder)).collect();
    while let Some(folder) = open.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(ROOT).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(!found.is_empty(), "{folders:?} hold sources");
    found
}

impl Source {
    /// The numbered lines of code: no comments, and not the tests, which may use anything.
    fn code(&self) -> impl Iterator<Item = (String, &str)> {
        let lines = self.text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        let lines = lines.map(|(number, line)| (number, line.split("//").next().unwrap_or_default()));
        lines.map(|(number, line)| (format!("{}:{}", self.path, number + 1), line))
    }

    /// The module at the top of the tree that the file belongs to.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").expect("a source of the server");
        below.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

/// The words behind `prefix` in `line`: of `crate::{a::x, b}`, a and b.
fn named(line: &str, prefix: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |text: &str| text.trim().chars().take_while(|c| is_word(*c)).collect::<String>();
    let behind = line.match_indices(prefix).filter(|(place, _)| !line[..*place].ends_with(is_word));
    let behind = behind.map(|(place, prefix)| &line[place + prefix.len()..]);
    behind
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => top_level(group).iter().map(|item| word(item)).collect(),
            None => vec![word(rest)],
        })
        .filter(|word| word.starts_with(char::is_lowercase))
        .collect()
}

/// The items of `a::{x, y}, b}`, without what stands in inner braces.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ if depth == 0 => items.last_mut().expect("never empty").push(c),
            _ => {}
        }
    }
    items
}

fn holds_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|known| known == word)
}

fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| source.path != "src/lib.rs") {
        let row = IMPORTS.iter().find(|(module, _)| *module == source.module());
        let (module, allowed) = row.unwrap_or_else(|| panic!("{} has no row in IMPORTS", source.path));
        for (place, line) in source.code() {
            // The binary is another crate than the library.
            let prefix = if *module == "main" { "torchpod::" } else { "crate::" };
            let imported = named(line, prefix).into_iter().filter(|other| other != module);
            wrong.extend(
                imported
                    .filter(|other| !allowed.contains(&other.as_str()))
                    .map(|other| format!("{place}: {module} imports {other}")),
            );
            // From a file at the top of the tree, or from two levels down, this would be `crate` by another name.
            let escapes =
                line.contains("super::super::") || (source.path.matches('/').count() == 1 && line.contains("super::"));
            wrong.extend(escapes.then(|| format!("{place}: write crate:: instead of super::")));
        }
    }
    assert_none(&wrong, "ARCHITECTURE.md says who may import whom");
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    assert_eq!(named("use crate::{a, b::{x, y}, c::Z};", "crate::"), ["a", "b", "c"]);
    assert_eq!(named("fn f(x: crate::a::X) -> crate::b::Y", "crate::"), ["a", "b"]);
    assert_eq!(named("use my_crate::a; use crate::Phase;", "crate::"), [""; 0]);
}

#[test]
fn the_pure_modules_know_no_runtime() {
    let pure = sources(&["src"]).into_iter().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure)));
    let pure: Vec<_> = pure.collect();
    assert!(
        PURE.iter().all(|name| pure.iter().any(|source| source.path.starts_with(name))),
        "every pure module is there"
    );
    let impure = |line: &str| ["tokio", "axum", "tonic"].iter().any(|runtime| holds_word(line, runtime));
    let lines = pure.iter().flat_map(Source::code).filter(|(_, line)| impure(line));
    assert_none(
        &lines.map(|(place, line)| format!("{place}: {line}")).collect::<Vec<_>>(),
        "pure modules know no runtime",
    );
}

#[test]
fn only_the_engine_names_tch() {
    let sources = sources(&["src", "tests", "benches", "engines/abi"]);
    let tch = |line: &str| holds_word(line, "tch") || holds_word(line, "torch_sys");
    let others = sources.iter().filter(|source| source.path != "tests/it/tidy.rs");
    let lines = others.flat_map(Source::code).filter(|(_, line)| tch(line));
    let mut wrong: Vec<_> = lines.map(|(place, line)| format!("{place}: {line}")).collect();
    for manifest in ["Cargo.toml", "engines/abi/Cargo.toml"] {
        let named = dependencies(manifest).into_iter().filter(|name| name == "tch" || name == "torch-sys");
        wrong.extend(named.map(|name| format!("{manifest}: {name}")));
    }
    assert_none(&wrong, "only engines/torch names tch");
}

#[test]
fn files_are_short() {
    let sources = sources(&["src", "tests", "benches", "engines"]);
    let limit = |path: &str| if path == "src/main.rs" { 60 } else { 600 };
    let long = sources.iter().map(|source| (&source.path, source.text.lines().count()));
    let long = long.filter(|(path, lines)| *lines > limit(path));
    assert_none(&long.map(|(path, lines)| format!("{path}: {lines} lines")).collect::<Vec<_>>(), "split these");
}

#[test]
fn unsafe_stands_only_in_the_engines_and_their_loader() {
    let sources = sources(&["src", "tests", "benches"]);
    let others = sources.iter().filter(|source| !["src/engine/loader.rs", "tests/it/tidy.rs"].contains(&&*source.path));
    let lines = others
        .flat_map(|source| source.text.lines().map(|line| (&source.path, line.split("//").next().unwrap_or_default())));
    let lines = lines.filter(|(_, line)| holds_word(line, "unsafe") || line.contains("allow(unsafe_code)"));
    assert_none(&lines.map(|(path, line)| format!("{path}: {line}")).collect::<Vec<_>>(), "unsafe is for the loader");
}

/// Every crate that a manifest names.
fn dependencies(manifest: &str) -> Vec<String> {
    let table: toml::Table = read(manifest).parse().unwrap();
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let sections = sections.iter().filter_map(|section| table.get(*section)?.as_table());
    sections.flat_map(|section| section.keys().cloned()).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = read("CONTRIBUTING.md");
    let manifests = ["Cargo.toml", "engines/abi/Cargo.toml", "engines/torch/Cargo.toml"];
    let mut missing: Vec<_> = manifests.iter().flat_map(|manifest| dependencies(manifest)).collect();
    assert!(missing.len() > 20, "the manifests were read: {missing:?}");
    let crates: Vec<&str> = reasons.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    missing.retain(|name| crates.iter().filter(|cell| cell.contains(&format!("`{name}`"))).count() != 1);
    assert_none(&missing, "CONTRIBUTING.md gives no reason, or more than one, for");
}

#[test]
fn the_readme_names_the_first_verbs() {
    let readme = read("README.md");
    assert!(readme.contains("make serve") && readme.contains("make test"));
}

#[test]
fn the_images_are_built_from_files_that_are_there_and_from_all_that_cargo_wants() {
    let (dockerfile, ignored) = (read("Dockerfile"), read(".dockerignore"));
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|rest| !rest.starts_with("--"));
    let copied: Vec<&str> = lines
        .flat_map(|rest| rest.rsplit_once(' ').expect("COPY has a target").0.split(' '))
        .filter(|source| !source.contains('*'))
        .collect();
    assert!(copied.len() > 10, "the Dockerfile was read: {copied:?}");
    let seen: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let lies_in = |path: &str, folders: &[&str]| folders.iter().any(|folder| Path::new(path).starts_with(folder));

    let there = |path: &str| Path::new(ROOT).join(path).exists();
    let sources = copied.iter().filter(|path| !there(path) || !lies_in(path, &seen));
    assert_none(&sources.map(|path| (*path).to_owned()).collect::<Vec<_>>(), "not there, or ignored by .dockerignore");

    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let roots = ["test", "bench"].map(|kind| manifest[kind].as_array().unwrap().iter());
    let roots = roots.into_iter().flatten().map(|target| target["path"].as_str().unwrap());
    let missing = members.filter(|member| *member != ".").chain(roots).filter(|path| !lies_in(path, &copied));
    assert_none(&missing.map(str::to_owned).collect::<Vec<_>>(), "the Dockerfile copies nothing of");
}

#[test]
fn a_download_that_fails_leaves_nothing_half_done() {
    let scratch = TempDir::new().unwrap();
    let (scripts, cache, bin) =
        (scratch.path().join("scripts"), scratch.path().join("cache"), scratch.path().join("bin"));
    for folder in [&scripts, &cache, &bin] {
        fs::create_dir(folder).unwrap();
    }
    for file in ["libtorch", "libtorch-cpu.txt", "libtorch-cuda.txt"] {
        fs::copy(Path::new(ROOT).join("scripts").join(file), scripts.join(file)).unwrap();
    }
    // What a run that was killed has left, and a python3 whose download breaks off.
    fs::create_dir(cache.join(".incomplete.killed")).unwrap();
    let python = "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\nmkdir -p \"$2\"\necho half > \"$2/torch.whl\"\necho \"$2\" > \"${0%/*}/dest\"\nexit 1\n";
    fs::write(bin.join("python3"), python).unwrap();
    fs::set_permissions(bin.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();

    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(scripts.join("libtorch"));
    script.env_remove("LIBTORCH").env("PATH", path).env("TORCHPOD_CACHE", &cache);
    let output = script.output().unwrap();
    assert!(!output.status.success(), "{output:?}");

    let dest = fs::read_to_string(bin.join("dest")).expect("the download was tried");
    assert!(Path::new(dest.trim()).starts_with(&cache), "it was tried in the cache: {dest}");
    let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".lock"), "left in the cache: {left:?}");
    assert!(scratch.path().join(".libtorch").symlink_metadata().is_err(), ".libtorch was linked");
}
