//! The flags of `torchpod check`. Apart from those of `serve`: nothing is served.

use clap::Args;

use super::ModelArgs;

/// Load, prove and warm every model as serve does, and tell what was measured
///
/// Exit codes: 0 all of them can be served, 2 something in the folder or a flag is wrong, 3 a model failed.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub models: ModelArgs,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
