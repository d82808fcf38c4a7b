//! A cluster with its API server and a client.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::WatchEvent;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Client, Config, Resource};
use loopback::{Api, Cluster, Rendered, Scale};
use serde::de::DeserializeOwned;

/// Long enough for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Served {
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
}

impl Served {
    /// A strategy, applied and available.
    pub(crate) fn new(strategy: &str, pods: i32) -> Served {
        Served::over(Cluster::with(&Rendered::read(strategy), Scale::few(pods)))
    }

    pub(crate) fn empty() -> Served {
        Served::over(Cluster::empty(Scale::few(2)))
    }

    fn over(cluster: Cluster) -> Served {
        Served { api: Api::of(&cluster), cluster }
    }

    pub(crate) async fn client(&self) -> Client {
        let read = Kubeconfig::read_from(self.api.kubeconfig()).expect("a kubeconfig");
        let mut config =
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.expect("a configuration");
        // What the server says is to be seen, a refusal too.
        config.default_retry = false;
        Client::try_from(config).expect("a client")
    }

    pub(crate) async fn all<T>(&self) -> kube::Api<T>
    where
        T: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        kube::Api::default_namespaced(self.client().await)
    }

    pub(crate) async fn deployments(&self) -> kube::Api<Deployment> {
        self.all().await
    }
}

/// The next object that a watch tells of for which something holds.
pub(crate) async fn until<T: Debug + Clone + DeserializeOwned>(
    watch: &mut (impl Stream<Item = kube::Result<WatchEvent<T>>> + Unpin),
    what: &str,
    holds: impl Fn(&T) -> bool,
) -> T {
    let found = async {
        while let Some(event) = watch.next().await {
            match event.expect("the watch goes on") {
                WatchEvent::Added(one) | WatchEvent::Modified(one) if holds(&one) => return one,
                WatchEvent::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        panic!("{what}: the watch has ended")
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what}: that never came"))
}

/// The code of the error that an API server has answered with.
pub(crate) fn code<T: Debug>(result: kube::Result<T>) -> u16 {
    match result.expect_err("it is refused") {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}
