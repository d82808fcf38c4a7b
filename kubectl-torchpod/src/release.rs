//! A new version on a running cluster, in reading order: what a Deployment and its pods are (`track`), what is
//! remembered (`record`), what a canary does next (`canary`), and the change that this comes to (`change`).

pub mod canary;
pub mod change;
pub mod record;
pub mod rehearsal;
mod size;
pub mod step;
pub mod track;
mod trouble;
