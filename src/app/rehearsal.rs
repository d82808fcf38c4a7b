//! What of a rehearsal concerns the process as a whole.

use std::time::Duration;

use crate::chaos::Chaos;
use crate::lifecycle::{Phase, Rx};

/// Says that a rehearsal is on, and stalls the runtime where that was asked for. Needs a tokio runtime.
pub(super) fn announce(chaos: &Chaos, lifecycle: Rx) {
    if *chaos == Chaos::default() {
        return;
    }
    tracing::warn!(%chaos, "REHEARSAL: this server makes trouble on purpose");
    if let Some(after) = chaos.runtime_stall_after {
        tokio::spawn(stall(after, lifecycle));
    }
}

/// Blocks every thread of the runtime for ever, so long after serving began.
async fn stall(after: Duration, mut lifecycle: Rx) {
    lifecycle.wait_for(|snapshot| (snapshot.state.phase == Phase::Serving).then_some(())).await;
    tokio::time::sleep(after).await;
    tracing::warn!("REHEARSAL: the async runtime stalls");
    // More than there are threads: each takes the next one as long as it can.
    for _ in 0..tokio::runtime::Handle::current().metrics().num_workers() * 8 {
        tokio::spawn(async {
            loop {
                std::thread::park();
            }
        });
    }
}
