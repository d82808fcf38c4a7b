//! What the plugin does, in reading order: manifests are read (`manifest`), seen as one whole (`cluster`), and judged
//! rule by rule (`lint`); what a rollout of them will do is computed (`rollout`) and told (`plan`); a canary is compared with
//! stable (`judge`).

pub mod manifest;
pub mod quantity;

pub mod cluster;

pub mod flagger;
pub mod qos;
pub mod server;

pub mod plan;
pub mod release;
pub mod rollout;

pub mod judge;

pub mod cli;
pub mod lint;
