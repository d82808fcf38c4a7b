//! The cluster: its threads, and what somebody with kubectl does to it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment as Manifest;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubectl_torchpod::rollout::{Budget, Refused};
use tempfile::TempDir;

use crate::client::{ask, get_request};
use crate::deployment::{Deployment, Watched};
use crate::kubelet;
use crate::manifest::Rendered;
use crate::network::Network;
use crate::pod::Blueprint;
use crate::process::{Version, binary};
use crate::route::Route;
use crate::scale::Scale;
use crate::state::State;

/// Long enough for a loaded machine, short enough to end a test that hangs. (A full rollout takes two minutes.)
const PATIENCE: Duration = Duration::from_mins(5);

/// How long `kubectl drain` waits before it asks again for what was refused.
const RETRY: Duration = Duration::from_secs(5);

/// What all threads share.
pub struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    born: Instant,
    pub network: Network,
    pub scale: Scale,
    /// The port of a pod that the Service sends to.
    target: u16,
    logs: TempDir,
}

/// A cluster in which a file of `k8s/rendered` was applied. Dropped, it ends with all its pods.
pub struct Cluster {
    pub shared: Arc<Shared>,
    control: Option<thread::JoinHandle<()>>,
}

impl Cluster {
    /// Applies the file, all of it version 1, and waits until everything is available.
    pub fn with(rendered: &Rendered, scale: Scale) -> Cluster {
        Cluster::start(rendered, None, scale)
    }

    /// The same, with version 2 in one of the Deployments.
    pub fn with_new(rendered: &Rendered, new: &str, scale: Scale) -> Cluster {
        Cluster::start(rendered, Some(new), scale)
    }

    fn start(rendered: &Rendered, new: Option<&str>, scale: Scale) -> Cluster {
        binary();
        let service = rendered.service().spec.expect("a Service has a spec");
        let http = service.ports.iter().flatten().find(|port| port.name.as_deref() == Some("http"));
        let Some(IntOrString::Int(target)) = http.and_then(|port| port.target_port.clone()) else {
            panic!("the Service's port http goes to a number")
        };
        let target = u16::try_from(target).expect("a port");
        let budget = rendered.budget().and_then(|budget| {
            let spec = budget.spec?;
            let selector = spec.selector.as_ref()?.match_labels.clone()?;
            Some((selector, Budget::of(&spec)?))
        });
        let label =
            |one: &Manifest| if new.is_some_and(|new| one.metadata.name.as_deref() == Some(new)) { "v2" } else { "v1" };
        let deployment = |one: &Manifest| Deployment::new(one, Version::good(label(one)), scale);
        let deployments = rendered.deployments().iter().map(deployment).collect();
        let route = Route::new(service.selector.expect("it selects pods"));
        let logs = tempfile::tempdir().expect("a folder for logs");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(deployments, route, budget)),
            moved: Condvar::new(),
            born: Instant::now(),
            network: Network::new(&[target, 8081, 9090]),
            scale,
            target,
            logs,
        });
        let kept = shared.clone();
        let control = thread::Builder::new().name("control".to_owned()).spawn(move || control(&kept));
        let cluster = Cluster { shared, control: Some(control.expect("a thread starts")) };
        cluster.settle("everything that was applied is available");
        cluster.watch_anew();
        cluster
    }

    /// `kubectl set image`, with a change of the pod besides.
    pub fn update_with(&self, deployment: &str, version: Version, change: impl FnOnce(&mut Blueprint)) {
        self.on(deployment, |deployment, now| {
            let last = deployment.blueprints.last().expect("there is a first one");
            let mut blueprint = Blueprint { labels: last.labels.clone(), spec: last.spec.clone(), version };
            change(&mut blueprint);
            deployment.update(blueprint, now);
        });
    }

    pub fn update(&self, deployment: &str, version: Version) {
        self.update_with(deployment, version, |_| ());
    }

    /// `kubectl rollout undo`
    pub fn undo(&self, deployment: &str) {
        self.on(deployment, Deployment::undo);
    }

    /// `kubectl scale`
    pub fn scale(&self, deployment: &str, replicas: i32) {
        self.on(deployment, |deployment, _| deployment.spec.replicas = replicas);
    }

    /// `kubectl patch deployment … progressDeadlineSeconds`
    pub fn patch_deadline(&self, deployment: &str, deadline: Duration) {
        self.on(deployment, |deployment, _| deployment.spec.deadline = Some(deadline));
    }

    /// `kubectl patch service … selector`
    pub fn select(&self, key: &str, value: &str) {
        self.shared.change(|state, now| {
            state.route.selector.insert(key.to_owned(), value.to_owned());
            state.note(now, format!("the Service selects {key}: {value}"));
        });
    }

    pub fn evict(&self, pod: usize) -> Result<(), Refused> {
        self.shared.change(|state, now| state.evict(pod, now))
    }

    /// `kubectl drain`: no new pods, and all that are there leave, as fast as the budget lets them.
    pub fn drain(&self, node: usize) {
        self.shared.change(|state, _| state.nodes.cordon(node));
        let evict_all = |state: &mut State, now| {
            let pods = state.pods.iter().filter(|pod| pod.node == node && pod.stays());
            let ids: Vec<_> = pods.map(|pod| pod.id).collect();
            ids.into_iter().filter(|id| state.evict(*id, now).is_err()).count() == 0
        };
        while !self.shared.change(evict_all) {
            thread::sleep(RETRY / self.shared.scale.haste);
        }
    }

    fn on(&self, name: &str, act: impl FnOnce(&mut Deployment, Duration)) {
        self.shared.change(|state, now| {
            let found = state.deployments.iter_mut().find(|deployment| deployment.name == name);
            act(found.unwrap_or_else(|| panic!("there is no Deployment {name}")), now);
            state.note(now, format!("{name} is changed"));
        });
    }

    /// Waits until all is as wanted, what was to end has ended, and the rules say so.
    pub fn settle(&self, what: &str) {
        self.wait_until(what, State::is_settled);
    }

    /// Waits until all is as wanted and the rules say so, while what was to end may go on with that.
    pub fn wait_for_service(&self, what: &str) {
        self.wait_until(what, State::is_serving);
    }

    /// `kubectl rollout status`
    pub fn wait_for_rollout(&self, deployment: &str) {
        let index = self.look(|state| state.deployments.iter().position(|one| one.name == deployment));
        let index = index.unwrap_or_else(|| panic!("there is no Deployment {deployment}"));
        self.wait_until("the rollout is complete", |state, now| state.is_done(index, now));
    }

    pub fn wait_until(&self, what: &str, wanted: impl Fn(&State, Duration) -> bool) {
        let shared = &self.shared;
        let end = shared.now() + PATIENCE;
        let mut state = shared.lock();
        while !wanted(&state, shared.now()) {
            let left = end.saturating_sub(shared.now());
            assert!(!left.is_zero(), "{what}: that never came\n{}", state.journal());
            // Time alone changes something, too.
            state = shared.wait(state, left.min(Duration::from_millis(100)));
        }
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.shared.look(look)
    }

    pub fn deployment<T>(&self, name: &str, look: impl FnOnce(&Deployment) -> T) -> T {
        self.look(|state| look(state.deployments.iter().find(|one| one.name == name).expect("it is there")))
    }

    /// Forgets the least and the most of before.
    pub fn watch_anew(&self) {
        self.shared.change(|state, _| state.deployments.iter_mut().for_each(|one| one.watched = Watched::NOTHING));
    }

    pub fn assert_promise_was_kept(&self, name: &str) {
        let (spec, watched) = self.deployment(name, |one| (one.spec.clone(), one.watched));
        println!("{name}: {} to {} pods were promised; {watched:?}", spec.least(), spec.most());
        assert!(watched.least >= spec.least() && watched.most <= spec.most(), "{}", self.look(State::journal));
    }

    /// Every container that was told to end did so in time, with all that it had accepted answered.
    pub fn assert_all_ended_well(&self) {
        let wrong = self.look(|state| {
            let exits = state.pods.iter().flat_map(|pod| pod.exits.iter().map(move |exit| (pod.id, *exit)));
            exits.filter(|(_, exit)| exit.code != Some(0)).collect::<Vec<_>>()
        });
        assert!(wrong.is_empty(), "{wrong:?}\n{}", self.look(State::journal));
    }

    /// Asks `GET /` so many times, each on a connection of its own, and counts who answered.
    pub fn count(&self, connections: usize) -> BTreeMap<String, usize> {
        let mut chance = fastrand::Rng::with_seed(100);
        let mut counted = BTreeMap::new();
        for _ in 0..connections {
            let (_, address) = self.shared.pick(&mut chance).expect("the Service has pods");
            let answer = ask(address, &get_request("/")).expect("an answer");
            *counted.entry(answer.text().trim().to_owned()).or_default() += 1;
        }
        counted
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.shared.last_words());
        }
        self.shared.lock().closing = true;
        self.shared.moved.notify_all();
        let control = self.control.take().expect("it is dropped once");
        let ended = control.join();
        assert!(ended.is_ok() || thread::panicking(), "the cluster's control panicked");
    }
}

impl Shared {
    pub fn now(&self) -> Duration {
        self.born.elapsed()
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes something, and lets everybody see it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state, self.now());
        self.settle(&mut state);
        result
    }

    pub fn settle(&self, state: &mut State) {
        state.watch(self.now());
        self.moved.notify_all();
    }

    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.moved.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn log(&self, pod: usize) -> PathBuf {
        self.logs.path().join(format!("{pod}.log"))
    }

    /// The ends of the pods' logs.
    fn last_words(&self) -> String {
        let mut words = Vec::new();
        for pod in 0..self.look(|state| state.pods.len()) {
            words.push(format!("pod {pod}, the last line first:"));
            let log = fs::read_to_string(self.log(pod)).unwrap_or_default();
            words.extend(log.lines().rev().take(3).map(|line| format!("    {line}")));
        }
        words.join("\n")
    }

    /// A pod to which the rules send the next connection; none, where they refuse it.
    pub fn pick(&self, chance: &mut fastrand::Rng) -> Option<(usize, SocketAddr)> {
        self.look(|state| {
            let pod = &state.pods[*chance.choice(&state.route.rules)?];
            Some((pod.id, SocketAddr::from((pod.address, self.network.port(self.target)))))
        })
    }
}

/// The controllers and the rules, whenever something has changed; a kubelet for each new pod.
fn control(shared: &Arc<Shared>) {
    let mut kubelets = Vec::new();
    let mut state = shared.lock();
    while !state.closing {
        let now = shared.now();
        for id in state.reconcile(shared.network, now) {
            let own = shared.clone();
            let kubelet = thread::Builder::new().name(format!("kubelet of {id}")).spawn(move || kubelet::run(&own, id));
            kubelets.push(kubelet.expect("a thread starts"));
        }
        if state.sync_route(now) {
            shared.moved.notify_all();
        }
        let next = state.look_at(now).map_or(PATIENCE, |at| at.saturating_sub(now));
        state = shared.wait(state, next.max(Duration::from_millis(1)));
    }
    drop(state);
    for kubelet in kubelets {
        kubelet.join().expect("a kubelet does not panic");
    }
}
