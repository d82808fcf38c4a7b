//! Models: what is on disk, what it promises, and a loaded version that has proved it.

pub mod archive;
pub mod digest;
pub mod golden;
pub mod named;
pub mod package;
mod processor;
pub mod repository;
pub mod row_wise;
pub mod spec;
pub mod version;

pub use spec::Spec;
pub use version::Version;
