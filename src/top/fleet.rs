//! All replicas that are looked at: which names they come from, what is known of each, and when one is let go. Pure: times
//! are those since `torchpod top` began.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::recent::{self, Rates};
use super::replica::{Condition, Replica, Silence};
use super::state::State;

/// How long a replica is shown that no name means any more, and that does not answer.
const MEMORY: Duration = Duration::from_mins(1);
/// What is told of the past needs two looks.
const LOOKS: u64 = 2;

/// What a row of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A name that has no address so far.
    Name(usize),
    Replica(SocketAddr),
}

/// What came of asking a name server, or a replica.
#[derive(Debug)]
pub(super) enum News {
    Found { name: usize, found: Result<Vec<SocketAddr>, String> },
    Looked { address: SocketAddr, found: Result<Box<State>, String> },
}

#[derive(Debug)]
pub(super) struct Fleet {
    interval: Duration,
    names: Vec<Name>,
    replicas: BTreeMap<SocketAddr, Replica>,
}

/// One of the servers that were asked for.
#[derive(Debug)]
struct Name {
    /// What is shown for as long as it has no address.
    row: Replica,
    addresses: Vec<SocketAddr>,
    /// Whether it ever had several, so that its own name would not tell them apart.
    several: bool,
    /// Why it could not be looked up the last time.
    problem: Option<Silence>,
}

impl Fleet {
    pub(super) fn new(names: impl Iterator<Item = String>, interval: Duration) -> Self {
        let name =
            |text| Name { row: Replica::new(text, interval), addresses: Vec::new(), several: false, problem: None };
        Self { interval, names: names.map(name).collect(), replicas: BTreeMap::new() }
    }

    /// Takes in what is new, and returns the addresses that are to be asked from now on.
    pub(super) fn hear(&mut self, news: News, now: Duration) -> Vec<SocketAddr> {
        match news {
            News::Found { name, found: Ok(addresses) } => return self.found(name, addresses),
            News::Found { name, found: Err(why) } => {
                if let Some(name) = self.names.get_mut(name) {
                    Silence::go_on(&mut name.problem, why.clone(), now);
                    name.row.looked(Err(why), now, self.interval);
                }
            }
            News::Looked { address, found } => {
                if let Some(replica) = self.replicas.get_mut(&address) {
                    replica.looked(found.map(|state| *state), now, self.interval);
                }
            }
        }
        Vec::new()
    }

    fn found(&mut self, index: usize, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(name) = self.names.get_mut(index) else { return Vec::new() };
        let had = name.addresses.first().copied();
        name.several |= addresses.len() > 1 || had.is_some_and(|had| !addresses.contains(&had));
        name.problem = None;
        let mut new = Vec::new();
        for address in &addresses {
            let shown = if name.several { address.to_string() } else { name.row.name.clone() };
            self.replicas.entry(*address).and_modify(|known| known.name.clone_from(&shown)).or_insert_with(|| {
                new.push(*address);
                Replica::new(shown, self.interval)
            });
        }
        // What was shown by the name alone, and shares it now.
        if let Some(replica) = had.filter(|_| name.several).and_then(|had| Some((had, self.replicas.get_mut(&had)?))) {
            replica.1.name = replica.0.to_string();
        }
        name.addresses = addresses;
        new
    }

    /// Lets go of whoever has been silent for long and is nobody's address, and returns them.
    pub(super) fn forget(&mut self, now: Duration) -> Vec<SocketAddr> {
        let names = &self.names;
        let is_gone = |address: &SocketAddr, replica: &Replica| {
            let is_named = names.iter().any(|name| name.addresses.contains(address));
            let silent = replica.silence().is_some_and(|silence| now.saturating_sub(silence.since) >= MEMORY);
            silent && !is_named
        };
        self.replicas.extract_if(.., |address, replica| is_gone(address, replica)).map(|(address, _)| address).collect()
    }

    /// Everybody, by name or address.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Key, &Replica)> {
        let names = self.names.iter().enumerate().filter(|(_, name)| name.addresses.is_empty());
        let names = names.map(|(index, name)| (Key::Name(index), &name.row));
        names.chain(self.replicas.iter().map(|(address, replica)| (Key::Replica(*address), replica)))
    }

    /// The names that cannot be looked up, though they once could.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Silence> {
        self.names.iter().filter(|name| !name.addresses.is_empty()).filter_map(|name| name.problem.as_ref())
    }

    /// How many are how, the worst first.
    pub(super) fn census(&self) -> Vec<(Condition, usize)> {
        let conditions: Vec<Condition> = self.rows().map(|(_, replica)| replica.condition()).collect();
        let count = |condition| conditions.iter().filter(|known| **known == condition).count();
        Condition::ALL
            .map(|condition| (condition, count(condition)))
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The rates of all that answer.
    pub(super) fn rates(&self) -> Option<Rates> {
        let answering = self.replicas.values().filter(|replica| replica.silence().is_none());
        recent::together(answering.map(|replica| &replica.recent))
    }

    /// Requests of all of them in each of the last seconds, the last of them last.
    pub(super) fn line(&self, now: Duration, seconds: usize) -> Vec<Option<f64>> {
        let mut sum = vec![None; seconds];
        for replica in self.replicas.values() {
            let line = replica.recent.line(now, seconds, |rates| Some(rates.ok));
            for (sum, value) in sum.iter_mut().zip(line) {
                *sum = value.map(|value| value + sum.unwrap_or_default()).or(*sum);
            }
        }
        sum
    }

    /// Whether everybody has been asked often enough for a table.
    pub(super) fn is_told(&self) -> bool {
        let names = self.names.iter().all(|name| !name.addresses.is_empty() || name.problem.is_some());
        names && self.replicas.values().all(|replica| replica.looks >= LOOKS)
    }

    /// Whether everybody answers.
    pub(super) fn answers(&self) -> bool {
        self.rows().all(|(_, replica)| replica.silence().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::{self, SECOND};

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 8081).into()
    }

    fn fleet(names: &[&str]) -> Fleet {
        Fleet::new(names.iter().map(|name| (*name).to_owned()), SECOND)
    }

    fn found(fleet: &mut Fleet, name: usize, last: &[u8]) -> Vec<SocketAddr> {
        fleet.hear(News::Found { name, found: Ok(last.iter().map(|last| address(*last)).collect()) }, SECOND)
    }

    fn looked(fleet: &mut Fleet, last: u8, found: Result<State, &str>, now: Duration) {
        let found = found.map(Box::new).map_err(str::to_owned);
        assert_eq!(fleet.hear(News::Looked { address: address(last), found }, now), []);
    }

    fn names(fleet: &Fleet) -> Vec<&str> {
        fleet.rows().map(|(_, replica)| replica.name.as_str()).collect()
    }

    #[test]
    fn each_address_of_a_name_is_a_replica_and_is_asked_once() {
        let mut fleet = fleet(&["pods:8081", "10.0.0.2:8081"]);
        assert_eq!(names(&fleet), ["pods:8081", "10.0.0.2:8081"], "before anything is known");
        assert_eq!(found(&mut fleet, 1, &[2]), [address(2)]);
        assert_eq!(found(&mut fleet, 0, &[1, 2, 3]), [address(1), address(3)]);
        assert_eq!(names(&fleet), ["10.0.0.1:8081", "10.0.0.2:8081", "10.0.0.3:8081"]);
        assert_eq!(found(&mut fleet, 0, &[1, 2, 3, 4]), [address(4)], "looked up again");
    }

    #[test]
    fn a_name_of_one_address_is_shown_as_it_was_written_until_it_has_another() {
        let mut fleet = fleet(&["web:8080"]);
        found(&mut fleet, 0, &[1]);
        assert_eq!(names(&fleet), ["web:8080"]);
        found(&mut fleet, 0, &[2]);
        assert_eq!(names(&fleet), ["10.0.0.1:8081", "10.0.0.2:8081"]);
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_is_a_row_and_later_a_problem() {
        let mut fleet = fleet(&["nowhere:1"]);
        let fails = |fleet: &mut Fleet| {
            fleet.hear(News::Found { name: 0, found: Err("cannot resolve nowhere".into()) }, SECOND);
        };
        fails(&mut fleet);
        assert!(fleet.is_told() && !fleet.answers() && fleet.problems().count() == 0);
        assert_eq!(fleet.rows().map(|(_, row)| row.remark()).collect::<Vec<_>>(), ["cannot resolve nowhere"]);
        found(&mut fleet, 0, &[1]);
        fails(&mut fleet);
        assert_eq!((names(&fleet), fleet.problems().count()), (vec!["nowhere:1"], 1), "who was found stays");
    }

    #[test]
    fn whoever_is_silent_stays_for_a_minute_after_its_name_has_forgotten_it() {
        let mut fleet = fleet(&["pods:8081"]);
        found(&mut fleet, 0, &[1, 2, 3]);
        looked(&mut fleet, 1, Err("connection refused"), SECOND);
        looked(&mut fleet, 2, Ok(sample::state("draining")), SECOND);
        looked(&mut fleet, 3, Err("connection refused"), SECOND);
        found(&mut fleet, 0, &[3]);
        assert_eq!(fleet.forget(60 * SECOND), []);
        assert_eq!(fleet.forget(61 * SECOND), [address(1)]);
        assert_eq!(fleet.rows().count(), 2, "one answers, and the other is still meant");
    }

    #[test]
    fn a_table_waits_for_two_looks_at_everybody() {
        let mut fleet = fleet(&["a:1", "b:1"]);
        found(&mut fleet, 0, &[1]);
        found(&mut fleet, 1, &[2]);
        for (last, now) in [(1, SECOND), (1, 2 * SECOND), (2, 2 * SECOND)] {
            looked(&mut fleet, last, Ok(sample::state("serving")), now);
            assert!(!fleet.is_told());
        }
        looked(&mut fleet, 2, Err("connection refused"), 3 * SECOND);
        assert!(fleet.is_told() && !fleet.answers());
        assert_eq!(fleet.census(), [(Condition::Silent, 1), (Condition::Ready, 1)]);
    }

    #[test]
    fn rates_are_those_of_all_who_answer() {
        let mut fleet = fleet(&["a:1", "b:1"]);
        found(&mut fleet, 0, &[1]);
        found(&mut fleet, 1, &[2]);
        for last in [1, 2] {
            looked(&mut fleet, last, Ok(sample::busy(0)), SECOND);
            looked(&mut fleet, last, Ok(sample::busy(10 * u64::from(last))), 2 * SECOND);
        }
        assert_eq!(fleet.rates().map(|rates| rates.ok), Some(30.0));
        assert_eq!(fleet.line(2 * SECOND, 2), [None, Some(30.0)]);
        looked(&mut fleet, 2, Err("connection refused"), 3 * SECOND);
        assert_eq!(fleet.rates().map(|rates| rates.ok), Some(10.0));
    }
}
