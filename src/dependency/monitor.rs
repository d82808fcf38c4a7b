//! Runs the checks, each dependency in a task of its own, and tells what has changed. Probes read what it has found and
//! never wait for a check.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::hysteresis::Hysteresis;
use super::resolve::Names;
use super::{Dependency, Pace};

/// A dependency went up or down, after as many results in a row as its pace asks for.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Its place in what `watch` was given.
    pub index: usize,
    pub up: bool,
    /// Why the last check failed, or that it passed.
    pub reason: &'a str,
}

/// What the checks of one dependency have found. Whether it is up is not told here: that follows from the changes.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: String,
    pub required: bool,
    /// Since the last check ended. `None` before the first has.
    pub age: Option<Duration>,
    /// How long the last check took, failed or not.
    pub latency: Option<Duration>,
    /// Why the last check failed, without credentials.
    pub error: Option<String>,
    pub succeeded: u64,
    pub failed: u64,
}

/// The end that reads. Dropped, the last clone ends the checks.
#[derive(Clone)]
#[must_use = "the checks end with it"]
pub struct Rx {
    watched: Arc<[Watched]>,
    _tasks: Arc<JoinSet<()>>,
}

struct Watched {
    name: String,
    required: bool,
    /// Held to copy in or out, never across a check.
    found: Mutex<Found>,
}

#[derive(Clone, Default)]
struct Found {
    ended: Option<Instant>,
    latency: Option<Duration>,
    error: Option<String>,
    succeeded: u64,
    failed: u64,
}

/// Checks every dependency at once and then at its pace, and calls `on_change` for each change, the first rise
/// included: what has not been checked yet counts as down. The report is up to date by then. Needs a tokio runtime.
///
/// `on_change` runs between two checks of its dependency, and must neither block nor panic.
pub fn watch(dependencies: Vec<Dependency>, on_change: impl Fn(Change<'_>) + Send + Sync + 'static) -> Rx {
    let watched = dependencies.iter().map(|dependency| Watched {
        name: dependency.name.clone(),
        required: dependency.required,
        found: Mutex::default(),
    });
    let watched: Arc<[Watched]> = watched.collect();
    let on_change = Arc::new(on_change);
    let mut tasks = JoinSet::new();
    for (index, dependency) in dependencies.into_iter().enumerate() {
        let (watched, on_change) = (watched.clone(), on_change.clone());
        let tell = move |up, reason: &str| on_change(Change { index, up, reason });
        tasks.spawn(async move { follow(dependency, &watched[index], tell).await });
    }
    Rx { watched, _tasks: Arc::new(tasks) }
}

impl Rx {
    /// What has been found so far, in the order that `watch` was given.
    pub fn reports(&self) -> Vec<Report> {
        self.watched.iter().map(Watched::report).collect()
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> Report {
        let Found { ended, latency, error, succeeded, failed } = self.lock().clone();
        let age = ended.map(|ended| ended.elapsed());
        Report { name: self.name.clone(), required: self.required, age, latency, error, succeeded, failed }
    }

    fn note(&self, result: Result<(), String>, latency: Duration) {
        let mut found = self.lock();
        found.ended = Some(Instant::now());
        found.latency = Some(latency);
        match result {
            Ok(()) => found.succeeded += 1,
            Err(_) => found.failed += 1,
        }
        found.error = result.err();
    }
}

/// Checks one dependency for ever.
async fn follow(dependency: Dependency, watched: &Watched, tell: impl Fn(bool, &str)) {
    let dependency = Arc::new(dependency);
    let names = Arc::new(Names::default());
    let mut hysteresis = Hysteresis::new(dependency.pace);
    let mut failures_before_first_rise = Some(0);
    loop {
        let started = Instant::now();
        let result = check(&dependency, &names).await;
        let latency = started.elapsed();
        if let Err(error) = &result {
            tracing::debug!(dependency = %dependency.name, error, ?latency, "check failed");
        }
        let change = hysteresis.record(result.is_ok());
        // It counts as down from the start, so that no transition tells of one that has never been up.
        failures_before_first_rise = failures_before_first_rise.filter(|_| change.is_none());
        if let (Some(failures), Err(error)) = (&mut failures_before_first_rise, &result) {
            *failures += 1;
            if *failures == dependency.pace.failures {
                let Dependency { name, required, .. } = &*dependency;
                tracing::warn!(dependency = %name, required, error, "no check has passed yet");
            }
        }
        let reason = result.as_ref().err().map_or("the check passed", String::as_str).to_owned();
        watched.note(result, latency);
        if let Some(up) = change {
            tell(up, &reason);
        }
        sleep_until(started + pause(dependency.pace)).await;
    }
}

/// A tenth at random, so that a fleet that started together does not ask together. It only shortens: a dependency that
/// goes is noticed within its time.
fn pause(pace: Pace) -> Duration {
    pace.interval.mul_f64(1.0 - fastrand::f64() / 10.0)
}

/// One check within its time. A task of its own, ended with this future: a panic in a client is a failed check, and not
/// the end of checking.
async fn check(dependency: &Arc<Dependency>, names: &Arc<Names>) -> Result<(), String> {
    let mut task = JoinSet::new();
    let (checked, names) = (dependency.clone(), names.clone());
    task.spawn(async move { checked.check(&names).await });
    let limit = dependency.pace.timeout;
    match timeout(limit, task.join_next()).await {
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
        Ok(Some(Ok(result))) => result,
        Ok(_) => Err("the check itself broke: a bug in torchpod or in its client".to_owned()),
    }
}
