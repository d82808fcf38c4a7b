//! Compiles the shim against libtorch's headers and leaves a run path to libtorch in the engine.

use std::path::PathBuf;

const SOURCES: [&str; 7] =
    ["allocator.cpp", "ear.cpp", "lane.cpp", "package.cpp", "script.cpp", "shim.cpp", "value.cpp"];
const HEADERS: [&str; 6] = ["allocator.h", "border.h", "ear.h", "lane.h", "model.h", "value.h"];

fn main() {
    for file in SOURCES.iter().chain(&HEADERS) {
        println!("cargo::rerun-if-changed=src/{file}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var("LIBTORCH").ok().map(PathBuf::from).and_then(|dir| dir.canonicalize().ok());
    let Some(libtorch) = libtorch.filter(|dir| dir.join("lib/libtorch_cpu.so").exists()) else {
        panic!("no libtorch at $LIBTORCH: run `make libtorch`, or point LIBTORCH at an unpacked torch 2.11.0");
    };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-isystem")
        .flag(libtorch.join("include"))
        .flag("-isystem")
        .flag(libtorch.join("include/torch/csrc/api/include"))
        .files(SOURCES.map(|file| format!("src/{file}")))
        .compile("torchpod_shim");
    println!("cargo::rustc-link-search=native={}", libtorch.join("lib").display());
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    println!("cargo::rustc-link-arg=-Wl,--as-needed");
    // A compiled package needs libtorch.so, which holds nothing and needs libtorch_cuda, without which a CPU host does well.
    // By this name the engine stands in for it: the loader asks for no file whose name is taken.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtorch.so");
}
