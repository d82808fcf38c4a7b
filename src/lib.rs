//! torchpod serves PyTorch models over HTTP and gRPC and tells the kubelet the truth at every moment of its life.
//!
//! The modules in reading order: how it is asked (`cli`, `config`), how it lives (`lifecycle`, `dependency`, `health`),
//! what it serves (`tensor`, `model`, `engine`), how requests become batches (`batch`) and what trouble can be rehearsed
//! there (`chaos`), how they come in (`api`, `http`, `grpc`), what it tells (`telemetry`), the wiring (`app`) and what ends it
//! (`signal`), and the clients that ask it (`probe`, `top`).

pub mod cli;
pub mod config;

pub mod dependency;
pub mod health;
pub mod lifecycle;

pub mod engine;
pub mod model;
pub mod tensor;

pub mod batch;
pub mod chaos;

pub mod api;
pub mod grpc;
pub mod http;
pub mod telemetry;

/// Doors for the fuzz targets, and for nobody else.
#[doc(hidden)]
pub mod fuzz;

pub mod app;
pub mod probe;
pub mod signal;
pub mod top;
