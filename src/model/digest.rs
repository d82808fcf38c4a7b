//! What a file holds, as a number that no other file has: SHA-256, as `sha256sum` prints it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// That of the file at `path`, which is read once, a piece at a time.
pub fn of(path: &Path) -> io::Result<Digest> {
    /// Large enough that reading costs nothing beside hashing, small enough for a core's cache.
    const PIECE: usize = 256 << 10;
    let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Digest(hasher.finalize().into())),
            Ok(read) => hasher.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Which file lies at a path, and since when it is as it is: device, inode, bytes, and the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([u64; 3], i64, i64);

/// That of the file at `path` now; `None` where it cannot be told.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some(Stamp([file.dev(), file.ino(), file.size()], file.mtime(), file.mtime_nsec()))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_sha256sum_prints() {
        let folder = tempfile::tempdir().unwrap();
        let (known, long) = (folder.path().join("known"), folder.path().join("long"));
        std::fs::write(&known, "abc").unwrap();
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&known).unwrap().to_string(), expected);
        // More than one piece, and not a whole number of them: a million times "a" is a published vector.
        std::fs::write(&long, "a".repeat(1_000_000)).unwrap();
        let expected = "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(of(&long).unwrap().to_string(), expected);
        assert_eq!(of(&folder.path().join("gone")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_stamp_tells_another_file_in_the_same_place() {
        let folder = tempfile::tempdir().unwrap();
        let (here, coming) = (folder.path().join("here"), folder.path().join("coming"));
        assert_eq!(stamp(&here), None);
        std::fs::write(&here, "abc").unwrap();
        let before = stamp(&here);
        assert!(before.is_some() && stamp(&here) == before);
        std::fs::write(&coming, "xyz").unwrap();
        std::fs::rename(&coming, &here).unwrap();
        assert_ne!(stamp(&here), before);
    }
}
