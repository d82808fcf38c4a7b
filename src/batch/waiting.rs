//! What waits, in groups whose requests can share a batch. Pure: the lock, the clock and the channels are its owner's.
//!
//! The head is the oldest request of the higher priority. Its group is cut in order of arrival, `Low` ones in what room
//! `Normal` ones leave; a request that does not fit is split, and its rest stays in front.

use std::collections::VecDeque;
use std::time::Instant;

use super::Priority;
use super::pace::Load;
use super::policy::{Head, Limits};

/// What a group needs to know of a request.
pub(super) trait Item: Sized {
    fn rows(&self) -> usize;
    /// A number that is equal where two fit with each other.
    fn kind(&self) -> u64;
    fn fits_with(&self, other: &Self) -> bool;
    fn priority(&self) -> Priority;
    /// When it came.
    fn since(&self) -> Instant;
    fn deadline(&self) -> Instant;
    /// Its first `rows`, and the rest: both have some.
    fn split(self, rows: usize) -> (Self, Self);
}

/// Emptied groups that are kept, so that a queue that is mostly empty does not allocate at every request.
const SPARE: usize = 4;

pub(super) struct Waiting<T> {
    /// None is empty.
    groups: Vec<Group<T>>,
    spare: Vec<Group<T>>,
    load: Load,
}

/// By priority.
struct Group<T>([Lane<T>; 2]);

/// In order of arrival.
struct Lane<T> {
    items: VecDeque<T>,
    rows: usize,
}

/// What was taken out.
pub(super) struct Cut<T> {
    /// One group's, in order.
    pub(super) batch: Vec<T>,
    /// Those whom nobody awaits any more.
    pub(super) gone: Vec<T>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { groups: Vec::new(), spare: Vec::new(), load: Load::default() }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self([(), ()].map(|()| Lane { items: VecDeque::new(), rows: 0 }))
    }
}

impl<T: Item> Waiting<T> {
    /// How much waits.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// Appends `item` to its group.
    pub(super) fn push(&mut self, item: T) {
        let index = self.group_of(&item).unwrap_or_else(|| {
            self.groups.push(self.spare.pop().unwrap_or_default());
            self.groups.len() - 1
        });
        self.load.requests += 1;
        self.load.rows += item.rows();
        self.groups[index].lane(item.priority()).push_back(item);
    }

    /// The group whose turn it is; `None` where nobody waits.
    pub(super) fn head(&self) -> Option<usize> {
        let oldest = |priority: Priority| {
            let fronts = self.groups.iter().enumerate();
            fronts.filter_map(move |(index, group)| Some((group.0[priority as usize].since()?, index))).min()
        };
        oldest(Priority::Normal).or_else(|| oldest(Priority::Low)).map(|(_, index)| index)
    }

    /// Some request of the group `index`.
    pub(super) fn example(&self, index: usize) -> Option<&T> {
        self.groups[index].items().next()
    }

    /// What is to know about the group `index` for deciding; no delay counts where more are expected `until` then.
    pub(super) fn about(&self, index: usize, limits: &Limits, until: Option<Instant>) -> Option<Head> {
        let group = &self.groups[index];
        let rows = group.rows();
        let since = group.0.iter().filter_map(Lane::since).min()?;
        // Deadlines matter only to who would wait, and fewer wait than make a batch.
        let waits = rows < limits.max_size && (until.is_some() || !limits.max_delay.is_zero());
        let deadline = if waits { group.items().map(T::deadline).min()? } else { since };
        let until = until.unwrap_or(since + limits.max_delay);
        Some(Head { rows, until, deadline, others: self.load.requests > group.requests() })
    }

    /// Takes a batch from the group `index`: as many rows as the limits allow, of those who are `awaited`. The batch is
    /// empty where none of them is.
    pub(super) fn cut(&mut self, index: usize, limits: &Limits, awaited: impl Fn(&T) -> bool) -> Cut<T> {
        let group = &mut self.groups[index];
        let most = if limits.row_wise { group.requests().min(limits.max_size) } else { 1 };
        let mut cut = Cut { batch: Vec::with_capacity(most), gone: Vec::new() };
        let mut room = limits.max_size;
        for lane in &mut group.0 {
            while room > 0 && (limits.row_wise || cut.batch.is_empty()) {
                let Some(item) = lane.items.pop_front() else { break };
                let rows = item.rows();
                let (taken, rest) = if !awaited(&item) {
                    cut.gone.push(item);
                    (rows, None)
                } else if rows > room && limits.row_wise {
                    let (first, rest) = item.split(room);
                    cut.batch.push(first);
                    (std::mem::take(&mut room), Some(rest))
                } else {
                    cut.batch.push(item);
                    room = room.saturating_sub(rows);
                    (rows, None)
                };
                lane.rows -= taken;
                self.load.rows -= taken;
                match rest {
                    Some(rest) => lane.items.push_front(rest),
                    None => self.load.requests -= 1,
                }
            }
        }
        if group.requests() == 0 {
            let empty = self.groups.swap_remove(index);
            self.keep(empty);
        }
        cut
    }

    /// Takes out everyone who is not `awaited`.
    pub(super) fn sweep(&mut self, awaited: impl Fn(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        for lane in self.groups.iter_mut().flat_map(|group| &mut group.0) {
            if lane.items.iter().all(&awaited) {
                continue;
            }
            let (kept, left) = std::mem::take(&mut lane.items).into_iter().partition(&awaited);
            lane.items = kept;
            let left: VecDeque<T> = left;
            let rows: usize = left.iter().map(T::rows).sum();
            lane.rows -= rows;
            self.load.rows -= rows;
            self.load.requests -= left.len();
            gone.extend(left);
        }
        self.groups.retain(|group| group.requests() > 0);
        gone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.groups.iter().flat_map(Group::items)
    }

    pub(super) fn has_low(&self) -> bool {
        self.groups.iter().any(|group| !group.0[Priority::Low as usize].items.is_empty())
    }

    /// Takes out the youngest `Low` request.
    pub(super) fn give_way(&mut self) -> Option<T> {
        let low = |group: &Group<T>| group.0[Priority::Low as usize].items.back().map(T::since);
        let (_, index) = self.groups.iter().enumerate().filter_map(|(i, group)| Some((low(group)?, i))).max()?;
        let group = &mut self.groups[index];
        let lane = group.lane(Priority::Low);
        let item = lane.items.pop_back()?;
        lane.rows -= item.rows();
        self.load.requests -= 1;
        self.load.rows -= item.rows();
        if group.requests() == 0 {
            let empty = self.groups.swap_remove(index);
            self.keep(empty);
        }
        Some(item)
    }

    /// What is certainly computed before `newcomer`, or with it: what its group holds already, or where it founds a group
    /// everything, since everything is older.
    pub(super) fn ahead_of(&self, newcomer: &T) -> Load {
        self.group_of(newcomer).map_or_else(
            || self.ahead_of_group(newcomer.priority()),
            |index| self.groups[index].ahead(newcomer.priority()),
        )
    }

    /// [`Self::ahead_of`] a newcomer whose group is not known yet: the least that it may be.
    pub(super) fn ahead_of_any(&self, priority: Priority) -> Load {
        self.groups.iter().map(|group| group.ahead(priority)).min_by_key(|load| load.rows).unwrap_or_default()
    }

    fn ahead_of_group(&self, priority: Priority) -> Load {
        let loads = self.groups.iter().map(|group| group.ahead(priority));
        loads.fold(Load::default(), |sum, load| Load {
            requests: sum.requests + load.requests,
            rows: sum.rows + load.rows,
        })
    }

    fn group_of(&self, item: &T) -> Option<usize> {
        let kind = item.kind();
        let is_like = |known: &T| known.kind() == kind && known.fits_with(item);
        self.groups.iter().position(|group| group.items().next().is_some_and(is_like))
    }

    fn keep(&mut self, empty: Group<T>) {
        if self.spare.len() < SPARE {
            self.spare.push(empty);
        }
    }
}

impl<T> IntoIterator for Waiting<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    /// Everyone who waits.
    fn into_iter(self) -> Self::IntoIter {
        let lanes = self.groups.into_iter().flat_map(|group| group.0);
        lanes.flat_map(|lane| lane.items).collect::<Vec<_>>().into_iter()
    }
}

impl<T: Item> Group<T> {
    fn lane(&mut self, priority: Priority) -> &mut Lane<T> {
        &mut self.0[priority as usize]
    }

    fn items(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|lane| &lane.items)
    }

    fn requests(&self) -> usize {
        self.0.iter().map(|lane| lane.items.len()).sum()
    }

    fn rows(&self) -> usize {
        self.0.iter().map(|lane| lane.rows).sum()
    }

    /// What goes before a newcomer of this priority.
    fn ahead(&self, priority: Priority) -> Load {
        let lanes = &self.0[..=priority as usize];
        Load {
            requests: lanes.iter().map(|lane| lane.items.len()).sum(),
            rows: lanes.iter().map(|lane| lane.rows).sum(),
        }
    }
}

impl<T: Item> Lane<T> {
    fn push_back(&mut self, item: T) {
        self.rows += item.rows();
        self.items.push_back(item);
    }

    fn since(&self) -> Option<Instant> {
        self.items.front().map(T::since)
    }
}

#[cfg(test)]
mod tests;
