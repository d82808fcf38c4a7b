//! Rollouts, predicted: against recordings of a real cluster, as properties, and as the command's users see them.

mod command;
mod probe;
mod property;
mod replay;
mod strategy;
