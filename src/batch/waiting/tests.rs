//! Groups, order, priorities and splits: as a table, and over any sequence of arrivals and cuts.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_size: 4, max_delay: Duration::ZERO, row_wise: true };

/// A request by its number; what is left of its rows.
#[derive(Clone, Debug, PartialEq)]
struct Request {
    number: usize,
    rows: Range<usize>,
    shape: char,
    priority: Priority,
    since: Instant,
}

impl Item for Request {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Of four shapes, two share a number: it may be equal where they do not fit.
    fn kind(&self) -> u64 {
        u64::from(self.shape) / 2
    }

    fn fits_with(&self, other: &Self) -> bool {
        self.shape == other.shape
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn deadline(&self) -> Instant {
        self.since + Duration::from_secs(30)
    }

    fn split(self, rows: usize) -> (Self, Self) {
        assert!(0 < rows && rows < self.rows.len());
        let middle = self.rows.start + rows;
        let first = Self { rows: self.rows.start..middle, ..self.clone() };
        (first, Self { rows: middle..self.rows.end, ..self })
    }
}

/// Arrivals, one a millisecond, as `a3` (three rows of shape a) or `a3-` (of low priority).
fn waiting(arrivals: &str) -> Waiting<Request> {
    let (mut waiting, start) = (Waiting::default(), Instant::now());
    for (number, text) in arrivals.split_whitespace().enumerate() {
        let rows = text[1..].trim_end_matches('-').parse().unwrap();
        waiting.push(Request {
            number,
            rows: 0..rows,
            shape: text.chars().next().unwrap(),
            priority: if text.ends_with('-') { Priority::Low } else { Priority::Normal },
            since: start + Duration::from_millis(number as u64),
        });
    }
    waiting
}

fn next(waiting: &mut Waiting<Request>, limits: &Limits) -> Option<Vec<Request>> {
    let head = waiting.head()?;
    Some(waiting.cut(head, limits, |_| true).batch)
}

/// All batches, as `0 1:0..2`: request 0 whole, of request 1 the first two rows.
fn batches(mut waiting: Waiting<Request>, limits: &Limits) -> Vec<String> {
    let show = |part: &Request| format!("{}:{}..{}", part.number, part.rows.start, part.rows.end);
    std::iter::from_fn(|| next(&mut waiting, limits))
        .map(|batch| batch.iter().map(show).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn a_batch_is_filled_from_one_group_in_order_of_arrival() {
    let table: [(&str, &[&str]); 10] = [
        ("", &[]),
        ("a1 a1", &["0:0..1 1:0..1"]),
        // Alternating shapes still batch.
        ("a1 b1 a1 b1", &["0:0..1 2:0..1", "1:0..1 3:0..1"]),
        // What does not fit is split, and its rest goes first.
        ("a3 a3 a1", &["0:0..3 1:0..1", "1:1..3 2:0..1"]),
        ("a9 a1", &["0:0..4", "0:4..8", "0:8..9 1:0..1"]),
        ("b1 a9", &["0:0..1", "1:0..4", "1:4..8", "1:8..9"]),
        // Low goes last, and in what room is left.
        ("a1- a1 a1", &["1:0..1 2:0..1 0:0..1"]),
        ("a9- b1 a1", &["1:0..1", "2:0..1 0:0..3", "0:3..7", "0:7..9"]),
        ("b1- a1- a1-", &["0:0..1", "1:0..1 2:0..1"]),
        // Equal numbers are not equal shapes.
        ("b1 c1 b1", &["0:0..1 2:0..1", "1:0..1"]),
    ];
    for (arrivals, expected) in table {
        assert_eq!(batches(waiting(arrivals), &LIMITS), expected, "{arrivals}");
    }
    let whole = Limits { row_wise: false, ..LIMITS };
    assert_eq!(batches(waiting("a9 a1 a1-"), &whole), ["0:0..9", "1:0..1", "2:0..1"]);
}

#[test]
fn whoever_is_not_awaited_leaves_its_room_to_others() {
    let mut waiting = waiting("a2 a2 a2 a2");
    let cut = waiting.cut(0, &LIMITS, |request| request.number % 2 == 1);
    let numbers = |requests: &[Request]| requests.iter().map(|request| request.number).collect::<Vec<_>>();
    assert_eq!((numbers(&cut.batch), numbers(&cut.gone)), (vec![1, 3], vec![0, 2]));
    assert_eq!((waiting.load(), waiting.head()), (Load::default(), None));
}

#[test]
fn the_head_knows_its_group_and_whether_others_wait() {
    let mut waiting = waiting("a1 b1 a2-");
    let limits = Limits { max_delay: Duration::from_secs(1), ..LIMITS };
    let about = |limits: &Limits, until| waiting.about(waiting.head().unwrap(), limits, until).unwrap();
    let (delayed, greedy) = (about(&limits, None), about(&LIMITS, None));
    let since = greedy.until;
    let expecting = about(&LIMITS, Some(since + Duration::from_millis(1)));
    assert_eq!(expecting.until, since + Duration::from_millis(1));
    assert_eq!((delayed.rows, delayed.others, delayed.until), (3, true, since + limits.max_delay));
    let deadline = since + Duration::from_secs(30);
    assert_eq!([delayed.deadline, expecting.deadline, greedy.deadline], [deadline, deadline, since]);
    next(&mut waiting, &limits);
    let head = waiting.about(waiting.head().unwrap(), &limits, None).unwrap();
    assert_eq!((head.rows, head.others), (1, false));
}

#[test]
fn the_youngest_of_low_priority_gives_way() {
    let mut waiting = waiting("a1- b1 b2- a1");
    let gone: Vec<_> = std::iter::from_fn(|| waiting.give_way()).map(|request| request.number).collect();
    assert_eq!((gone, waiting.has_low(), waiting.load()), (vec![2, 0], false, Load { requests: 2, rows: 2 }));
}

#[test]
fn only_what_certainly_goes_first_counts_as_ahead() {
    let waiting = waiting("a3 a4- b1");
    let newcomer = |shape, priority| Request { number: 9, rows: 0..1, shape, priority, since: Instant::now() };
    let load = |requests, rows| Load { requests, rows };
    for (shape, priority, expected) in [
        ('a', Priority::Normal, load(1, 3)),
        ('a', Priority::Low, load(2, 7)),
        ('b', Priority::Normal, load(1, 1)),
        ('c', Priority::Normal, load(2, 4)),
        ('c', Priority::Low, load(3, 8)),
    ] {
        assert_eq!(waiting.ahead_of(&newcomer(shape, priority)), expected, "{shape} {priority:?}");
    }
    assert_eq!(waiting.ahead_of_any(Priority::Normal), load(1, 1));
    assert_eq!(Waiting::<Request>::default().ahead_of_any(Priority::Normal), Load::default());
}

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        rows: usize,
        shape: char,
        low: bool,
    },
    Cut,
    /// Whoever's number is a multiple of this has left.
    Sweep(usize),
    GiveWay,
}

fn step() -> impl Strategy<Value = Step> {
    let arrive = (1_usize..100, 0_u8..4, any::<bool>());
    prop_oneof![
        6 => arrive.prop_map(|(rows, shape, low)| Step::Arrive { rows, shape: char::from(b'a' + shape), low }),
        4 => Just(Step::Cut),
        1 => (2_usize..9).prop_map(Step::Sweep),
        1 => Just(Step::GiveWay),
    ]
}

proptest! {
    #[test]
    fn every_row_is_computed_once_and_in_order_whatever_comes(
        steps in prop::collection::vec(step(), 0..60), max_size in 1_usize..64, row_wise: bool,
    ) {
        let limits = Limits { max_size, max_delay: Duration::ZERO, row_wise };
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        // What must still come, in order of arrival, and who may not come any more.
        let mut owed: Vec<Request> = Vec::new();
        let drain = std::iter::repeat_n(Step::Cut, 6000);
        for (number, step) in steps.into_iter().chain(drain).enumerate() {
            match step {
                Step::Arrive { rows, shape, low } => {
                    let priority = if low { Priority::Low } else { Priority::Normal };
                    let since = start + Duration::from_millis(number as u64);
                    let request = Request { number, rows: 0..rows, shape, priority, since };
                    waiting.push(request.clone());
                    owed.push(request);
                }
                Step::Sweep(divisor) => {
                    for gone in waiting.sweep(|request| request.number % divisor != 0) {
                        let place = owed.iter().position(|request| *request == gone).unwrap();
                        owed.remove(place);
                    }
                    prop_assert!(owed.iter().all(|request| request.number % divisor != 0));
                }
                Step::GiveWay => if let Some(gone) = waiting.give_way() {
                    let place = owed.iter().rposition(|request| request.priority == Priority::Low).unwrap();
                    prop_assert_eq!(owed.remove(place), gone);
                },
                Step::Cut => {
                    let Some(batch) = next(&mut waiting, &limits) else { break };
                    check(&batch, &mut owed, &limits)?;
                }
            }
            let rows = owed.iter().map(|request| request.rows.len()).sum();
            prop_assert_eq!(waiting.load(), Load { requests: owed.len(), rows });
        }
        prop_assert!(owed.is_empty(), "never computed: {:?}", owed);
    }
}

/// Whether `batch` is the right one now; what it computes is owed no longer.
fn check(batch: &[Request], owed: &mut Vec<Request>, limits: &Limits) -> Result<(), TestCaseError> {
    let rows: usize = batch.iter().map(Request::rows).sum();
    prop_assert!(rows > 0 && (rows <= limits.max_size || !limits.row_wise && batch.len() == 1));
    prop_assert!(batch.iter().all(|part| part.shape == batch[0].shape), "groups are mixed");
    let priority =
        if owed.iter().any(|request| request.priority == Priority::Normal) { Priority::Normal } else { Priority::Low };
    let head = owed.iter().find(|request| request.priority == priority).unwrap();
    prop_assert_eq!(batch[0].number, head.number, "the head is not the oldest of the higher priority");
    // Before each part, everyone of its group and priority who came earlier is done; before a low one, everyone of its group.
    let mut first: HashMap<_, usize> = HashMap::new();
    for part in batch {
        let place = owed.iter().position(|request| request.number == part.number).unwrap();
        let is_before =
            |request: &&Request| request.shape == part.shape && request.priority as usize <= part.priority as usize;
        let earlier = owed.iter().take(place).filter(is_before).filter(|request| request.priority == part.priority);
        let higher = owed.iter().filter(is_before).filter(|request| request.priority != part.priority);
        prop_assert_eq!(earlier.count() + higher.count(), 0, "{:?} overtakes", part);
        *first.entry(part.number).or_default() += 1;
        prop_assert_eq!(first[&part.number], 1, "one request, one part a batch");
        let request = &mut owed[place];
        prop_assert_eq!(request.rows.start, part.rows.start);
        request.rows.start = part.rows.end;
        if request.rows.is_empty() {
            owed.remove(place);
        } else {
            prop_assert!(limits.row_wise && rows == limits.max_size, "split without need: {:?}", part);
        }
    }
    Ok(())
}
