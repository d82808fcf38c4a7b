//! How long the parts of a cluster take. Measured on Kubernetes 1.36.2 on one node of two cores, p50 of 20 rollouts,
//! unless something else is said. `kubectl apply` is at 0.

use std::time::Duration;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// From a change until a controller that watches it has begun to work.
pub(super) const WAKE: Duration = ms(2);

/// A write of the Deployment controller: a ReplicaSet, or its own status.
pub(super) const DEPLOYMENT_WRITE: Duration = ms(4);
/// After the size of a ReplicaSet was written, until the controller is ready for more: old lowered to new raised is 29.
pub(super) const DEPLOYMENT_SETTLES: Duration = ms(20);
/// The same, where it made a ReplicaSet: its own status is out of date then, is refused, and is tried again, the later the
/// more pods are made meanwhile. From the first size of the new one to its second are 50 with one pod, 90 with two and
/// 108 with three.
pub(super) const DEPLOYMENT_CONFLICTS: Duration = ms(10);
pub(super) const DEPLOYMENT_CONFLICTS_POD: Duration = ms(30);
/// The longest that it waits for that, beyond what was measured.
pub(super) const DEPLOYMENT_CONFLICTS_MOST: Duration = ms(310);
/// From one size to the next, where one synchronisation sets several.
pub(super) const NEXT_SIZE: Duration = ms(12);

/// A pod's deletion, and its creation, after the ReplicaSet controller began.
pub(super) const DELETE: Duration = ms(7);
pub(super) const CREATE: Duration = ms(9);
/// Between creations: one, then two, then four at a time.
pub(super) const NEXT_BATCH: Duration = ms(9);
pub(super) const NEXT_POD: Duration = ms(1);
/// From the last creation or deletion until the controller is ready to report: created to reported is 39.
pub(super) const SET_SETTLES: Duration = ms(25);
/// A ReplicaSet's report: ready to reported is 7.
pub(super) const SET_WRITE: Duration = ms(5);
/// An availability that comes by waiting alone is noticed so much later.
pub(super) const AVAILABLE: Duration = ms(5);
/// The most pods that a ReplicaSet makes or deletes at once, from the documentation of Kubernetes.
pub(super) const BURST: usize = 500;

/// Requests a second, and at once, of each controller: the defaults of kube-controller-manager. Big rollouts are bound by
/// them; a provider may have raised them.
pub(super) const CONTROLLER_REQUESTS: (u32, u32) = (20, 30);
/// The same of the scheduler, from the defaults of kube-scheduler.
pub(super) const SCHEDULER_REQUESTS: (u32, u32) = (50, 100);
/// Events that a controller writes about one object, before it keeps them to itself.
pub(super) const EVENTS: u32 = 25;

/// From a pod's creation to its node.
pub(super) const SCHEDULE: Duration = ms(13);
/// From its node to its container's start, where it is alone, and what each pod that starts or ends beside it
/// adds: created to started is 205 alone and 1 085 with ten at once.
pub(super) const START: Duration = ms(90);
pub(super) const START_SHARE: Duration = ms(100);
/// A kubelet writes the status of one pod after the other.
pub(super) const KUBELET_WRITE: Duration = ms(20);
/// From a deletion to SIGTERM or preStop.
pub(super) const SIGTERM: Duration = ms(20);
/// From the container's end until its pod's status says so. The object goes at the next listing after that.
pub(super) const FINISHED: Duration = ms(129);
pub(super) const GONE: Duration = ms(15);
/// Between two tries to evict a pod that its budget keeps, as `kubectl drain` does.
pub(super) const EVICT_AGAIN: Duration = Duration::from_secs(5);
