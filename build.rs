//! Writes the Rust of `proto/`, and keeps probes answered while the engine is being opened.
//!
//! Opening libtorch holds glibc's loader lock for 0.3 s on a warm machine and for many seconds on a cold one. Rust
//! registers a thread-local's destructor with `__cxa_thread_atexit_impl`, which takes that same lock, so that the first
//! use of any such thread-local on an I/O thread would stall its probes for as long. Where the function is absent, as
//! with other C libraries, the standard library keeps its own list without a lock: we make it absent for the executable.
//! Libraries still find glibc's. `tests/it` measures that probes stay quick.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);

    let script = out.join("local-symbols");
    std::fs::write(&script, "{ local: __cxa_thread_atexit_impl; };\n").expect("OUT_DIR is writable");
    println!("cargo::rustc-link-arg-bins=-Wl,--defsym=__cxa_thread_atexit_impl=0");
    println!("cargo::rustc-link-arg-bins=-Wl,--version-script={}", script.display());

    let mut proto = protox::Compiler::new(["proto"]).expect("proto is a folder");
    proto.open_file("inference.proto").expect("proto/inference.proto is right");
    std::fs::write(out.join("inference.bin"), proto.encode_file_descriptor_set()).expect("OUT_DIR is writable");
    tonic_prost_build::configure()
        // Raw tensors are slices of the message that brought them.
        .bytes(".")
        .compile_fds(proto.file_descriptor_set())
        .expect("OUT_DIR is writable");
}
