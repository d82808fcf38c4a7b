//! Who is at it: a Lease, so that two runs never steer one canary. Whether the other one is alive is seen from whether
//! it renews, by our own clock, so that clocks need not agree; and whoever was killed is followed after a while.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::api::Api;
use super::error::Error;
use super::voice::Voice;

/// Whoever has not renewed for so long is gone.
const DURATION: Duration = Duration::from_secs(10);
const RENEWAL: Duration = Duration::from_secs(3);
const GLANCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Hold {
    lease: Lease,
    me: String,
    renewed: Instant,
}

impl Hold {
    /// Takes the Lease, at once or after its holder was not heard of for its duration; or finds that it is alive.
    pub async fn take(api: &Api<'_>, voice: &Voice, name: &str) -> Result<Hold, Error> {
        let (name, me) = (format!("torchpod-{name}"), me());
        let began = Instant::now();
        let mut first: Option<LeaseSpec> = None;
        loop {
            let found: Option<Lease> = api.find(&name).await?;
            let taken = match found {
                None => {
                    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                    api.create(&Lease { metadata, spec: Some(held_by(&me, api.now())) }).await
                }
                Some(lease) => {
                    let spec = lease.spec.clone().unwrap_or_default();
                    let holder = spec.holder_identity.clone().unwrap_or_default();
                    let first = first.get_or_insert_with(|| spec.clone());
                    if !holder.is_empty() && *first != spec {
                        return Err(Error::Held { holder });
                    }
                    let left = duration(&spec).saturating_sub(began.elapsed());
                    if !holder.is_empty() && !left.is_zero() {
                        voice.wait(&format!("{holder} was at it: looking whether it still is"));
                        tokio::time::sleep(GLANCE.min(left)).await;
                        continue;
                    }
                    api.replace(&Lease { spec: Some(held_by(&me, api.now())), ..lease }).await
                }
            };
            match taken {
                Ok(lease) => return Ok(Hold { lease, me, renewed: Instant::now() }),
                // Somebody was faster, or it was our own request whose answer was lost.
                Err(Error::Conflict(_)) => {
                    let now: Option<Lease> = api.find(&name).await?;
                    if let Some(lease) = now.filter(|lease| holder(lease) == me) {
                        return Ok(Hold { lease, me, renewed: Instant::now() });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Renews it in time; fails where somebody else has it now.
    pub async fn keep(&mut self, api: &Api<'_>) -> Result<(), Error> {
        if self.renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        let name = self.lease.metadata.name.clone().unwrap_or_default();
        loop {
            let renewed = Lease { spec: Some(held_by(&self.me, api.now())), ..self.lease.clone() };
            match api.replace(&renewed).await {
                Ok(lease) => {
                    (self.lease, self.renewed) = (lease, Instant::now());
                    return Ok(());
                }
                Err(Error::Conflict(_)) => {
                    let found: Lease = api.get(&name).await?;
                    let now = holder(&found);
                    if now != self.me {
                        let holder = if now.is_empty() { "another run".to_owned() } else { now };
                        return Err(Error::TakenOver { holder });
                    }
                    self.lease = found;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the next one in without a wait. Where that fails, it waits.
    pub async fn release(mut self, api: &Api<'_>) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), api.replace(&self.lease)).await;
    }
}

fn held_by(me: &str, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    }
}

fn holder(lease: &Lease) -> String {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default()
}

fn duration(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

/// A name that no other run has, and that tells people where to look.
fn me() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}, process {} since {:.3}", std::process::id(), Timestamp::now())
}
