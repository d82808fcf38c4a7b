//! The flags that say which models, and what of them their folders do not: those of `serve` and of `check`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Folder with <name>/<version>/model.pt below it, one model's own folder, or a .pt file
    #[arg(
        value_name = "MODELS_DIR|FILE.pt",
        hide_env_values = true,
        env = "TORCHPOD_MODELS",
        default_value = "models"
    )]
    pub models: PathBuf,

    /// The name of the one model, where it is not that of its file or folder
    #[arg(help_heading = "Models", long, value_name = "NAME", hide_env_values = true, env = "TORCHPOD_MODEL_NAME")]
    pub model_name: Option<String>,

    /// An input of a model without model.toml, such as image:FP32[-1,8,8]; once per input
    #[arg(
        help_heading = "Models",
        long = "input",
        value_name = "NAME:DTYPE[SHAPE]",
        hide_env_values = true,
        env = "TORCHPOD_INPUT",
        value_delimiter = ';'
    )]
    pub inputs: Vec<String>,

    /// Where models compute: cpu, cuda or cuda:1; auto leaves it to the model.toml, then takes a GPU if there is one
    #[arg(help_heading = "Models", long, hide_env_values = true, env = "TORCHPOD_DEVICE", default_value = "auto")]
    pub device: String,
}
