//! `redis://` and `rediss://`: AUTH where the URL has a password, SELECT where it has a database, and PING.

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, cmd,
};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Host, reason};

#[derive(Clone)]
pub(super) struct Check {
    client: Client,
    /// What is said, one after the other. Not left to the client, which answers every refusal of AUTH, a full server's
    /// too, with `Password authentication failed`.
    commands: Vec<Cmd>,
}

impl Check {
    pub(super) fn new(url: &Url, host: &Host) -> Result<Self, String> {
        let (name, port) = (host.name.clone(), host.port);
        let address = match url.scheme() {
            "rediss" => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
            _ => ConnectionAddr::Tcp(name, port),
        };
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = address.into_connection_info().map(|info| info.set_redis_settings(plain));
        let client = info.and_then(Client::open).map_err(|error| explain(&error))?;
        Ok(Self { client, commands: commands(url)? })
    }

    pub(super) async fn run(&self) -> Result<(), String> {
        let explain = |error: RedisError| explain(&error);
        // The monitor has the timeout, for all of it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(explain)?;
        for command in &self.commands {
            command.exec_async(&mut connection).await.map_err(explain)?;
        }
        Ok(())
    }
}

fn commands(url: &Url) -> Result<Vec<Cmd>, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut commands = Vec::new();
    if let Some(password) = url.password() {
        let mut auth = cmd("AUTH");
        if !url.username().is_empty() {
            auth.arg(decoded(url.username()));
        }
        auth.arg(decoded(password));
        commands.push(auth);
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() {
        let number: u32 = database.parse().map_err(|_| "expected a database's number as the path".to_owned())?;
        commands.push(cmd("SELECT").arg(number).take());
    }
    commands.push(cmd("PING"));
    Ok(commands)
}

/// A server's own words, such as `WRONGPASS invalid username-password pair`, or what broke the connection.
fn explain(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => reason::line(&format!("{code} {detail}")),
        (Some(code), None) => code.to_owned(),
        (None, _) => reason::of(error),
    }
}
