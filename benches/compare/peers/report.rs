//! What came of the peers, as PEERS.md and its picture have it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::peer::{PEERS, Peer, WORKERS};
use super::{CELLS, Duel, Outcome, ROUNDS, TOLERANCE, Turn};
use crate::HERE;
use crate::cell::Cell;
use crate::load::Sample;
use crate::plot::{self, Panel, Series};
use crate::report::{figure, machine};
use crate::table::{Table, median};

/// Of the digits, one row: how many times the best peer's requests.
const SMALL: f64 = 15.0;

pub(super) fn text(outcome: &Outcome) -> Result<String> {
    let pins = std::fs::read_to_string(Path::new(HERE).join("benches/peers/requirements.txt"))?;
    let mut text = format!(
        "# Peers\n\nWritten by `make bench-peers`: torchpod and other servers, one at a time beside it, with the same \
         TorchScript file and the same load; ratios are medians of those within {ROUNDS} rounds. NOTES.md says how to \
         read it.\n\nMachine: {}. Its cores are shared with the load generator, so ratios mean something and absolutes \
         do not.\n\nEach peer's answers were torchpod's, to within {TOLERANCE}, before it was measured. Every server \
         computes the ResNet in {WORKERS} workers of one thread each. torchpod's model.toml says channels_last for the \
         digits and the ResNet; peers take the file as it is.\n\n",
        machine(&format!("{} in every peer", pin(&pins, "torch")))
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", how(&pins));
    for absent in &outcome.absent {
        let _ = write!(text, "**Not measured:** {absent}.\n\n");
    }
    let _ = write!(text, "## torchpod ÷ best peer\n\n{}\n", best(outcome));
    let _ = write!(text, "![Requests per second over connections, one line a server](peers.svg)\n\n");
    let _ =
        write!(text, "## Figures\n\nLatencies and CPU time of all of a server's processes in µs.\n\n{}", all(outcome));
    Ok(text)
}

/// Which versions, and how each was set up.
fn how(pins: &str) -> String {
    let line = |Peer { name, packages, how, .. }: &Peer| {
        let pinned: Vec<&str> = packages.iter().map(|package| pin(pins, package)).collect();
        format!("- **{name}** ({}): {how}.\n", pinned.join(", "))
    };
    PEERS.iter().map(line).collect()
}

/// The line of `requirements.txt` that pins a package.
fn pin<'a>(pins: &'a str, package: &str) -> &'a str {
    let mut lines = pins.lines();
    lines.find(|line| line.strip_prefix(package).is_some_and(|rest| rest.starts_with("=="))).unwrap_or("?")
}

fn middle(duel: &Duel, of: impl Fn(&Turn) -> f64) -> f64 {
    median(duel.rounds.iter().map(of))
}

/// The cells in which somebody met torchpod, and who.
fn measured(outcome: &Outcome) -> impl Iterator<Item = (Cell, Vec<&Duel>)> {
    let cells = CELLS.into_iter().filter_map(|(model, rows, body, count)| Cell::new(model, rows, body, count).ok());
    let met = |cell: Cell| {
        let name = cell.to_string();
        (cell, outcome.duels.iter().filter(|duel| duel.cell.to_string() == name).collect::<Vec<_>>())
    };
    cells.map(met).filter(|(_, duels)| !duels.is_empty())
}

fn best(outcome: &Outcome) -> Table {
    let header = [
        "model, rows × connections, body",
        "best peer",
        "requests/s",
        "p50",
        "p99",
        "CPU/request",
        "target",
        "verdict",
    ];
    let mut table = Table::new(&header);
    for (cell, duels) in measured(outcome) {
        let rate = |duel: &Duel| middle(duel, |turn| turn.peer.requests_per_second);
        let Some(best) = duels.iter().copied().max_by(|a, b| rate(a).total_cmp(&rate(b))) else { continue };
        let ratio = |of: fn(&Sample) -> f64| middle(best, |turn| of(&turn.torchpod) / of(&turn.peer));
        let (target, met) = verdict(&cell, best, &duels);
        table.row([
            cell.to_string(),
            best.peer.name.to_owned(),
            figure(ratio(|sample| sample.requests_per_second)),
            figure(ratio(Sample::p50)),
            figure(ratio(Sample::p99)),
            figure(ratio(|sample| sample.cpu_micros)),
            target.to_owned(),
            met.map_or("", |met| if met { "pass" } else { "MISS" }).to_owned(),
        ]);
    }
    table
}

/// What the cell ought to reach beside its peers, if anything.
fn verdict(cell: &Cell, best: &Duel, all: &[&Duel]) -> (&'static str, Option<bool>) {
    if cell.model.heavy {
        let ahead = all.iter().all(|duel| {
            let more = middle(duel, |turn| turn.torchpod.requests_per_second / turn.peer.requests_per_second) >= 1.0;
            more && middle(duel, |turn| turn.torchpod.p99() / turn.peer.p99()) <= 1.0
        });
        return ("no peer has more requests/s or a lower p99", Some(ahead));
    }
    if cell.model.name == "digits" && cell.rows == 1 && cell.connections > 1 {
        let more = middle(best, |turn| turn.torchpod.requests_per_second / turn.peer.requests_per_second) >= SMALL;
        let sooner = middle(best, |turn| turn.torchpod.p99() / turn.peer.p50()) < 1.0;
        return ("requests/s ≥ 15, p99 < its p50", Some(more && sooner));
    }
    ("", None)
}

fn all(outcome: &Outcome) -> Table {
    let header = ["model, rows × connections, body", "server", "requests/s", "p50", "p99", "CPU/request", "not 2xx"];
    let mut table = Table::new(&header);
    for (cell, duels) in measured(outcome) {
        let mut row = |name: &str, samples: &[&Sample]| {
            let middle = |of: fn(&Sample) -> f64| figure(median(samples.iter().map(|sample| of(sample))));
            table.row([
                cell.to_string(),
                name.to_owned(),
                middle(|sample| sample.requests_per_second),
                middle(Sample::p50),
                middle(Sample::p99),
                middle(|sample| sample.cpu_micros),
                samples.iter().map(|sample| sample.failed).sum::<f64>().abs().to_string(),
            ]);
        };
        let own: Vec<&Sample> = duels.iter().flat_map(|duel| duel.rounds.iter().map(|turn| &turn.torchpod)).collect();
        row("torchpod", &own);
        for duel in duels {
            row(duel.peer.name, &duel.rounds.iter().map(|turn| &turn.peer).collect::<Vec<_>>());
        }
    }
    table
}

/// Both small models, one row of JSON, by servers.
pub(super) fn picture(outcome: &Outcome, file: &Path) -> Result<()> {
    // A model whose turn did not come on every number of connections has no line to draw.
    let panel = |model: &&str| {
        let of = |duel: &&Duel| duel.cell.model.name == *model && duel.cell.rows == 1;
        let connections = [1, 8, 32, 128];
        let line = |name, at: &dyn Fn(u32) -> f64| Series {
            name,
            points: connections.iter().map(|count| (f64::from(*count), at(*count))).collect(),
        };
        let own = |count| {
            let met = outcome.duels.iter().filter(of).filter(|duel| duel.cell.connections == count);
            median(met.flat_map(|duel| duel.rounds.iter().map(|turn| turn.torchpod.requests_per_second)))
        };
        let is_whole = |series: &Series| series.points.iter().all(|(_, rate)| rate.is_finite());
        let mut series = vec![line("torchpod", &own)];
        for peer in &PEERS {
            let at = |count| {
                let met = outcome.duels.iter().filter(of).filter(|duel| duel.cell.connections == count);
                let mut met = met.filter(|duel| duel.peer.name == peer.name);
                met.next().map_or(f64::NAN, |duel| middle(duel, |turn| turn.peer.requests_per_second))
            };
            series.push(line(peer.name, &at));
        }
        series.retain(is_whole);
        let title = format!("{model}, one row of JSON");
        (!series.is_empty()).then_some(Panel { title, x: "connections", base: 2.0, y: "requests/s", series, log: true })
    };
    let panels: Vec<Panel> = ["mlp", "digits"].iter().filter_map(panel).collect();
    plot::write(file, &panels)
}
