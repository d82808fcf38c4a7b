//! What a build that counts is sent (`scripts/dist`): requests that real users send, which all succeed.

use std::process::Command;

use crate::support::{BINARY, ROOT, Turn};

#[test]
fn what_a_build_that_counts_is_sent_succeeds() {
    let _turn = Turn::alone();
    let folder = tempfile::tempdir().expect("a folder for its files");
    let mut script = Command::new("scripts/requests");
    let script = script.arg(BINARY).arg(folder.path()).arg("500ms").current_dir(ROOT).output().expect("it is there");
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
}
