//! What a rule says.

use std::fmt;

use clap::ValueEnum;

use super::rule::Rule;
use crate::manifest::{Place, Spot};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Severity {
    /// Advice, or what was not looked at.
    Info,
    /// It works, and will hurt.
    Warning,
    /// It is refused, or never works.
    Error,
}

/// What is wrong where, without the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub spot: Spot,
    /// One line, without a full stop.
    pub what: String,
}

#[derive(Clone)]
pub struct Finding {
    pub rule: &'static Rule,
    pub found: Found,
}

impl Found {
    pub fn at(place: &Place<'_>, what: impl Into<String>) -> Found {
        Found { spot: place.spot(), what: what.into() }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}
