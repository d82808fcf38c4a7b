//! Every rule, a file a subject. A rule says nothing where the input lacks what it needs: no false alarm is worth a hit.

mod budget;
mod deprecated;
mod disruption;
mod flagger;
mod health;
mod limit;
mod probe;
mod quota;
mod resources;
mod rollout;
mod scheduling;
mod schema;
mod service;
mod termination;
mod track;

use super::rule::Rule;

pub(super) static ALL: [&[Rule]; 15] = [
    schema::RULES,
    deprecated::RULES,
    probe::RULES,
    budget::RULES,
    health::RULES,
    termination::RULES,
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
