//! Whether a canary is as good as stable, by what both tracks' pods count themselves. Pure: whoever asks reads the pods.

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
