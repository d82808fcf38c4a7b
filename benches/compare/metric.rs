//! How full torchpod's batches were, from its own /metrics.

use std::net::SocketAddr;
use std::ops::{AddAssign, Sub};

use anyhow::{Context as _, Result};

use crate::request;

/// Batches and the rows in them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Batches {
    rows: f64,
    count: f64,
}

impl Batches {
    pub(crate) fn rows(self) -> f64 {
        self.rows
    }

    pub(crate) fn mean_rows(self) -> f64 {
        self.rows / self.count
    }
}

impl Sub for Batches {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { rows: self.rows - before.rows, count: self.count - before.count }
    }
}

impl AddAssign for Batches {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.count += more.count;
    }
}

/// All batches since the server started.
pub(crate) fn batches(address: SocketAddr) -> Result<Batches> {
    let answer = request::get(address, "/metrics")?;
    let text = String::from_utf8(answer.body)?;
    let value = |name: &str| -> Result<f64> {
        let line =
            text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in /metrics"))?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    Ok(Batches { rows: value("torchpod_batch_rows_sum{")?, count: value("torchpod_batch_rows_count{")? })
}
