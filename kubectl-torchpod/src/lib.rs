//! What the plugin does, in reading order: manifests are read (`manifest`), seen as one whole (`cluster`), and judged
//! rule by rule (`lint`).

pub mod manifest;
pub mod quantity;

pub mod cluster;

pub mod flagger;
pub mod qos;
pub mod server;

pub mod cli;
pub mod lint;
