//! `redis://` and `rediss://`: AUTH where the URL has a user or a password, SELECT where it has a database, and PING.

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, cmd,
};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Host, reason};

#[derive(Clone)]
pub(super) struct Check(Client);

impl Check {
    pub(super) fn new(url: &Url, host: &Host) -> Result<Self, String> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !url.username().is_empty() {
            redis = redis.set_username(decoded(url.username()));
        }
        if let Some(password) = url.password() {
            redis = redis.set_password(decoded(password));
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() {
            redis = redis.set_db(database.parse().map_err(|_| "expected a database's number as the path".to_owned())?);
        }
        let (host, port) = (host.name.clone(), host.port);
        let address = match url.scheme() {
            "rediss" => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            _ => ConnectionAddr::Tcp(host, port),
        };
        let info = address.into_connection_info().map(|info| info.set_redis_settings(redis));
        info.and_then(Client::open).map(Self).map_err(|error| explain(&error))
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        // The monitor has the timeout, for all of it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.0.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(|error| explain(&error))?;
        cmd("PING").exec_async(&mut connection).await.map_err(|error| explain(&error))
    }
}

/// A server's own words, such as `WRONGPASS invalid username-password pair`, or what broke the connection.
fn explain(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => reason::line(&format!("{code} {detail}")),
        (Some(code), None) => code.to_owned(),
        (None, _) => reason::of(error),
    }
}
