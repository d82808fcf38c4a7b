//! Findings for people, for programs, and for code scanning.

mod json;
mod sarif;
mod text;

use clap::ValueEnum;

use super::finding::Finding;
use crate::manifest::Manifests;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The source line, a caret, why, and what to do.
    Text,
    /// An object with `findings` and counts.
    Json,
    /// SARIF 2.1.0, as code scanning takes it.
    Sarif,
}

/// Everything that was found, as text in the format. Colours are for a terminal.
pub fn write(format: Format, manifests: &Manifests, findings: &[Finding], colours: bool) -> String {
    match format {
        Format::Text => text::text(manifests, findings, colours),
        Format::Json => json::json(manifests, findings),
        Format::Sarif => sarif::sarif(manifests, findings),
    }
}
