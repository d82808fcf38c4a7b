//! A new version on a running cluster, in reading order: what a Deployment and its pods are (`track`), what is
//! remembered (`record`), what a canary does next (`canary`), and the change that this comes to (`change`): all of it
//! pure. Around it, what asks the cluster (`api`, `find`, `gate`), who may (`hold`), and the loop (`drive`).

pub mod canary;
pub mod change;
pub mod cutover;
pub mod record;
pub mod rehearsal;
mod size;
pub mod step;
pub mod track;
mod trouble;

pub mod api;
pub mod drive;
pub mod error;
pub mod find;
pub mod front;
pub mod gate;
pub mod hold;
pub mod shift;
pub mod smoke;
pub mod status;
pub mod voice;
