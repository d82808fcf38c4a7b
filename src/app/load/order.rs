//! An order to load: a model's folder is read again, what is new in it is proved beside what serves, and takes its place
//! in one step. Whatever goes wrong, what served serves on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::candidate::{Candidate, Workshop};
use crate::batch::Handle;
use crate::batch::control::{Order, Refused};
use crate::lifecycle::{Event, Phase};
use crate::model::digest;
use crate::model::repository::{self, Found};
use crate::telemetry::metrics::Load;

/// What takes the place of what served: what stays of it, and what is new.
struct Successors {
    kept: Vec<Handle>,
    new: Vec<Candidate>,
}

/// Whether other versions serve than did.
#[derive(Clone, Copy)]
enum Change {
    Some,
    None,
}

/// Carries `order` out and answers it.
pub(super) fn carry_out(workshop: &Arc<Workshop>, order: Order) {
    let started = Instant::now();
    let result = load(workshop, &order);
    let outcome = match &result {
        Ok(_) => Load::Ok,
        Err(Refused::Unknown(_) | Refused::Folder(_)) => Load::Folder,
        Err(Refused::TimedOut { .. }) => Load::TimedOut,
        Err(Refused::Overtaken(_) | Refused::Closed(_)) => Load::Overtaken,
        Err(_) => Load::Failed,
    };
    workshop.parts.telemetry.load(outcome);
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(change) => {
            let serves = workshop.parts.models.now().ids();
            let message = match change {
                Change::Some => "model loaded",
                Change::None => "nothing to load: the model's folder is as it was",
            };
            tracing::info!(model = order.name, seconds, serves, "{message}");
        }
        Err(error) => tracing::warn!(model = order.name, seconds, %error, "model not loaded; what served serves on"),
    }
    if workshop.parts.lifecycle.state().phase == Phase::Loading {
        workshop.wait_for_a_model();
    }
    workshop.parts.control.answer(order, result.map(drop));
}

fn load(workshop: &Arc<Workshop>, order: &Order) -> Result<Change, Refused> {
    let parts = &workshop.parts;
    let Successors { kept, new } = successors_in_time(workshop, order)?;
    let is_same = new.is_empty() && kept.len() == parts.models.now().versions(&order.name).len();
    let new: Vec<_> = new.into_iter().map(|candidate| candidate.enter(&parts.pulses)).collect();
    parts.control.publish(order, kept.into_iter().chain(new).collect())?;
    // ## Loading => Warming => Serving, where the server has waited for its first model. The candidate was proved on the
    // ## way, since it could still be withdrawn.
    if parts.lifecycle.apply(Event::Loaded, "the first model is read") {
        parts.lifecycle.apply(Event::Warmed, "the first model is proved and warm");
        workshop.rehearsal.begin();
    }
    Ok(if is_same { Change::None } else { Change::Some })
}

/// The order's successors, made on a thread of its own, since nothing else ends one that is stuck: it is given up after
/// `--load-timeout`.
fn successors_in_time(workshop: &Arc<Workshop>, order: &Order) -> Result<Successors, Refused> {
    let limit = workshop.plan.load_timeout;
    // Whoever gives up says so here; the token lives as long as the candidate's thread does.
    let (given_up, token) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
    let stuck = Arc::downgrade(&token);
    let (say, heard) = mpsc::channel();
    let work = {
        let (workshop, name, given_up) = (workshop.clone(), order.name.clone(), given_up.clone());
        move || {
            let work = AssertUnwindSafe(|| workshop.successors(&name, &given_up));
            let panicked = |_| Err(Refused::Failed(format!("loading {name} panicked; the log has the place")));
            // Nobody listening means that this was given up: what was made is dropped.
            let _ = say.send(catch_unwind(work).unwrap_or_else(panicked));
            drop(token);
        }
    };
    let thread = thread::Builder::new().name("candidate".to_owned()).spawn(work);
    thread.map_err(|error| Refused::Failed(format!("no thread to load {}: {error}", order.name)))?;
    match heard.recv_timeout(limit) {
        Ok(successors) => successors,
        Err(RecvTimeoutError::Timeout) => {
            given_up.store(true, Ordering::Relaxed);
            workshop.parts.control.gave_up(stuck);
            tracing::error!(
                model = order.name,
                ?limit,
                "load given up: its threads stay until they return by themselves"
            );
            Err(Refused::TimedOut { name: order.name.clone(), limit })
        }
        Err(RecvTimeoutError::Disconnected) => Err(Refused::Failed(format!("loading {} broke off", order.name))),
    }
}

impl Workshop {
    /// Finds and makes what is to serve under `name`, until it is `given_up`.
    fn successors(&self, name: &str, given_up: &AtomicBool) -> Result<Successors, Refused> {
        let go_on = || {
            let given_up = given_up.load(Ordering::Relaxed);
            if given_up { Err(Refused::Failed(format!("loading {name} was given up"))) } else { Ok(()) }
        };
        let told = |text: String| {
            let root = self.plan.models.display().to_string();
            let text = below(&text, root.trim_end_matches('/'));
            let told = told(&text);
            // What the client hears is logged with the order's end; this is what it does not hear.
            if told != text {
                tracing::warn!(model = name, error = text, "a candidate failed");
            }
            told
        };
        let found = repository::find_one(&self.plan.models, name, &self.plan.given);
        let found = found.map_err(|error| Refused::Folder(told(error.to_string())))?;
        if found.is_empty() {
            return Err(Refused::Unknown(name.to_owned()));
        }
        let serving = self.parts.models.now();
        let (mut kept, mut wanted) = (Vec::new(), Vec::new());
        for found in found {
            match serving.versions(name).iter().find(|handle| is_same(handle, &found)) {
                Some(handle) => kept.push(handle.clone()),
                None => wanted.push(found),
            }
        }
        go_on()?;
        self.parts.control.loading(name, wanted.iter().map(|found| found.version.as_str()));
        let others = serving.all().filter(|handle| handle.version.name != name).chain(&kept);
        let instances = others.map(|handle| handle.version.spec.instances).sum::<usize>()
            + wanted.iter().map(|found| found.spec.instances).sum::<usize>();
        let mut new = Vec::new();
        for found in wanted {
            let read = self.read(found).map_err(|error| Refused::Failed(told(error)))?;
            go_on()?;
            new.push(self.prove(read, instances).map_err(|error| Refused::Failed(told(error)))?);
            go_on()?;
        }
        Ok(Successors { kept, new })
    }
}

/// `text`, whose paths begin at the repository `root`.
fn below(text: &str, root: &str) -> String {
    if root.is_empty() { text.to_owned() } else { text.replace(&format!("{root}/"), "") }
}

/// An error's first line, as a client may hear it: no path leads out of the repository.
fn told(text: &str) -> String {
    without_paths(text.lines().next().unwrap_or_default())
}

/// Whether `handle` serves what was found: the same file, described in the same way.
fn is_same(handle: &Handle, found: &Found) -> bool {
    let version = &handle.version;
    let is_described_so =
        version.version == found.version && version.spec.is_as(&found.spec) && version.labels == found.labels;
    is_described_so && digest::of(&found.file).is_ok_and(|digest| version.digest.get() == Some(&digest))
}

/// `text` with an ellipsis for every word that holds an absolute path, or one that leads upwards.
fn without_paths(text: &str) -> String {
    let is_inner = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let begins = |word: &str, slash: usize| word[..slash].chars().next_back().is_none_or(|before| !is_inner(before));
    let is_path = |word: &str| word.contains("../") || word.match_indices('/').any(|(slash, _)| begins(word, slash));
    text.split(' ').map(|word| if is_path(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_hears_of_an_absolute_path() {
        for (text, told) in [
            ("digits@2 cannot be loaded from digits/2/model.pt", "digits@2 cannot be loaded from digits/2/model.pt"),
            ("open file failed, file path: /var/models/x.pt", "open file failed, file path: …"),
            ("it is (/etc/passwd) or \"/x\" or path=/y", "it is … or … or …"),
            ("raised at ../caffe2/serialize/reader.cc:145", "raised at …"),
            ("an I/O error", "an I/O error"),
        ] {
            assert_eq!(without_paths(text), told);
        }
    }

    #[test]
    fn a_client_hears_the_first_line_with_paths_from_the_repository_on() {
        let ours = "digits@2 cannot be loaded from /models/digits/2/model.pt: why\nTraceback of /opt/torch";
        let theirs = "digits@2 cannot be loaded from digits/2/model.pt: why";
        assert_eq!(told(&below(ours, "/models")), theirs);
        // Nothing is lost of one that is whole already: it needs no second line in the log.
        let whole = below("/models/broken holds no version", "/models");
        assert_eq!(told(&whole), whole);
    }
}
