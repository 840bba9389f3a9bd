//! `berthd`: reads its settings, opens its state, answers until told to stop. Containers go on running without it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use berthd::accelerator::{self, Choice};
use berthd::api::{Api, Daemon, Listeners};
use berthd::config::{Flags, LogLevel, Settings};
use berthd::database::Database;
use berthd::engine::{Engine, EngineInfo};
use berthd::image::ImageStore;
use berthd::registry::Registries;
use berthd::roots::Roots;
use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match start(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berthd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> anyhow::Result<()> {
    let validate = flags.validate;
    let settings = Settings::resolve(flags)?;
    let registries = Registries::new(settings.registries.clone())?;
    let accelerator = accelerator::probe(&settings.qemu).choose(settings.accelerator)?;
    if validate {
        println!("configuration OK");
        return Ok(());
    }
    log_to_stderr(&settings);
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(run(settings, registries, accelerator))
}

async fn run(settings: Settings, registries: Registries, accelerator: Choice) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let roots = Roots::claim(&settings.data_root, &settings.exec_root, &settings.pidfile)?;
    let engine = open_engine(&settings, registries, accelerator).await?;
    let listeners = Listeners::bind(&settings.hosts).await?;
    announce(&settings, accelerator, &engine.info());
    let daemon = Daemon::new(engine.clone(), settings, accelerator);
    listeners.serve(Api::new(Arc::new(daemon)), stop).await;
    engine.finish_endings().await;
    tracing::info!("stopped; containers go on running");
    drop(roots);
    Ok(())
}

async fn open_engine(
    settings: &Settings,
    registries: Registries,
    accelerator: Choice,
) -> anyhow::Result<Engine> {
    let database = Database::open(&settings.data_root.join("berth.db"))?;
    let images = ImageStore::open(&settings.data_root.join("image"), database.clone())?;
    Ok(Engine::open(settings.for_engine(&accelerator), images, registries, database).await?)
}

fn log_to_stderr(settings: &Settings) {
    let level = if settings.debug { LogLevel::Debug } else { settings.log_level };
    // The libraries' own debug output would bury the daemon's.
    let filter = match level {
        LogLevel::Debug => "info,berthd=debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error | LogLevel::Fatal => "error",
    };
    let colours = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt().with_ansi(colours).with_writer(std::io::stderr);
    format.with_env_filter(EnvFilter::new(filter)).init();
}

/// Every machine and every client takes a few descriptors; the usual soft limit of 1024 is for programs that use
/// `select`.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

fn announce(settings: &Settings, accelerator: Choice, engine: &EngineInfo) {
    let name = accelerator::name(accelerator.accelerator);
    tracing::info!(accelerator = name, reason = accelerator.reason, jail = engine.jail.name(), "machines");
    for warning in engine.network_warning.iter().chain(&engine.jail_warnings) {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = accelerator::warning(accelerator.accelerator) {
        tracing::warn!("{}", warning.trim_start_matches("WARNING: "));
    }
    for host in &settings.hosts {
        tracing::info!(%host, "API listens");
    }
}
