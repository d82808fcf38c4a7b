//! The flags of `torchpod check`. Apart from those of `serve`: nothing is served.

use std::path::PathBuf;

use clap::Args;

/// Load, prove and warm every model as serve does, and tell what was measured
///
/// Exit codes: 0 all of them can be served, 2 something in the folder or a flag is wrong, 3 a model failed.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Folder with <name>/<version>/model.pt below it, one model's own folder, or a .pt file
    #[arg(
        value_name = "MODELS_DIR|FILE.pt",
        hide_env_values = true,
        env = "TORCHPOD_MODELS",
        default_value = "models"
    )]
    pub models: PathBuf,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Where models compute, as for serve
    #[arg(long, hide_env_values = true, env = "TORCHPOD_DEVICE", default_value = "auto")]
    pub device: String,

    /// The name of the one model, where it is not that of its file or folder
    #[arg(long, value_name = "NAME", hide_env_values = true, env = "TORCHPOD_MODEL_NAME")]
    pub model_name: Option<String>,

    /// An input of a model without model.toml, such as image:FP32[-1,8,8]; once per input
    #[arg(
        long = "input",
        value_name = "NAME:DTYPE[SHAPE]",
        hide_env_values = true,
        env = "TORCHPOD_INPUT",
        value_delimiter = ';'
    )]
    pub inputs: Vec<String>,
}
