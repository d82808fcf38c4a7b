//! Canaries, cutovers and their ways back: first what they decide, as tables, and then the program itself, on a cluster
//! of real servers under load.

mod decision;
mod pod;
mod property;
mod switch;
mod world;

mod bad;
mod cutover;
mod good;
mod lab;
mod refused;
mod rights;
mod stopped;
