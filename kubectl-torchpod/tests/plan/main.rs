//! Rollouts, predicted: against recordings of a real cluster, as properties, and as the command's users see them.

mod replay;
