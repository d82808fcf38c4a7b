//! `--dependency URL` to a `Dependency`: what the scheme needs, and the options in the fragment. Nothing is asked of the
//! network, and no error shows a credential.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::secret::{Secrets, shown};
use super::{Check, Dependency, Host, Pace, grpc, http, redis, sql};

const SCHEMES: &str = "tcp, http, https, redis, rediss, postgres, mysql, grpc or grpcs";
/// Less would check all the time.
const SHORTEST_TIME: Duration = Duration::from_millis(1);
/// More is a typing error.
const LONGEST_TIME: Duration = Duration::from_hours(24);
/// In characters: a name stands in every line about its dependency.
const LONGEST_NAME: usize = 100;

impl FromStr for Dependency {
    type Err = String;

    /// An error says what was expected, behind the URL's scheme and host where these can be told from a password.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|wrong| match shown(text) {
            Some(shown) => format!("{shown}: {wrong}"),
            None => wrong,
        })
    }
}

fn parse(text: &str) -> Result<Dependency, String> {
    let url: Url = text.parse().map_err(|error| format!("expected a URL such as redis://cache:6379 ({error})"))?;
    // A parser takes what follows an unencoded / ? or # for the path, the query or the options.
    if [url.path(), url.query().unwrap_or_default(), url.fragment().unwrap_or_default()].join("").contains('@') {
        return Err("expected / ? # and @ in a user's name or password as %2F %3F %23 and %40".to_owned());
    }
    let host = host(&url)?;
    let check = check(&url, &host)?;
    let options = Options::read(url.fragment().unwrap_or_default())?;
    let mut secrets = Secrets::of(&url, text);
    if let (Check::Postgres(_), Ok(password)) = (&check, std::env::var("PGPASSWORD")) {
        secrets.add(password); // sqlx reads it where the URL has none.
    }
    Ok(Dependency {
        name: options.name.unwrap_or_else(|| name(&url, &host)),
        required: options.required,
        pace: options.pace,
        scheme: url.scheme().to_owned(),
        host,
        check,
        secrets,
        rehearsed_down: false,
    })
}

fn host(url: &Url) -> Result<Host, String> {
    let default = match url.scheme() {
        "http" => Some(80),
        "https" => Some(443),
        "redis" | "rediss" => Some(6379),
        "postgres" | "postgresql" => Some(5432),
        "mysql" => Some(3306),
        "tcp" | "grpc" | "grpcs" => None,
        _ => return Err(format!("expected {SCHEMES} as the scheme")),
    };
    let name = url.host_str().unwrap_or_default();
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // Most likely a %40 that should be an @, behind a password.
    if name.is_empty() || name.contains('%') {
        return Err(format!("expected a host, such as {}://host:port", url.scheme()));
    }
    let port =
        url.port().or(default).ok_or_else(|| format!("expected a port, such as {}://host:9000", url.scheme()))?;
    Ok(Host { name: name.to_owned(), port })
}

fn check(url: &Url, host: &Host) -> Result<Check, String> {
    let sql_parameters_or_http = matches!(url.scheme(), "http" | "https" | "postgres" | "postgresql" | "mysql");
    if url.query().is_some() && !sql_parameters_or_http {
        return Err(format!("expected no ?, since {} takes no parameters; options stand behind a #", url.scheme()));
    }
    Ok(match url.scheme() {
        "tcp" if url.path().len() > 1 => return Err("expected no path: tcp only connects".to_owned()),
        "tcp" => Check::Tcp,
        "http" | "https" => Check::Http(http::Check::new(url)),
        "redis" | "rediss" => Check::Redis(redis::Check::new(url, host)?),
        "mysql" => Check::Mysql(Box::new(sql::mysql(url, host)?)),
        "postgres" | "postgresql" => Check::Postgres(Box::new(sql::postgres(url, host)?)),
        _ => Check::Grpc(grpc::Check::new(url, host)),
    })
}

fn name(url: &Url, host: &Host) -> String {
    format!("{}://{host}{}", url.scheme(), url.path().trim_end_matches('/'))
}

/// What stands in the fragment.
struct Options {
    name: Option<String>,
    required: bool,
    pace: Pace,
}

impl Options {
    fn read(fragment: &str) -> Result<Self, String> {
        let mut options = Self { name: None, required: true, pace: Pace::default() };
        let mut timeout = None;
        for (place, option) in fragment.split(',').enumerate().filter(|(_, option)| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            // The URL's parser encodes what a fragment may not hold.
            let value = &*percent_decode_str(value).decode_utf8_lossy();
            match key {
                "required" | "optional" if value.is_empty() => options.required = key == "required",
                "interval" => options.pace.interval = duration(key, value)?,
                "timeout" => timeout = Some(duration(key, value)?),
                "failures" => options.pace.failures = count(key, value)?,
                "successes" => options.pace.successes = count(key, value)?,
                "name" if (1..=LONGEST_NAME).contains(&value.chars().count()) => options.name = Some(value.to_owned()),
                "name" => return Err(format!("name: expected 1 to {LONGEST_NAME} characters")),
                _ => return Err(unknown(key, place + 1)),
            }
        }
        let Pace { interval, timeout: longest, .. } = options.pace;
        options.pace.timeout = timeout.unwrap_or(longest.min(interval));
        if options.pace.timeout > interval {
            let [timeout, interval] = [options.pace.timeout, interval].map(humantime::format_duration);
            return Err(format!("timeout={timeout}: expected no more than the interval, {interval}"));
        }
        Ok(options)
    }
}

/// The `place`th option, by its key where this is a word; else it may be the rest of a password with a `#` in it.
fn unknown(key: &str, place: usize) -> String {
    let is_word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase());
    let option = if is_word { key.to_owned() } else { format!("option {place}") };
    format!(
        "{option}: expected optional, required, interval=TIME, timeout=TIME, failures=COUNT, successes=COUNT or name=TEXT"
    )
}

fn duration(key: &str, value: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(value).ok().filter(|time| (SHORTEST_TIME..=LONGEST_TIME).contains(time));
    time.ok_or_else(|| format!("{key}: expected a duration such as 2s or 500ms, at least 1ms and at most 24h"))
}

fn count(key: &str, value: &str) -> Result<u32, String> {
    let count = value.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("{key}: expected a number, at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: [&str; 3] = ["hunter2", "p%40ss", "p@ss"];

    #[test]
    fn a_url_gets_the_defaults_of_its_scheme_and_a_name_without_credentials() {
        let table = [
            ("tcp://broker:9092", "tcp://broker:9092"),
            ("http://user:hunter2@api/healthz?token=hunter2", "http://api:80/healthz"),
            ("https://api:8443/", "https://api:8443"),
            ("redis://:hunter2@cache", "redis://cache:6379"),
            ("rediss://user:p%40ss@cache:7000/2", "rediss://cache:7000/2"),
            ("postgres://me:hunter2@db/app?sslmode=verify-full", "postgres://db:5432/app"),
            ("postgresql://me:hunter2@[2001:db8::1]/app", "postgresql://[2001:db8::1]:5432/app"),
            ("mysql://me:hunter2@db/app?ssl-mode=VERIFY_CA", "mysql://db:3306/app"),
            ("grpc://ranker:9000/rank.Ranker", "grpc://ranker:9000/rank.Ranker"),
            ("redis://:hunter2@cache#name=sessions", "sessions"),
            ("redis://:hunter2@cache#name=my%20käse", "my käse"),
        ];
        for (text, name) in table {
            let dependency: Dependency = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((&*dependency.name, dependency.required, dependency.pace), (name, true, Pace::default()));
            let debug = format!("{dependency:?}");
            assert!(SECRETS.iter().all(|secret| !debug.contains(secret)), "{debug}");
        }
    }

    #[test]
    fn options_stand_in_the_fragment() {
        let text = "redis://cache#optional,interval=2s,timeout=500ms,failures=5,successes=2";
        let dependency: Dependency = text.parse().unwrap();
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_millis(500));
        assert_eq!(dependency.pace, Pace { interval, timeout, failures: 5, successes: 2 });
        assert!(!dependency.required);
        let fast: Dependency = "redis://cache#interval=1s".parse().unwrap();
        assert_eq!(fast.pace.timeout, Duration::from_secs(1), "the default timeout fits into a short interval");
    }

    #[test]
    fn what_is_wrong_is_told_by_what_was_expected_and_without_credentials() {
        let table = [
            ("", "expected a URL such as", ""),
            ("cache:6379", "expected tcp, http", ""),
            ("redis:hunter2", "expected a host", ""),
            ("redis://:hunter2", "expected a URL", ""),
            ("redis://:hunter2:6379", "expected a URL", ""),
            ("redis://:hunter2%40cache:6379", "expected a URL", ""),
            ("redis://hunter2%40cache:6379", "expected a host", ""),
            ("password=hunter2", "expected a URL", ""),
            ("amqp://user:hunter2@queue/?key=hunter2", "amqp://queue: expected tcp, http", "grpcs"),
            ("jdbc:postgresql://db/app?password=hunter2", "expected tcp, http", ""),
            ("tcp://user:hunter2@broker", "tcp://broker: expected a port", "tcp://host:9000"),
            ("postgres://me:hunter2/x@db/app", "expected ", ""),
            ("postgres://me:12/hunter2@db/app", "expected / ? # and @", "%2F"),
            ("redis://me:12#hunter2@cache", "expected / ? # and @", "%23"),
            ("redis://me:12?hunter2@cache", "expected / ? # and @", "%3F"),
            ("redis://me:12#hunter2", "redis://me:12: option 1: expected optional", ""),
            ("redis://:hunter2@cache/first", "redis://cache: ", "a database's number"),
            ("redis://cache?password=hunter2", "redis://cache: ", "takes no parameters"),
            ("postgres://db/app?user=me&password=hunter2", "postgres://db: expected no parameters but", "sslmode"),
            ("mysql://db/app?password=hunter2", "mysql://db: expected no parameters but", "ssl-mode"),
            ("postgres://me:hunter2@db?sslmode=hunter2", "postgres://db: expected sslmode", "verify-full"),
            ("mysql://me:hunter2@db?ssl-mode=hunter2", "mysql://db: expected ssl-mode", "VERIFY_CA"),
            ("tcp://broker:1/path", "tcp://broker:1: expected no path", ""),
            (
                "http://api:80/h?token=hunter2#intervall=hunter2",
                "http://api:80: intervall: expected optional",
                "interval=",
            ),
            ("redis://:hunter2@cache#optinal", "redis://cache: optinal: expected optional", "failures=COUNT"),
            ("redis://cache#optional=hunter2", "redis://cache: optional: expected optional", ""),
            ("redis://cache#interval=hunter2", "redis://cache: interval: expected a duration", "2s"),
            ("redis://cache#interval=0s", "redis://cache: interval: ", "at least 1ms"),
            ("redis://cache#interval=1ns", "redis://cache: interval: ", "at least 1ms"),
            ("redis://cache#timeout=999us", "redis://cache: timeout: ", "at least 1ms"),
            ("redis://cache#interval=25h", "redis://cache: interval: ", "at most 24h"),
            ("redis://cache#failures=0", "redis://cache: failures: expected a number", ""),
            ("redis://cache#name=", "redis://cache: name: expected 1 to 100 characters", ""),
            ("redis://cache#timeout=9s", "redis://cache: timeout=9s: expected no more than the interval, 5s", ""),
        ];
        for (text, start, part) in table {
            let error = text.parse::<Dependency>().unwrap_err();
            assert!(error.starts_with(start) && error.contains(part), "{text:?} gave {error:?}");
            assert!(SECRETS.iter().all(|secret| !error.contains(secret)), "{error}");
        }
    }

    #[test]
    fn times_and_names_have_bounds() {
        let of = |options: String| format!("redis://cache#{options}").parse::<Dependency>();
        assert_eq!(of("interval=1ms".to_owned()).unwrap().pace.interval, SHORTEST_TIME);
        assert_eq!(of("interval=24h,timeout=24h".to_owned()).unwrap().pace.timeout, LONGEST_TIME);
        assert_eq!(of(format!("name={}", "ü".repeat(100))).unwrap().name.chars().count(), 100);
        assert!(of(format!("name={}", "ü".repeat(101))).unwrap_err().contains("100 characters"));
    }

    #[test]
    fn it_answers_to_its_name_its_scheme_and_its_protocol() {
        let dependency: Dependency = "rediss://cache#name=sessions".parse().unwrap();
        for word in ["sessions", "rediss", "redis"] {
            assert!(dependency.answers_to(word), "{word}");
        }
        assert!(!dependency.answers_to("mysql") && !dependency.answers_to("cache"));
        assert!("postgresql://db".parse::<Dependency>().unwrap().answers_to("postgres"));
    }
}
