//! Whether a canary is as good as stable, by what both tracks' pods count themselves. Pure: whoever asks reads the pods,
//! all of both tracks in each round, and hands over what they said.
//!
//! ```
//! use kubectl_torchpod::judge::{Against, Decision, Judge, Limits, Reading, Seen, Window};
//!
//! let seen = |name: &str, ok: u32, failed: u32| {
//!     let text = format!(
//!         "torchpod_phase{{phase=\"serving\"}} 1\n\
//!          torchpod_requests_total{{model=\"digits\",version=\"1\",outcome=\"ok\"}} {ok}\n\
//!          torchpod_requests_total{{model=\"digits\",version=\"1\",outcome=\"server_error\"}} {failed}\n"
//!     );
//!     let page = Reading::parse(&text).map_err(|why| why.to_string());
//!     Seen { uid: name.to_owned(), name: name.to_owned(), page }
//! };
//! let (mut stable, mut canary) = (Window::default(), Window::default());
//! for round in 0..24 {
//!     stable.round([seen("digits-stable-a", 90 * round, 0)]);
//!     canary.round([seen("digits-canary-a", 9 * round, round)]);
//! }
//! let judge = Judge { limits: Limits::default() };
//! let verdict = judge.judge(1, Against::Now(&stable.tally()), &canary.tally());
//! assert_eq!(verdict.decision, Decision::Fail);
//! assert_eq!(verdict.reasons[0].text, "canary: 23 of 230 requests failed (10.0 %), stable: 0 of 2070 (0 %)");
//! ```
//!
//! # How a canary is judged
//!
//! Every pod of both tracks is read round by round, and what a gate compares is what happened since its first round, of
//! all models together and, where there are several, of each.
//!
//! | compared | the canary fails if |
//! |---|---|
//! | failed: `server_error` (500) of `ok`, `refused`, `deadline` and `server_error` | its share is higher than stable's by more than 1 % of the requests |
//! | not served: `refused` (503) and `deadline` (504), of the same | the same; both tracks have the same to do, so that whoever refuses more can do less |
//! | rejected: `client_error` (4xx), of these together | its share is higher by more than 10 %: it does not take what stable takes |
//! | slow: requests beyond a bucket's bound, the first that at most 2 % of stable's exceed | its 99th percentile is more than 1.5 times stable's |
//! | its pods | one restarts, vanishes or cannot be read |
//!
//! A difference counts only where chance alone would hardly make one as large (all gates, looks, models and comparisons of
//! a run together stop a good version in 1 % of runs at most, each with its part of that). What callers do wrong reaches
//! both tracks and is compared, not blamed; it is part of neither of the first two shares. Whoever `left` before the answer is no
//! error, but the time until then is in the histogram.
//!
//! Requests are not independent: a pod stalls, a caller sends the same thing again. How much more things vary between
//! stable's pods than they would by chance is measured, and both tracks' numbers are worth as much less. Of all but
//! `failed`, the canary's worst slices (a pod between two rounds) do not count, one for each of its pods and one more:
//! stalls of single pods are no slow version. A round is best 5 s and a gate at least a dozen of them.
//!
//! Nothing bad in too few requests is no pass. There is enough when 5 % more failed or slow requests would be noticed in 99
//! of 100 cases: 300 requests to one pod in ten beside a stable that never fails and is always as fast, 900 where one in a
//! hundred fails and one is slow, more where stable's pods are uneven. Until then the verdict is how many are missing. A
//! model with less than a tenth of the requests is judged by what there is.
//!
//! Where no pod of stable is left, at 100 %, the canary is compared with stable's last window before. Traffic may have
//! changed since then, so that the limits are doubled and stable's variation in time counts, too.

mod chance;
mod compare;
mod gate;
mod latency;
mod page;
mod reading;
mod tally;
mod traffic;
mod verdict;
mod window;
mod words;

pub use gate::{Against, Judge, Limits};
pub use reading::{Counts, ENDLESS, Reading, Unreadable};
pub use tally::{Share, Sums, Tally};
pub use verdict::{Decision, Figure, Kind, Reason, Verdict};
pub use window::{Fault, Seen, What, Window};
