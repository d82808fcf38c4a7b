//! Keeps probes answered while the engine is being opened.
//!
//! Opening libtorch holds glibc's loader lock for 0.3 s on a warm machine and for many seconds on a cold one. Rust
//! registers a thread-local's destructor with `__cxa_thread_atexit_impl`, which takes that same lock, so that the first
//! use of any such thread-local on an I/O thread would stall its probes for as long. Where the function is absent, as
//! with other C libraries, the standard library keeps its own list without a lock: we make it absent for the executable.
//! Libraries still find glibc's. `tests/it` measures that probes stay quick.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let script = std::path::Path::new(&out).join("local-symbols");
    std::fs::write(&script, "{ local: __cxa_thread_atexit_impl; };\n").expect("OUT_DIR is writable");
    println!("cargo::rustc-link-arg-bins=-Wl,--defsym=__cxa_thread_atexit_impl=0");
    println!("cargo::rustc-link-arg-bins=-Wl,--version-script={}", script.display());
}
