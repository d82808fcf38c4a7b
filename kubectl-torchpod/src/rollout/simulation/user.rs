//! What people do to a Deployment while it is rolled out.

use super::event::Event;
use super::latency::EVICT_AGAIN;
use super::pod::State;
use super::record::What;
use super::world::World;
use crate::rollout::progress::Condition;
use crate::rollout::spec::Template;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `kubectl apply` with the template of that number.
    Update(u32),
    /// `kubectl rollout undo`
    Undo,
    Pause,
    Resume,
    Scale(i32),
    /// `kubectl drain`: the node takes no more pods, and those on it are evicted.
    Drain(usize),
}

impl World<'_> {
    pub(super) fn user(&mut self, index: usize) {
        let planned = self.scenario.actions[index];
        let deployment = planned.workload;
        self.note(What::Act { deployment, act: planned.act });
        let now = self.now;
        let worker = &mut self.deployments[deployment];
        match planned.act {
            Act::Update(template) => {
                worker.history.push(worker.spec.template.0);
                worker.spec.template = Template(template);
                worker.restart(now);
            }
            Act::Undo => {
                if let Some(before) = worker.history.pop() {
                    worker.history.push(worker.spec.template.0);
                    worker.spec.template = Template(before);
                    worker.restart(now);
                }
            }
            Act::Pause => worker.spec.paused = true,
            Act::Resume => {
                worker.spec.paused = false;
                worker.restart(now);
            }
            Act::Scale(replicas) => {
                worker.spec.replicas = replicas;
                if worker.progress.condition == Condition::Complete {
                    worker.restart(now);
                }
            }
            Act::Drain(node) => {
                self.nodes.cordon(node);
                self.evict(node);
            }
        }
        self.wake_deployment(deployment);
    }

    /// Every pod on the node that its budget lets go; the others are tried again.
    pub(super) fn evict(&mut self, node: usize) {
        let mut kept = false;
        for pod in 0..self.pods.len() {
            let one = &self.pods[pod];
            if one.node != Some(node) || matches!(one.state, State::Ending | State::Finished | State::Gone) {
                continue;
            }
            let is_ready = one.ready_since().is_some();
            let deployment = self.sets[one.set].deployment;
            let own = self.sets.iter().filter(|set| set.deployment == deployment);
            let healthy = own.map(|set| set.actual.ready).sum();
            let expected = self.deployments[deployment].spec.replicas;
            let budget = self.scenario.workloads[deployment].budget.as_ref();
            match budget.map_or(Ok(()), |budget| budget.evict(is_ready, healthy, expected)) {
                Ok(()) => self.delete(pod),
                Err(refused) => {
                    kept = true;
                    self.note(What::Refused { pod, refused });
                }
            }
        }
        // Nobody tries for ever: what has not moved by the time that nothing else happens is blocked.
        let may_change = self.sets.iter().any(|set| set.actual.ready < set.set.size || set.actual.terminating > 0);
        if kept && may_change {
            self.plan(EVICT_AGAIN, Event::Evict(node));
        }
    }
}
