//! The scheduler's limits: which node a pod may go to. Processors and memory are not counted; GPUs, required
//! anti-affinity and the number of pods on a node are what stops rollouts of model servers.

/// The most pods on a node, a kubelet's default.
const PODS: u32 = 110;

/// Pods that a required anti-affinity between hosts keeps from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apart {
    #[default]
    No,
    /// All of the Deployment, so that a new pod needs a node without an old one.
    All,
    /// Those of one revision (`matchLabelKeys: [pod-template-hash]`).
    Revision,
}

/// What a pod asks of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub gpus: u32,
    pub apart: Apart,
}

/// Why a pod waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoRoom {
    Gpu,
    Apart,
    Pods,
}

/// Whose pods they are, for those that count them: the Deployment, and its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub deployment: usize,
    pub revision: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    free_gpus: u32,
    pods: u32,
    cordoned: bool,
    /// By Deployment, then by revision.
    own: Vec<Vec<u32>>,
}

#[derive(Clone, Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
}

impl Nodes {
    pub fn new(count: usize, gpus: u32) -> Nodes {
        Nodes { nodes: vec![Node { free_gpus: gpus, ..Node::default() }; count] }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// No new pods come to it any more.
    pub fn cordon(&mut self, node: usize) {
        self.nodes[node].cordoned = true;
    }

    pub fn uncordon(&mut self, node: usize) {
        self.nodes[node].cordoned = false;
    }

    pub fn is_cordoned(&self, node: usize) -> bool {
        self.nodes[node].cordoned
    }

    /// Takes the node with the fewest pods of the Deployment, and of those the emptiest, or says what is missing.
    pub fn place(&mut self, owner: Owner, needs: Needs) -> Result<usize, NoRoom> {
        let mut best = None;
        let mut missing = NoRoom::Pods;
        for (index, node) in self.nodes.iter().enumerate() {
            match node.refuses(owner, needs) {
                Some(NoRoom::Pods) => {}
                Some(why) => missing = why,
                None => {
                    let load = (node.of(owner.deployment), node.pods);
                    if best.is_none_or(|(least, _)| load < least) {
                        best = Some((load, index));
                    }
                }
            }
        }
        let (_, index) = best.ok_or(missing)?;
        let node = &mut self.nodes[index];
        node.pods += 1;
        node.free_gpus -= needs.gpus;
        *node.count(owner) += 1;
        Ok(index)
    }

    /// A pod's containers have ended.
    pub fn release(&mut self, index: usize, owner: Owner, needs: Needs) {
        let node = &mut self.nodes[index];
        node.pods -= 1;
        node.free_gpus += needs.gpus;
        *node.count(owner) -= 1;
    }

    /// Pods of a Deployment on a node.
    pub fn of(&self, node: usize, deployment: usize) -> u32 {
        self.nodes[node].of(deployment)
    }
}

impl Node {
    fn refuses(&self, owner: Owner, needs: Needs) -> Option<NoRoom> {
        let revision = |own: &Vec<u32>| own.get(owner.revision).copied().unwrap_or(0);
        let others = match needs.apart {
            Apart::No => 0,
            Apart::All => self.of(owner.deployment),
            Apart::Revision => self.own.get(owner.deployment).map_or(0, revision),
        };
        match () {
            () if self.pods >= PODS || self.cordoned => Some(NoRoom::Pods),
            () if self.free_gpus < needs.gpus => Some(NoRoom::Gpu),
            () if others > 0 => Some(NoRoom::Apart),
            () => None,
        }
    }

    fn of(&self, deployment: usize) -> u32 {
        self.own.get(deployment).map_or(0, |own| own.iter().sum())
    }

    fn count(&mut self, owner: Owner) -> &mut u32 {
        if self.own.len() <= owner.deployment {
            self.own.resize(owner.deployment + 1, Vec::new());
        }
        let own = &mut self.own[owner.deployment];
        if own.len() <= owner.revision {
            own.resize(owner.revision + 1, 0);
        }
        &mut own[owner.revision]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Owner = Owner { deployment: 0, revision: 0 };
    const NEW: Owner = Owner { deployment: 0, revision: 1 };

    #[test]
    fn pods_are_spread_until_the_gpus_are_gone() {
        let mut nodes = Nodes::new(2, 1);
        let needs = Needs { gpus: 1, apart: Apart::No };
        assert_eq!(nodes.place(OLD, needs), Ok(0));
        assert_eq!(nodes.place(OLD, needs), Ok(1));
        assert_eq!(nodes.place(NEW, needs), Err(NoRoom::Gpu));
        nodes.release(1, OLD, needs);
        assert_eq!(nodes.place(NEW, needs), Ok(1));
    }

    #[test]
    fn anti_affinity_counts_old_pods_unless_it_names_the_revision() {
        let mut nodes = Nodes::new(1, 0);
        let all = Needs { gpus: 0, apart: Apart::All };
        assert_eq!(nodes.place(OLD, all), Ok(0));
        assert_eq!(nodes.place(NEW, all), Err(NoRoom::Apart));
        let revision = Needs { gpus: 0, apart: Apart::Revision };
        assert_eq!(nodes.place(NEW, revision), Ok(0));
        assert_eq!(nodes.place(NEW, revision), Err(NoRoom::Apart));
    }

    #[test]
    fn a_node_takes_110_pods_and_none_when_it_is_cordoned() {
        let mut nodes = Nodes::new(1, 0);
        for _ in 0..110 {
            assert_eq!(nodes.place(OLD, Needs::default()), Ok(0));
        }
        assert_eq!(nodes.place(OLD, Needs::default()), Err(NoRoom::Pods));
        let mut nodes = Nodes::new(1, 0);
        nodes.cordon(0);
        assert_eq!(nodes.place(OLD, Needs::default()), Err(NoRoom::Pods));
        nodes.uncordon(0);
        assert_eq!(nodes.place(OLD, Needs::default()), Ok(0));
    }
}
