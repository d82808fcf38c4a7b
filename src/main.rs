//! torchpod: parse, start, exit code.

use std::process::ExitCode;

use torchpod::app::{self, App, Exit, Listeners};
use torchpod::cli::{Command, EngineArgs, ServeArgs};
use torchpod::config::{self, Config};
use torchpod::{probe, signal, telemetry, top};

fn main() -> ExitCode {
    let cli = match config::file::parse() {
        Ok(cli) => cli,
        Err(error) if Exit::is_mistake(&error) => Exit::usage(&error).end(),
        Err(help) => help.exit(),
    };
    match cli.command {
        _ if cli.version => {
            print!("{}", app::versions(&cli.engine));
            Exit::clean().end()
        }
        Some(Command::Serve(args)) => serve(*args, &cli.engine).end(),
        Some(Command::Check(args)) => app::check(args, &cli.engine).end(),
        Some(Command::Probe(args)) => probe::run(&args),
        Some(Command::Top(args)) => top::run(&args),
        None => Exit::configuration("nothing to do; `torchpod serve --help` tells what there is").end(),
    }
}

fn serve(args: ServeArgs, engine: &EngineArgs) -> Exit {
    let termination_log = args.termination_log.clone();
    let run = || {
        let mut config = Config::new(args, engine).map_err(Exit::configuration)?;
        // Before the ports are open: a signal would end the process under those who have connected.
        let (terminate, abort) = signal::first_and_second().map_err(Exit::configuration)?;
        let listeners = Listeners::bind(&config)?;
        let bar = app::progress::bar(&config);
        let filter = std::mem::take(&mut config.log_filter);
        telemetry::log::init(config.log_format, filter, app::progress::Writer(bar.clone()));
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for warning in config::unknown_variables(variables).iter().chain(&config.warnings) {
            tracing::warn!("{warning}");
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        // By default a thread that reads a large body looks for others' events after 61 turns, which is 30 ms.
        runtime.worker_threads(config.io_threads).event_interval(16).enable_all();
        let runtime = runtime.build().map_err(Exit::configuration)?;
        let exit = runtime.block_on(async { Ok(App::build(config, listeners, bar)?.run(terminate, abort).await) });
        runtime.shutdown_background(); // Whatever still runs has missed the drain's deadline.
        exit
    };
    run().unwrap_or_else(|exit: Exit| exit).with_termination_log(termination_log)
}
