//! The flags of `torchpod top`. Apart from those of `serve`: a client's, for people.

use clap::Args;

/// Look at running servers, one or many: what their consoles show, in a terminal
///
/// Keys: ? tells them, q ends. Without a terminal, or with --once, a table is printed instead. Exit codes: 0, or 1 where a
/// server of that table did not answer; 2 the flags are wrong.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Servers, such as `http://10.0.0.7:8080` or host:port; a name with several addresses, as a headless Service has, is all
    /// of them [default: the server of this environment, as `torchpod probe` finds it]
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,

    /// Print one table and end; each server is asked twice, --interval apart, since what happens in between is told
    #[arg(long)]
    pub once: bool,

    /// How often each server is asked
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub interval: String,

    /// How long an answer may take, from connecting to its last byte
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub timeout: String,
}
