//! The judge of a canary: what it reads, what it compares, and how often it errs in whole runs.

mod dice;
mod run;
mod verdict;
mod window;
mod world;
