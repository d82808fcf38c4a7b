//! The cluster: its threads, and what somebody with kubectl does to it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment as Manifest;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::balancer::Balancer;
use crate::client::{ask, get_request};
use crate::deployment::{Deployment, Watched};
use crate::kubelet;
use crate::manifest::Rendered;
use crate::network::Network;
use crate::object::{self, Problem};
use crate::process::{Version, binary};
use crate::scale::Scale;
use crate::service::Service;
use crate::state::{Evicted, State};

/// Long enough for a loaded machine, short enough to end a test that hangs. (A full rollout takes two minutes.)
const PATIENCE: Duration = Duration::from_mins(5);

/// How long `kubectl drain` waits before it asks again for what was refused.
const RETRY: Duration = Duration::from_secs(5);

/// What all threads share.
pub(crate) struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    /// The same as `moved`, for those who wait without a thread.
    pub(crate) turn: watch::Sender<()>,
    born: Instant,
    pub(crate) network: Network,
    pub(crate) scale: Scale,
    pub(crate) balancer: Balancer,
    /// Services by their shares of connections, where a router in front of them has been told.
    shares: Mutex<Vec<(String, u32)>>,
    logs: TempDir,
}

/// A cluster in which a file of `k8s/rendered` was applied. Dropped, it ends with all its pods.
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
    control: Option<thread::JoinHandle<()>>,
}

impl Cluster {
    /// Applies the file, all of it version 1, and waits until everything is available.
    pub fn with(rendered: &Rendered, scale: Scale) -> Cluster {
        Cluster::applied(rendered, None, scale)
    }

    /// The same, with version 2 in one of the Deployments.
    pub fn with_new(rendered: &Rendered, new: &str, scale: Scale) -> Cluster {
        Cluster::applied(rendered, Some(new), scale)
    }

    fn applied(rendered: &Rendered, new: Option<&str>, scale: Scale) -> Cluster {
        let cluster = Cluster::empty(scale);
        cluster.make(rendered, new);
        cluster.settle("everything that was applied is available");
        cluster.watch_anew();
        cluster
    }

    /// Two nodes, the namespaces `default` and `kube-system`, and the images `torchpod:0.1.0` and `torchpod:0.2.0`.
    pub fn empty(scale: Scale) -> Cluster {
        binary();
        let network = Network::new(&[8080, 8081, 9090]);
        let mut state = State::new(network);
        for (tag, label) in [("0.1.0", "v1"), ("0.2.0", "v2")] {
            state.images.insert(format!("torchpod:{tag}"), Version::good(label));
        }
        for namespace in ["default", "kube-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            object::create(&mut state, namespace, Duration::ZERO).expect("a new one");
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            moved: Condvar::new(),
            turn: watch::Sender::new(()),
            born: Instant::now(),
            network,
            scale,
            balancer: Balancer::new(network.services()),
            shares: Mutex::default(),
            logs: tempfile::tempdir().expect("a folder for logs"),
        });
        let kept = shared.clone();
        let control = thread::Builder::new().name("control".to_owned()).spawn(move || control(&kept));
        Cluster { shared, control: Some(control.expect("a thread starts")) }
    }

    /// Makes every object of a file, but for those that this cluster does not know.
    pub fn apply(&self, rendered: &Rendered) {
        self.make(rendered, None);
    }

    fn make(&self, rendered: &Rendered, new: Option<&str>) {
        for mut value in rendered.objects() {
            if value["kind"] == "Deployment" {
                let spec = &mut value["spec"];
                let replicas = spec["replicas"].as_i64().unwrap_or(1).min(i64::from(self.shared.scale.most));
                spec["replicas"] = json!(replicas);
                if new.is_some_and(|new| value["metadata"]["name"] == new) {
                    value["spec"]["template"]["spec"]["containers"][0]["image"] = json!("torchpod:0.2.0");
                }
            }
            let name = format!("{} {}", value["kind"], value["metadata"]["name"]);
            self.shared.change(|state, now| match object::create(state, value, now) {
                Ok(_) => {}
                Err(Problem::UnknownKind | Problem::NotAllowed) => state.note(now, format!("{name} is not for us")),
                Err(problem) => panic!("{name}: {problem}"),
            });
        }
    }

    /// What an image holds from now on; one that nobody knows cannot be pulled.
    pub fn register(&self, image: &str, version: Version) {
        self.shared.change(|state, _| state.images.insert(image.to_owned(), version));
    }

    /// `kubectl set image`, with a change of the pod besides.
    pub fn update_with(&self, deployment: &str, version: Version, change: impl FnOnce(&mut PodSpec)) {
        let image = format!("torchpod:{}", version.label);
        self.register(&image, version);
        self.on(deployment, |object| {
            let pod = object.spec.template.spec.as_mut().expect("a pod has a spec");
            pod.containers[0].image = Some(image);
            change(pod);
        });
    }

    pub fn update(&self, deployment: &str, version: Version) {
        self.update_with(deployment, version, |_| ());
    }

    /// `kubectl rollout undo`
    pub fn undo(&self, deployment: &str) {
        self.with_deployment(deployment, Deployment::undo);
    }

    /// `kubectl scale`
    pub fn scale(&self, deployment: &str, replicas: i32) {
        self.on(deployment, |object| object.spec.replicas = Some(replicas));
    }

    /// `kubectl patch deployment … progressDeadlineSeconds`
    pub fn patch_deadline(&self, deployment: &str, deadline: Duration) {
        let seconds = i32::try_from(deadline.as_secs()).expect("no such long deadline");
        self.on(deployment, |object| object.spec.progress_deadline_seconds = Some(seconds));
    }

    /// `kubectl patch service … selector`
    pub fn select(&self, key: &str, value: &str) {
        self.shared.change(|state, now| {
            let service = state.services.first_mut().and_then(|service| service.object.spec.as_mut());
            let selector = service.and_then(|spec| spec.selector.as_mut()).expect("there is a Service, and it selects");
            selector.insert(key.to_owned(), value.to_owned());
            state.note(now, format!("the Service selects {key}: {value}"));
        });
    }

    /// Has a router in front of the Services share connections among them.
    pub fn share(&self, shares: &[(&str, u32)]) {
        let shares: Vec<_> = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        self.shared.change(|state, now| state.note(now, format!("connections are shared: {shares:?}")));
        *self.shared.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
    }

    /// `kubectl create`
    pub fn create(&self, value: Value) {
        self.shared
            .change(|state, now| object::create(state, value, now).unwrap_or_else(|problem| panic!("{problem}")));
    }

    pub fn evict(&self, pod: usize) -> Result<(), Evicted> {
        self.shared.change(|state, now| state.evict(pod, now))
    }

    /// `kubectl drain`: no new pods, and all that are there leave, as fast as the budget lets them.
    pub fn drain(&self, node: usize) {
        self.shared.change(|state, _| state.nodes.cordon(node));
        let evict_all = |state: &mut State, now| {
            let pods = state.pods.iter().filter(|pod| pod.node == Some(node) && pod.stays());
            let ids: Vec<_> = pods.map(|pod| pod.id).collect();
            ids.into_iter().filter(|id| state.evict(*id, now).is_err()).count() == 0
        };
        while !self.shared.change(evict_all) {
            thread::sleep(RETRY / self.shared.scale.haste);
        }
    }

    fn on(&self, name: &str, change: impl FnOnce(&mut Manifest)) {
        self.with_deployment(name, |deployment, now| {
            let mut object = deployment.object.clone();
            change(&mut object);
            deployment.write(object, now);
        });
    }

    fn with_deployment(&self, name: &str, act: impl FnOnce(&mut Deployment, Duration)) {
        self.shared.change(|state, now| {
            let index = state.deployment(name).unwrap_or_else(|| panic!("there is no Deployment {name}"));
            act(&mut state.deployments[index], now);
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
        let index = self.look(|state| state.deployment(deployment));
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
        self.look(|state| look(&state.deployments[state.deployment(name).expect("it is there")]))
    }

    /// Forgets the least and the most of before.
    pub fn watch_anew(&self) {
        self.shared.change(|state, _| state.deployments.iter_mut().for_each(|one| one.watched = Watched::NOTHING));
    }

    pub fn assert_promise_was_kept(&self, name: &str) {
        let (spec, watched) = self.deployment(name, |one| (one.spec(), one.watched));
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
    pub(crate) fn now(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes something, and lets everybody see it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state, self.now());
        self.settle(&mut state);
        result
    }

    pub(crate) fn settle(&self, state: &mut State) {
        state.watch(self.now());
        self.tell(state);
    }

    /// Wakes everybody who waits for something.
    fn tell(&self, state: &mut State) {
        state.changed = true;
        self.moved.notify_all();
        self.turn.send_replace(());
    }

    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.moved.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn log(&self, pod: usize) -> PathBuf {
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

    /// The Service that the next connection is for.
    fn service<'a>(&self, state: &'a State, chance: &mut fastrand::Rng) -> Option<&'a Service> {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = shares.iter().map(|(_, share)| share).sum();
        let mut left = chance.u32(0..all.max(1));
        let chosen = shares.iter().find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        chosen.map_or(state.services.first(), |(name, _)| state.services.iter().find(|service| service.name() == name))
    }

    /// A pod to which the rules send the next connection; none, where they refuse it.
    pub(crate) fn pick(&self, chance: &mut fastrand::Rng) -> Option<(usize, SocketAddr)> {
        self.look(|state| {
            let service = self.service(state, chance)?;
            let http = service.ports().iter().find(|port| port.name.as_deref() == Some("http"));
            state.pick(service, http.or(service.ports().first())?, chance)
        })
    }
}

/// The controllers and the rules, whenever something has changed; a kubelet for each new pod.
fn control(shared: &Arc<Shared>) {
    let mut kubelets = Vec::new();
    let mut state = shared.lock();
    while !state.closing {
        let now = shared.now();
        for id in state.reconcile(now) {
            let own = shared.clone();
            let kubelet = thread::Builder::new().name(format!("kubelet of {id}")).spawn(move || kubelet::run(&own, id));
            kubelets.push(kubelet.expect("a thread starts"));
        }
        state.sync_routes(now);
        shared.tell(&mut state);
        let next = state.look_at(now).map_or(PATIENCE, |at| at.saturating_sub(now));
        state = shared.wait(state, next.max(Duration::from_millis(1)));
    }
    drop(state);
    for kubelet in kubelets {
        kubelet.join().expect("a kubelet does not panic");
    }
}
