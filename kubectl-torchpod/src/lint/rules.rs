//! Every rule, a file a subject. A rule says nothing where the input lacks what it needs: no hit is worth a false alarm.

mod budget;
mod deprecated;
mod disruption;
mod flagger;
mod health;
mod limit;
mod name;
mod probe;
mod quota;
mod reference;
mod resources;
mod rollout;
mod scheduling;
mod schema;
mod server;
mod service;
mod termination;
mod track;

use super::rule::Rule;

pub(super) static ALL: [&[Rule]; 18] = [
    schema::RULES,
    name::RULES,
    reference::RULES,
    deprecated::RULES,
    probe::RULES,
    budget::RULES,
    health::RULES,
    termination::RULES,
    server::RULES,
    rollout::RULES,
    track::RULES,
    service::RULES,
    disruption::RULES,
    scheduling::RULES,
    resources::RULES,
    quota::RULES,
    limit::RULES,
    flagger::RULES,
];
