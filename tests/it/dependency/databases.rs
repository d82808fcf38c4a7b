//! PostgreSQL, MariaDB and Redis that freeze, crash, come back, refuse a password and are full.

use std::any::Any;
use std::time::Instant;

use rustix::process::Signal;
use sqlx::{Connection as _, MySqlConnection, PgConnection};
use torchpod::dependency::Dependency;

use super::{SLACK, Watching, connections_to, no_connection_is_left, notice, pace, watch};
use crate::database::{Database, Kind, PASSWORD};
use crate::support::{Turn, poll};

const PACE: &str = "#interval=300ms,timeout=300ms,failures=3";
/// The least that MariaDB lets itself be limited to.
const LIMIT: u32 = 10;

#[test]
fn postgres_is_followed_through_a_freeze_a_crash_and_a_restart() {
    follow_through_trouble(Kind::Postgres);
}

#[test]
fn mariadb_is_followed_through_a_freeze_a_crash_and_a_restart() {
    follow_through_trouble(Kind::Mariadb);
}

#[test]
fn redis_is_followed_through_a_freeze_a_crash_and_a_restart() {
    follow_through_trouble(Kind::Redis);
}

fn follow_through_trouble(kind: Kind) {
    let _turn = Turn::shared();
    let mut database = Database::start(kind, 100);
    let limit = notice(pace(PACE)) + SLACK;
    let watching = watch(&[&(database.url(PASSWORD) + PACE)]);
    watching.comes_up();

    database.signal(Signal::STOP);
    let reason = watching.changes_to(false, limit);
    assert_eq!(reason, "no answer within 300ms", "{}", database.log());
    database.signal(Signal::CONT);
    watching.changes_to(true, limit);

    database.kill();
    let reason = watching.changes_to(false, limit);
    assert_eq!(reason, "connection refused", "{}", database.log());
    database.restart();
    watching.comes_up();
    assert_eq!(watching.report().error, None);
}

#[test]
fn postgres_that_refuses_says_why_and_keeps_no_connection() {
    let refusals = Refusals {
        kind: Kind::Postgres,
        password: r#"password authentication failed for user "torchpod""#,
        full: "too many clients",
    };
    refusals.are_named();
}

#[test]
fn mariadb_that_refuses_says_why_and_keeps_no_connection() {
    let refusals =
        Refusals { kind: Kind::Mariadb, password: "Access denied for user 'torchpod'", full: "Too many connections" };
    refusals.are_named();
}

#[test]
fn redis_that_refuses_says_why_and_keeps_no_connection() {
    let refusals = Refusals { kind: Kind::Redis, password: "WRONGPASS", full: "max number of clients reached" };
    refusals.are_named();
}

/// What a server says of each refusal.
struct Refusals {
    kind: Kind,
    password: &'static str,
    full: &'static str,
}

impl Refusals {
    fn are_named(&self) {
        let _turn = Turn::shared();
        let database = Database::start(self.kind, LIMIT);
        let url = database.url(PASSWORD) + PACE;
        let watching = watch(&[&url]);
        watching.comes_up();
        self.a_wrong_password(&database);
        self.a_full_house(&database, &watching);
        drop(watching);
        a_thousand_checks(self.kind, &database);
    }

    fn a_wrong_password(&self, database: &Database) {
        let url = database.url("hunter%2322") + "#interval=100ms,failures=1";
        let watching = watch(&[&url]);
        watching.fails_with(&[self.password]);
        let told = format!("{:?}", watching.reports());
        assert!(!told.contains("hunter#22") && !told.contains("hunter%2322"), "{told}");
    }

    fn a_full_house(&self, database: &Database, watching: &Watching) {
        let entering = (0..database.limit()).map(|_| watching.runtime.block_on(enter(self.kind, database)));
        let guests: Vec<_> = entering.collect();
        let reason = watching.changes_to(false, notice(pace(PACE)) + SLACK);
        assert!(reason.contains(self.full), "{reason}");
        drop(guests);
        watching.changes_to(true, notice(pace(PACE)) + SLACK);
    }
}

/// A connection that lasts until it is dropped. Where a check has the last place, it waits until that is free.
async fn enter(kind: Kind, database: &Database) -> Box<dyn Any> {
    let (url, started) = (database.url(PASSWORD), Instant::now());
    loop {
        let entered = match kind {
            Kind::Postgres => PgConnection::connect(&url).await.map(boxed).map_err(|error| error.to_string()),
            Kind::Mariadb => MySqlConnection::connect(&url).await.map(boxed).map_err(|error| error.to_string()),
            Kind::Redis | Kind::RedisTls => {
                let client = redis::Client::open(url.as_str()).expect("a URL");
                let entered = client.get_multiplexed_async_connection().await;
                entered.map(boxed).map_err(|error| error.to_string())
            }
        };
        match entered {
            Ok(guest) => return guest,
            Err(error) => assert!(started.elapsed() < SLACK * 10, "the place of a check never came free: {error}"),
        }
    }
}

fn boxed(connection: impl Any) -> Box<dyn Any> {
    Box::new(connection)
}

/// A thousand checks, by as many dependencies as the limit leaves room for.
fn a_thousand_checks(kind: Kind, database: &Database) {
    database.ask_for_no_password();
    let at_once = database.limit() as usize / 2;
    let url = database.url(PASSWORD) + "#interval=1ms,timeout=1ms";
    let mut dependencies: Vec<Dependency> = vec![url.parse().unwrap(); at_once];
    for dependency in &mut dependencies {
        dependency.pace.timeout = SLACK * 5;
    }
    let mut watching = super::watch_all(dependencies);
    let total = |watching: &Watching| watching.reports().iter().map(|report| report.succeeded).sum::<u64>();
    poll("a thousand checks have passed", || total(&watching) >= 1000);
    let open = connections_to(database.port());
    assert!(open <= at_once, "{open} connections of {at_once} dependencies");
    let failed: Vec<_> = watching.reports().into_iter().filter(|report| report.failed > 0).collect();
    assert!(failed.is_empty(), "{failed:?}");
    watching.stop();
    no_connection_is_left(database.port());
    poll("the server has no client left", || watching.runtime.block_on(clients(kind, database)) == 0);
}

/// How many clients the server itself sees, besides the one that asks.
async fn clients(kind: Kind, database: &Database) -> usize {
    let url = database.url(PASSWORD);
    match kind {
        Kind::Postgres => {
            let mut asking = PgConnection::connect(&url).await.expect("it is there");
            let question =
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            sqlx::query(question).fetch_all(&mut asking).await.expect("it answers").len()
        }
        Kind::Mariadb => {
            let mut asking = MySqlConnection::connect(&url).await.expect("it is there");
            sqlx::query("SHOW PROCESSLIST").fetch_all(&mut asking).await.expect("it answers").len() - 1
        }
        Kind::Redis | Kind::RedisTls => {
            let client = redis::Client::open(url.as_str()).expect("a URL");
            let mut asking = client.get_multiplexed_async_connection().await.expect("it is there");
            let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut asking).await.expect("it answers");
            list.lines().count() - 1
        }
    }
}
