//! `kubectl torchpod status`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::cluster::{ClusterArgs, Ended, Stop, Stopped, run};
use super::print;
use crate::judge::{What, Window};
use crate::release::api::Api;
use crate::release::error::Error;
use crate::release::gate::read;
use crate::release::status::{Found, Status, find};
use crate::release::voice::{Format, Voice};

/// Tell who serves, with which image, how far a canary is, what its last gate said, and who is at it
///
/// Shows the Deployments NAME and NAME-…, and those behind the Service NAME. Requests are those that their pods answered
/// while this looked: an old version without any may go.
///
/// Exit codes: 0 told, 2 not.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// What the Deployments begin with, or the Service in front of them
    name: String,

    /// How long requests are counted; 0s does without, and without the right to read pods
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    sample: Duration,

    /// The port of a pod that has /metrics; without it, the one named probes, or else metrics or http, or the first
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(i32).range(1..=65535))]
    port: Option<i32>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> ExitCode {
        let voice = Voice::new(self.cluster.output);
        run(&voice, "nothing was changed", &Stop::default(), self.status(&voice))
    }

    async fn status(&self, voice: &Voice) -> Result<Ended, Stopped> {
        let api = Api::connect(&self.cluster.access(), voice).await?;
        let found = find(&api, &self.name).await?;
        let requests = self.sample(&api, &found).await?;
        let status = Status::of(&self.name, &api.namespace, &found, &requests);
        let told = match self.cluster.output {
            Format::Text => status.text(),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default()),
        };
        voice.end();
        print(&told).map_err(Error::Refused)?;
        Ok(Ended::Well)
    }

    /// Requests of each Deployment whose pods can all be read.
    async fn sample(&self, api: &Api<'_>, found: &Found) -> Result<BTreeMap<String, u64>, Error> {
        let mut windows: BTreeMap<&str, Window> = BTreeMap::new();
        if self.sample.is_zero() {
            return Ok(BTreeMap::new());
        }
        for round in 0..2 {
            if round > 0 {
                tokio::time::sleep(self.sample).await;
            }
            for (_, side, container) in &found.deployments {
                if let Some(pods) = read(api, side, container, self.port).await? {
                    windows.entry(&side.track.name).or_default().round(pods);
                }
            }
        }
        let tallies = windows.into_iter().map(|(name, window)| (name.to_owned(), window.tally()));
        let known =
            tallies.filter(|(_, tally)| !tally.faults.iter().any(|fault| matches!(fault.what, What::Silent(_))));
        Ok(known.filter(|(_, tally)| tally.pods > 0).map(|(name, tally)| (name, tally.all.rejected.of)).collect())
    }
}
