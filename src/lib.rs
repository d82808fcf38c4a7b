//! torchpod serves PyTorch models over HTTP and tells the kubelet the truth at every moment of its life.
//!
//! The modules in reading order: how it is asked (`cli`, `config`), how it lives (`lifecycle`, `health`), what it leans on
//! (`dependency`), what it serves (`tensor`, `model`, `engine`), how requests become batches (`batch`), how they come in
//! (`http`), what it tells (`telemetry`), and the wiring (`app`).

pub mod cli;
pub mod config;

pub mod health;
pub mod lifecycle;

pub mod dependency;

pub mod engine;
pub mod model;
pub mod tensor;

pub mod batch;
pub mod chaos;

pub mod http;
pub mod telemetry;

pub mod app;
pub mod signal;
