//! What `build.rs` makes of `proto/inference.proto`.

#![allow(clippy::pedantic, unreachable_pub, missing_docs)] // Generated.

tonic::include_proto!("inference");

/// For reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("inference");
