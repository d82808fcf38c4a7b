//! PostgreSQL, MariaDB and Redis that freeze, crash, come back, refuse a password and are full.

use std::time::Instant;

use redis::AsyncConnectionConfig;
use rustix::process::Signal;
use sqlx::{Connection as _, MySqlConnection, PgConnection};
use torchpod::dependency::Dependency;

use super::{SLACK, Watching, connections_to, no_connection_is_left, notice, watch};
use crate::database::{Database, Kind, PASSWORD};
use crate::support::{Turn, poll};

const PACE: &str = "#interval=150ms,timeout=150ms,failures=3";
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
    let url = database.url(PASSWORD) + PACE;
    let limit = notice(url.parse::<Dependency>().unwrap().pace) + SLACK;
    let watching = watch(&[&url]);
    watching.comes_up();

    database.signal(Signal::STOP);
    let reason = watching.changes_to(false, limit);
    assert_eq!(reason, "no answer within 150ms", "{}", database.log());
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
        let guests: Vec<_> =
            (0..).map_while(|nth| watching.runtime.block_on(Guest::enter(self.kind, database, nth))).collect();
        let reason =
            watching.changes_to(false, notice(database.url(PASSWORD).parse::<Dependency>().unwrap().pace) + SLACK);
        assert!(reason.contains(self.full), "{reason}");
        drop(guests);
        watching.changes_to(true, SLACK * 5);
    }
}

/// Somebody else's connection.
enum Guest {
    Postgres { _held: PgConnection },
    Mariadb { _held: MySqlConnection },
    Redis { _held: redis::aio::MultiplexedConnection },
}

impl Guest {
    /// `None` where the house is full. A check may have the last place for a moment, so more than the limit are tried.
    async fn enter(kind: Kind, database: &Database, nth: u32) -> Option<Self> {
        if nth >= database.limit() {
            return None;
        }
        let url = database.url(PASSWORD);
        let started = Instant::now();
        loop {
            let entered = match kind {
                Kind::Postgres => PgConnection::connect(&url)
                    .await
                    .map(|held| Self::Postgres { _held: held })
                    .map_err(|error| error.to_string()),
                Kind::Mariadb => MySqlConnection::connect(&url)
                    .await
                    .map(|held| Self::Mariadb { _held: held })
                    .map_err(|error| error.to_string()),
                Kind::Redis => {
                    let client = redis::Client::open(url.as_str()).expect("a URL");
                    let config = AsyncConnectionConfig::new();
                    let held = client.get_multiplexed_async_connection_with_config(&config).await;
                    held.map(|held| Self::Redis { _held: held }).map_err(|error| error.to_string())
                }
            };
            match entered {
                Ok(guest) => return Some(guest),
                Err(error) => assert!(started.elapsed() < SLACK * 10, "the place of a check never came free: {error}"),
            }
        }
    }
}

/// A thousand checks, by as many dependencies as the limit leaves room for.
fn a_thousand_checks(kind: Kind, database: &Database) {
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
        Kind::Redis => {
            let client = redis::Client::open(url.as_str()).expect("a URL");
            let mut asking = client.get_multiplexed_async_connection().await.expect("it is there");
            let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut asking).await.expect("it answers");
            list.lines().count() - 1
        }
    }
}
