//! `torchpod probe`: one question to a running server, for exec probes in images without a shell or curl.
//!
//! It is a client and knows nothing of the server: what it may say wrong, a kubelet would say wrong too.

mod grpc;
mod http;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Uri;
use tokio::net::TcpStream;

use crate::cli::{ProbeArgs, Question};

/// Whoever asks shows one line: the kubelet puts it into an event.
const LONGEST_LINE: usize = 300;

/// What the server answered.
#[derive(Debug)]
struct Verdict {
    pass: bool,
    /// The verdict in a word, and why where it does not pass.
    words: String,
}

/// A question on its way.
#[derive(Debug)]
struct Ask {
    question: Question,
    /// Of scheme http, with a host.
    url: Uri,
    grpc: bool,
    timeout: Duration,
}

/// Asks, says in one line what came of it, and returns 0 where the probe passes.
pub fn run(args: &ProbeArgs) -> ExitCode {
    let ask = match Ask::new(args, |name| std::env::var(name).ok()) {
        Ok(ask) => ask,
        Err(wrong) => {
            let _ = writeln!(io::stderr(), "torchpod: {}; `torchpod probe --help` tells more", wrong.join("; "));
            return ExitCode::from(2);
        }
    };
    let verdict = ask.run().unwrap_or_else(|why| {
        let words = format!("cannot ask {}: {why}", ask.url);
        Verdict { pass: false, words }
    });
    // A closed stdout does not change the verdict.
    let _ = writeln!(io::stdout(), "{}", one_line(&verdict.words));
    ExitCode::from(u8::from(!verdict.pass))
}

impl Ask {
    /// `variable` looks up those of the server, with which an exec probe shares its environment.
    fn new(args: &ProbeArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let text = args.url.clone().filter(|url| !url.is_empty()).unwrap_or_else(|| own_url(args.grpc, variable));
        let path = if args.grpc { None } else { Some(path(args.question)) };
        let url = url(&text, path).unwrap_or_else(|error| {
            wrong.push(format!("--url{}: {error}", shown(&text)));
            Uri::default()
        });
        let timeout = humantime::parse_duration(&args.timeout).ok().filter(|time| !time.is_zero());
        let timeout = timeout.unwrap_or_else(|| {
            // A variable that got the value of another one may hold a password.
            let shown = if args.timeout.contains('@') { "" } else { &args.timeout };
            wrong.push(format!("--timeout {shown}: expected a duration above 0s, such as 1s or 200ms"));
            Duration::ZERO
        });
        if wrong.is_empty() { Ok(Self { question: args.question, url, grpc: args.grpc, timeout }) } else { Err(wrong) }
    }

    fn run(&self) -> Result<Verdict, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let answer = runtime.block_on(async {
            let answer = async {
                let stream = self.connect().await.map_err(|error| why(&error))?;
                if self.grpc { grpc::ask(self, stream).await } else { http::ask(self, stream).await }
            };
            let late = |_| Err(format!("no answer within {}", humantime::format_duration(self.timeout)));
            tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(late)
        });
        runtime.shutdown_background(); // A name that is still being looked up holds nobody.
        answer
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let host = self.url.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let stream = TcpStream::connect((host, self.url.port_u16().unwrap_or(80))).await?;
        // HTTP/2 says hello in several small writes, between which the kernel would wait for 40 ms.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn path(question: Question) -> &'static str {
    match question {
        Question::Startup => "/startup",
        Question::Health => "/health",
        Question::Ready => "/ready",
    }
}

/// The server's own address, which an exec probe reads in the same variables.
pub(crate) fn own_url(grpc: bool, variable: impl Fn(&str) -> Option<String>) -> String {
    let (names, port): (&[&str], _) = if grpc {
        (&["TORCHPOD_GRPC_LISTEN"], "9090")
    } else {
        (&["TORCHPOD_PROBE_LISTEN", "TORCHPOD_LISTEN"], "8080")
    };
    let set = names.iter().filter_map(|name| variable(name)).find_map(|address| from_here(&address));
    set.unwrap_or_else(|| format!("http://127.0.0.1:{port}"))
}

/// Where whoever listens on `address` is asked from the same host; `None` where that does not say it.
fn from_here(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        named => named,
    };
    Some(format!("http://{host}:{port}"))
}

/// Where to ask: `path` below `text`, which must be a URL as far as its path, or as far as its port where nothing is to
/// stand below it.
fn url(text: &str, path: Option<&str>) -> Result<Uri, &'static str> {
    const EXPECTED: &str = "expected a URL such as http://127.0.0.1:8080";
    if text.contains('@') {
        return Err("expected no credentials: probes have none");
    }
    // A parser drops the fragment, and what follows a query is no path.
    if text.contains(['?', '#']) {
        return Err("expected neither a query nor a fragment: the question is the path");
    }
    let base: Uri = text.parse().map_err(|_| EXPECTED)?;
    if base.scheme_str() != Some("http") || base.host().is_none_or(str::is_empty) {
        return Err(EXPECTED);
    }
    if !has_usable_port(&base) {
        return Err("expected a port from 1 to 65535, or none for 80");
    }
    if path.is_none() && base.path() != "/" {
        return Err("expected no path: gRPC asks for a service");
    }
    format!("{}{}", text.trim_end_matches('/'), path.unwrap_or_default()).parse().map_err(|_| EXPECTED)
}

/// Whether what follows the host is a port or nothing. The parser lets any text pass there.
pub(crate) fn has_usable_port(url: &Uri) -> bool {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let after = authority.strip_prefix(url.host().unwrap_or_default()).unwrap_or_default();
    after.is_empty() || after.strip_prefix(':').is_some_and(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A URL that is refused, behind a space; nothing where it may hold a password.
pub(crate) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    // Without a host, the password of a user stands where the port should be.
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let is_number = after.split_once(':').is_none_or(|(_, port)| port.trim_start_matches('-').parse::<u64>().is_ok());
    if text.is_empty() || text.contains('@') || !is_number { String::new() } else { format!(" {text}") }
}

/// An error in words: what the system said where it said something, or each cause.
pub(crate) fn why(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<_> = std::iter::successors(Some(error), |error| (*error).source()).collect();
    let system = causes.iter().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error()).next_back();
    match system {
        // Without its number: `connection refused`.
        Some(code) => {
            io::Error::from_raw_os_error(code).to_string().split(" (").next().unwrap_or_default().to_lowercase()
        }
        None => causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": "),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: Option<&str>, grpc: bool, timeout: &str) -> ProbeArgs {
        ProbeArgs { question: Question::Ready, url: url.map(str::to_owned), grpc, timeout: timeout.to_owned() }
    }

    #[test]
    fn the_server_is_asked_where_its_own_variables_have_it() {
        let table = [
            (false, "TORCHPOD_X", "", "http://127.0.0.1:8080/ready"),
            (true, "TORCHPOD_X", "", "http://127.0.0.1:9090/"),
            (false, "TORCHPOD_LISTEN", "0.0.0.0:80", "http://127.0.0.1:80/ready"),
            (false, "TORCHPOD_PROBE_LISTEN", "[::]:81", "http://[::1]:81/ready"),
            (false, "TORCHPOD_LISTEN", "10.0.0.1:82", "http://10.0.0.1:82/ready"),
            (false, "TORCHPOD_LISTEN", "localhost:83", "http://localhost:83/ready"),
            (false, "TORCHPOD_LISTEN", "127.0.0.1:0", "http://127.0.0.1:8080/ready"),
            (true, "TORCHPOD_LISTEN", "0.0.0.0:80", "http://127.0.0.1:9090/"),
            (true, "TORCHPOD_GRPC_LISTEN", "off", "http://127.0.0.1:9090/"),
            (true, "TORCHPOD_GRPC_LISTEN", "0.0.0.0:90", "http://127.0.0.1:90/"),
        ];
        for (grpc, name, value, expected) in table {
            let ask = Ask::new(&args(None, grpc, "1s"), |asked| (asked == name).then(|| value.to_owned())).unwrap();
            assert_eq!(ask.url.to_string(), expected, "{name}={value}");
        }
    }

    #[test]
    fn a_url_may_have_a_path_and_must_be_one_of_http() {
        let ask = Ask::new(&args(Some("http://host/a/"), false, "200ms"), |_| None).unwrap();
        assert_eq!((ask.url.to_string().as_str(), ask.timeout), ("http://host/a/ready", Duration::from_millis(200)));
        for wrong in ["https://host", "host:8080", "http://", "a b"] {
            let error = Ask::new(&args(Some(wrong), false, "0s"), |_| None).unwrap_err();
            assert!(error[0].starts_with(&format!("--url {wrong}: ")) && error[1].starts_with("--timeout 0s"));
        }
    }

    #[test]
    fn what_would_ask_something_else_is_refused_without_what_may_be_a_password() {
        let query = "expected neither a query nor a fragment";
        let table = [
            (false, "http://me:hunter2@host", "--url: expected no credentials"),
            (false, "http://me:hunter2", "--url: expected a port"),
            (false, "http://host:80?token=hunter2", &format!("--url http://host:80: {query}")),
            (false, "http://host:80/?x=1", &format!("--url http://host:80/: {query}")),
            (false, "http://host:80#f", &format!("--url http://host:80: {query}")),
            (true, "http://host:80/#f", &format!("--url http://host:80/: {query}")),
            (false, "http://host:99999", "--url http://host:99999: expected a port"),
            (false, "http://[::1]:0/a", "--url http://[::1]:0/a: expected a port"),
            (true, "http://host:-1", "--url http://host:-1: expected a"),
            (false, "http://host:+80", "--url http://host:+80: expected a"),
            (false, "http://host:", "--url: expected a port"),
            (true, "http://host:80/health", "--url http://host:80/health: expected no path"),
        ];
        for (grpc, url, start) in table {
            let error = Ask::new(&args(Some(url), grpc, "1s"), |_| None).unwrap_err().join("; ");
            assert!(error.starts_with(start) && !error.contains("hunter2"), "{url}: {error}");
        }
        let error = Ask::new(&args(None, false, "redis://:hunter2@cache"), |_| None).unwrap_err();
        assert!(!error[0].contains("hunter2"), "{error:?}");
        for url in ["http://host:65535/", "http://[::1]:80", "http://[::1]", "http://host"] {
            Ask::new(&args(Some(url), true, "1s"), |_| None).unwrap();
        }
    }

    #[test]
    fn an_answer_stays_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[1mc\r"), "a b [1mc ");
        assert_eq!(one_line(&"x".repeat(1000)).len(), LONGEST_LINE);
    }
}
