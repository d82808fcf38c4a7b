//! The last minutes of a replica, look by look: what happened between two answers, out of sums that only grow, as the
//! console reckons it. Pure: times are those since `torchpod top` began.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::state::{Figures, Model};
use super::text::real;

/// How far back it goes.
const SPAN: Duration = Duration::from_mins(3);
/// After so many intervals of silence, a rate would be an average of what nobody saw.
const GAP: u32 = 4;

/// What was counted between two looks, or since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct News {
    ok: u64,
    failed: u64,
    rows: u64,
    batches: u64,
    /// How many requests are in the bucket that ends at these nanoseconds.
    latency: BTreeMap<u64, u64>,
}

/// What happened each second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) ok: f64,
    pub(super) failed: f64,
    /// Where there was a request, in seconds.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Where there was a batch.
    pub(super) rows_a_batch: Option<f64>,
}

#[derive(Clone, Debug)]
struct Point {
    at: Duration,
    rates: Option<Rates>,
}

#[derive(Clone, Debug)]
pub(super) struct Recent {
    longest: Duration,
    before: Option<(Duration, BTreeMap<String, News>)>,
    points: VecDeque<Point>,
    versions: BTreeMap<String, Rates>,
    /// What the last look brought, and the seconds that it took to happen.
    latest: Option<(News, f64)>,
}

impl News {
    fn of(figures: &Figures) -> Self {
        let latency = figures.latency.iter().map(|(end, count)| (nanos(*end), *count)).collect();
        Self { ok: figures.ok, failed: figures.failed, rows: figures.rows, batches: figures.batches, latency }
    }

    /// A version that has begun anew counts from nothing.
    fn since(&self, before: Option<&Self>) -> Self {
        let grown = |old: &&Self| {
            old.ok <= self.ok && old.failed <= self.failed && old.rows <= self.rows && old.batches <= self.batches
        };
        let Some(old) = before.filter(grown) else { return self.clone() };
        let more = |(end, count): (&u64, &u64)| {
            let more = count.saturating_sub(old.latency.get(end).copied().unwrap_or_default());
            (more > 0).then_some((*end, more))
        };
        Self {
            ok: self.ok - old.ok,
            failed: self.failed - old.failed,
            rows: self.rows - old.rows,
            batches: self.batches - old.batches,
            latency: self.latency.iter().filter_map(more).collect(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.rows += other.rows;
        self.batches += other.batches;
        for (end, count) in &other.latency {
            *self.latency.entry(*end).or_default() += count;
        }
    }

    /// Within its bucket, which is about a fifth wide, a time is taken to lie where its rank does.
    pub(super) fn percentile(&self, share: f64) -> Option<f64> {
        let rank = share * real(self.latency.values().sum());
        let mut below = 0.0;
        for (end, count) in &self.latency {
            let count = real(*count);
            if below + count >= rank {
                return Some(real(*end) * 1e-9 * (0.84 + 0.16 * (rank - below) / count));
            }
            below += count;
        }
        None
    }

    fn rates(&self, seconds: f64) -> Rates {
        Rates {
            ok: real(self.ok) / seconds,
            failed: real(self.failed) / seconds,
            p50: self.percentile(0.5),
            p99: self.percentile(0.99),
            rows_a_batch: (self.batches > 0).then(|| real(self.rows) / real(self.batches)),
        }
    }
}

/// The ends of buckets are whole nanoseconds, told as seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` stops at the ends.
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

impl Recent {
    /// Of a replica that is asked every `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        let longest = interval.saturating_mul(GAP);
        Self { longest, before: None, points: VecDeque::new(), versions: BTreeMap::new(), latest: None }
    }

    /// Takes the figures of all models, as they were `now`.
    pub(super) fn take(&mut self, models: &[Model], now: Duration) {
        let seen: BTreeMap<String, News> =
            models.iter().filter_map(|model| Some((model.id(), News::of(model.figures.as_ref()?)))).collect();
        let before = self.before.replace((now, seen.clone()));
        let gap = before.as_ref().map(|(then, _)| now.saturating_sub(*then));
        let known = gap.filter(|gap| !gap.is_zero() && *gap < self.longest).map(|gap| gap.as_secs_f64());
        let mut total = News::default();
        self.versions.clear();
        for (id, news) in &seen {
            let old = before.as_ref().and_then(|(_, known)| known.get(id));
            let news = news.since(old);
            total.add(&news);
            if let Some(seconds) = known.filter(|_| old.is_some()) {
                self.versions.insert(id.clone(), news.rates(seconds));
            }
        }
        self.push(Point { at: now, rates: known.map(|seconds| total.rates(seconds)) });
        self.latest = known.map(|seconds| (total, seconds));
    }

    /// There was no answer: of what happens meanwhile, nothing is known.
    pub(super) fn miss(&mut self, now: Duration) {
        self.versions.clear();
        self.latest = None;
        self.push(Point { at: now, rates: None });
    }

    fn push(&mut self, point: Point) {
        let oldest = point.at.saturating_sub(SPAN);
        self.points.push_back(point);
        while self.points.front().is_some_and(|first| first.at < oldest) {
            self.points.pop_front();
        }
    }

    /// As of the last look.
    pub(super) fn now(&self) -> Option<&Rates> {
        self.points.back()?.rates.as_ref()
    }

    /// The same of one version.
    pub(super) fn of(&self, id: &str) -> Option<&Rates> {
        self.versions.get(id)
    }

    /// What `tell` says of each of the last `seconds`, the last of them last. Looked at whole seconds, so that what has
    /// been drawn moves on and does not change.
    pub(super) fn line(&self, now: Duration, seconds: usize, tell: impl Fn(&Rates) -> Option<f64>) -> Vec<Option<f64>> {
        let at = |ago: usize| now.as_secs().checked_sub(ago as u64).map(Duration::from_secs);
        let seen = |time: Duration| {
            let point = self.points.iter().rfind(|point| point.at <= time)?;
            point.rates.as_ref().filter(|_| time.saturating_sub(point.at) < self.longest).and_then(&tell)
        };
        (0..seconds).rev().map(|ago| at(ago).and_then(seen)).collect()
    }
}

/// The rates of many together: percentiles are those of all their requests.
pub(super) fn together<'a>(replicas: impl Iterator<Item = &'a Recent>) -> Option<Rates> {
    let (mut all, mut sum) = (News::default(), None::<(f64, f64)>);
    for (news, seconds) in replicas.filter_map(|recent| recent.latest.as_ref()) {
        all.add(news);
        let (ok, failed) = sum.unwrap_or_default();
        sum = Some((ok + real(news.ok) / seconds, failed + real(news.failed) / seconds));
    }
    sum.map(|(ok, failed)| Rates { ok, failed, ..all.rates(1.0) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn model(ok: u64, latency: &[(f64, u64)]) -> Model {
        let figures = Figures { ok, rows: 4 * ok, batches: ok, latency: latency.to_vec(), ..Figures::default() };
        Model { name: "digits".into(), version: "1".into(), figures: Some(figures), ..Model::default() }
    }

    #[test]
    fn what_happened_between_two_looks_is_told_by_the_second() {
        let mut recent = Recent::new(SECOND);
        recent.take(&[model(100, &[(0.01, 100)])], SECOND);
        assert_eq!(recent.now(), None, "one look tells of no second");
        recent.take(&[model(120, &[(0.01, 100), (0.1, 20)])], 3 * SECOND);
        let rates = recent.now().unwrap();
        assert!((rates.ok - 10.0).abs() < 1e-9 && rates.rows_a_batch == Some(4.0));
        let [p50, p99] = [rates.p50, rates.p99].map(Option::unwrap);
        assert!(p50 > 0.08 && p50 < p99 && p99 <= 0.1, "of the new ones alone: {p50} {p99}");
        assert_eq!(recent.of("digits@1"), Some(rates));
    }

    #[test]
    fn silence_and_a_new_version_are_no_rates() {
        let mut recent = Recent::new(SECOND);
        recent.take(&[model(1, &[])], SECOND);
        recent.miss(2 * SECOND);
        assert_eq!((recent.now(), recent.of("digits@1")), (None, None));
        recent.take(&[model(9, &[])], 7 * SECOND);
        assert_eq!(recent.now(), None, "six seconds are more than four looks");
        let other = Model { version: "2".into(), ..model(5, &[]) };
        recent.take(&[model(9, &[]), other], 8 * SECOND);
        assert_eq!(recent.of("digits@2"), None, "since when it counts is not known");
        assert_eq!(recent.now().map(|rates| rates.ok), Some(5.0), "and yet all of it happened meanwhile");
        recent.take(&[model(3, &[])], 9 * SECOND);
        assert_eq!(recent.now().map(|rates| rates.ok), Some(3.0), "it began anew, from nothing");
    }

    #[test]
    fn a_line_has_a_value_for_each_second_that_is_known() {
        let mut recent = Recent::new(SECOND);
        for (second, ok) in [(1, 0), (2, 3), (3, 7)] {
            recent.take(&[model(ok, &[])], SECOND * second);
        }
        let line = |now, seconds| recent.line(now, seconds, |rates| Some(rates.ok));
        assert_eq!(line(3 * SECOND, 4), [None, None, Some(3.0), Some(4.0)]);
        assert_eq!(line(SECOND * 35 / 10, 2), [Some(3.0), Some(4.0)], "it stays until the next second");
        assert_eq!(line(7 * SECOND, 2), [Some(4.0), None], "and is not believed for ever");
        assert_eq!(line(SECOND, 5), [None; 5]);
    }

    #[test]
    fn replicas_together_have_the_sum_of_rates_and_the_percentiles_of_all_requests() {
        let [mut quick, mut slow] = [Recent::new(SECOND), Recent::new(SECOND)];
        for (recent, news) in [(&mut quick, model(99, &[(0.001, 99)])), (&mut slow, model(1, &[(1.0, 1)]))] {
            recent.take(&[model(0, &[])], SECOND);
            recent.take(&[news], 2 * SECOND);
        }
        let all = together([&quick, &slow].into_iter()).unwrap();
        assert!((all.ok - 100.0).abs() < 1e-9);
        assert!(all.p50.unwrap() <= 0.001 && all.p99.unwrap() <= 0.001, "{all:?}");
        slow.miss(3 * SECOND);
        assert_eq!(together([&slow].into_iter()), None);
    }

    proptest! {
        #[test]
        fn a_percentile_lies_in_a_bucket_that_holds_something(
            counts in proptest::collection::btree_map(1_u64..1 << 36, 1_u64..1000, 1..20), share in 0.0..=1.0,
        ) {
            let news = News { latency: counts.clone(), ..News::default() };
            let found = news.percentile(share).unwrap() * 1e9;
            let (least, most) = (*counts.keys().next().unwrap(), *counts.keys().last().unwrap());
            prop_assert!(found >= real(least) * 0.83 && found <= real(most) * 1.001, "{found}");
        }
    }
}
