//! `postgres://` and `mysql://`: connect, `SELECT 1`, close. A new connection each time, since a pooled one would hide
//! that the next is refused: a changed password, a full server.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use url::Url;

use super::{Host, reason};

/// Parameters of a URL that a check may need; others are more likely misspelt, or lead to another server.
const POSTGRES_PARAMETERS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "options"];
const MYSQL_PARAMETERS: [&str; 4] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"];

pub(super) fn postgres(url: &Url, host: &Host) -> Result<PgConnectOptions, String> {
    only(&POSTGRES_PARAMETERS, url)?;
    // The error itself would show the parameter's value.
    let options = PgConnectOptions::from_url(url).map_err(
        |_| "expected sslmode to be disable, allow, prefer, require, verify-ca or verify-full, and all of it in UTF-8",
    )?;
    // Poolers refuse start-up parameters that they do not know.
    let options = options.host(&host.name).port(host.port).extra_float_digits(None).disable_statement_logging();
    let named = url.query_pairs().any(|(key, _)| key == "application_name");
    Ok(if named { options } else { options.application_name("torchpod") })
}

pub(super) fn mysql(url: &Url, host: &Host) -> Result<MySqlConnectOptions, String> {
    only(&MYSQL_PARAMETERS, url)?;
    // The error itself would show the parameter's value.
    let options = MySqlConnectOptions::from_url(url).map_err(|_| {
        "expected ssl-mode to be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, and all of it in UTF-8"
    })?;
    let options = options.host(&host.name).port(host.port).disable_statement_logging();
    // SELECT 1 means the same in every mode: nothing is to be set first.
    Ok(options.pipes_as_concat(false).no_engine_substitution(false).timezone(None).set_names(false))
}

fn only(parameters: &[&str], url: &Url) -> Result<(), String> {
    match url.query_pairs().find(|(key, _)| !parameters.contains(&&**key)) {
        Some(_) => Err(format!("expected no parameters but {}", parameters.join(", "))),
        None => Ok(()),
    }
}

pub(super) async fn check_postgres(options: &PgConnectOptions) -> Result<(), String> {
    let checked = async {
        let mut connection = options.connect().await?;
        connection.execute("SELECT 1").await?;
        connection.close().await
    };
    checked.await.map_err(|error| explain(&error))
}

/// As for PostgreSQL. Not one generic function: the compiler cannot show that its future may move between threads.
pub(super) async fn check_mysql(options: &MySqlConnectOptions) -> Result<(), String> {
    let checked = async {
        let mut connection = options.connect().await?;
        connection.execute("SELECT 1").await?;
        connection.close().await
    };
    checked.await.map_err(|error| explain(&error))
}

fn explain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // PostgreSQL's words depend on whose connections are left: `remaining connection slots are reserved …`.
            Some("53300") => reason::line(&format!("too many clients: {}", error.message())),
            _ => reason::line(error.message()),
        },
        error => reason::of(error),
    }
}
