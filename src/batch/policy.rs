//! Which waiting requests make the next batch. Pure.

/// What the policy sees of a waiting request: its rows and, per input, the shape of one row.
pub trait Candidate {
    fn rows(&self) -> usize;
    fn fits_with(&self, other: &Self) -> bool;
}

/// How many of `waiting`, from the front, go into one batch of at most `max_size` rows.
///
/// Greedy and in order of arrival: it takes the first request whatever its size, then more as long as they have the
/// same row shapes and still fit. A request of more than `max_size` rows goes alone.
pub fn cut<'a, C: Candidate + 'a>(waiting: impl IntoIterator<Item = &'a C>, max_size: usize) -> usize {
    let mut waiting = waiting.into_iter();
    let Some(first) = waiting.next() else { return 0 };
    let mut rows = first.rows();
    let more = waiting.take_while(|next| {
        rows = rows.saturating_add(next.rows());
        rows <= max_size && next.fits_with(first)
    });
    1 + more.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request(usize, char);

    impl Candidate for Request {
        fn rows(&self) -> usize {
            self.0
        }

        fn fits_with(&self, other: &Self) -> bool {
            self.1 == other.1
        }
    }

    #[test]
    fn a_batch_is_cut_by_size_and_by_shape() {
        let table: [(&[Request], usize); 6] = [
            (&[], 0),
            (&[Request(1, 'a'), Request(1, 'a')], 2),
            (&[Request(3, 'a'), Request(1, 'a'), Request(1, 'a')], 2),
            (&[Request(9, 'a'), Request(1, 'a')], 1),
            (&[Request(1, 'a'), Request(1, 'b'), Request(1, 'a')], 1),
            (&[Request(usize::MAX, 'a'), Request(1, 'a')], 1),
        ];
        for (waiting, expected) in table {
            assert_eq!(cut(waiting, 4), expected);
        }
    }
}
