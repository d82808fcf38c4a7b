//! The manifests in `k8s/`: rendered anew, checked against published schemas, and compared with what the lesson says.
//! They are read as any tool would read them, from `k8s/rendered`, which a test keeps fresh.

mod dashboard;
mod flag;
mod house;
mod lesson;
mod manifest;
mod pod;
mod readme;
mod render;
mod rules;
mod schema;
mod security;
mod traffic;
