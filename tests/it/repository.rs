//! Folders as `KServe` mounts them and as people grow them: which model is served, and under which name.

use std::fs;

use serde_json::json;

use crate::client::{self, JSON};
use crate::models::Repository;
use crate::support::{Server, Turn};

/// `name@version` as an answer has it.
fn answers(server: &Server<'_>) -> String {
    let answer = client::predict(server.address, JSON, json!({"inputs": [[1, 2, 3]]}).to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    format!("{}@{}", answer["model"].as_str().unwrap(), answer["version"].as_str().unwrap())
}

#[test]
fn a_flat_folder_is_one_model_whose_name_the_command_line_the_environment_or_a_file_gives() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["row_sum"]));
    let folder = repository.folder("row_sum");
    fs::rename(folder.join("1/model.pt"), folder.join("model.pt")).unwrap();
    let (models, config) = (folder.to_str().unwrap(), folder.join("torchpod.toml"));
    fs::write(&config, "model-name = 'from-a-file'").unwrap();

    assert_eq!(answers(&turn.serve(&[models])), "row_sum@1");
    assert_eq!(answers(&turn.serve(&[models, "--model-name", "net"])), "net@1");
    let server = turn.serve(&[models, "--input", "x:FP32[-1,4]"]);
    server.log.wait_for("a flag that is not used is named", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("--input is not used"))
    });
    assert_eq!(answers(&turn.serve(&[models, "--config", config.to_str().unwrap()])), "from-a-file@1");
    let server = turn.start_with(&[("TORCHPOD_MODEL_NAME", "from-outside")], &[models]);
    server.wait_until("serving");
    assert_eq!(answers(&server), "from-outside@1");
}

#[test]
fn the_highest_of_the_versions_that_a_rule_wants_answers() {
    let (turn, repository) = (Turn::shared(), Repository::odd(&["row_sum"]));
    let folder = repository.folder("row_sum");
    let toml = fs::read_to_string(folder.join("model.toml")).unwrap();
    for version in ["2", "10"] {
        fs::create_dir(folder.join(version)).unwrap();
        fs::copy(folder.join("1/model.pt"), folder.join(version).join("model.pt")).unwrap();
    }
    for (rule, expected) in [("\"latest\"", "row_sum@10"), ("\"all\"", "row_sum@10"), ("[1, 2]", "row_sum@2")] {
        fs::write(folder.join("model.toml"), format!("versions = {rule}\n{toml}")).unwrap();
        assert_eq!(answers(&turn.serve(&[repository.path()])), expected, "{rule}");
    }
}
