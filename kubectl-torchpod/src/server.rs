//! What a container that runs torchpod was told: the ports that it will open, and how long it takes to leave. Defaults
//! are those of `torchpod serve --help`.

use std::time::Duration;

use crate::cluster::Container;

/// What torchpod does where it is told nothing; a test compares it with the server's own flags.
pub const DEFAULTS: [(&str, &str); 5] = [
    ("listen", "0.0.0.0:8080"),
    ("grpc-listen", "0.0.0.0:9090"),
    ("probe-listen", ""),
    ("drain-delay", "5s"),
    ("drain-timeout", "30s"),
];

/// What a probe may ask by HTTP, by gRPC and by `torchpod probe`; tests compare them with the server's own.
pub const PATHS: [&str; 7] = ["/", "/docs", "/health", "/metrics", "/openapi.json", "/ready", "/startup"];
pub const SERVICES: [&str; 5] = ["", "inference.GRPCInferenceService", "liveness", "readiness", "startup"];
pub const QUESTIONS: [&str; 3] = ["health", "ready", "startup"];

/// How torchpod will behave. None, where the manifest does not tell, such as a value from somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub listen: Option<u16>,
    pub grpc: Option<Port>,
    pub probe: Option<Port>,
    pub drain_delay: Option<Duration>,
    pub drain_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    At(u16),
    Closed,
}

impl Server {
    /// None, where the container runs something else, as far as can be told.
    pub fn of(container: &Container<'_>) -> Option<Server> {
        is_torchpod(container).then(|| {
            let told = Told { container };
            let port = |text: &str| match text {
                "off" | "" => Some(Port::Closed),
                address => Some(Port::At(address.rsplit_once(':')?.1.parse().ok()?)),
            };
            let time = |text: &str| humantime::parse_duration(text).ok();
            Server {
                listen: told.setting("listen").and_then(|text| text.rsplit_once(':')?.1.parse().ok()),
                grpc: told.setting("grpc-listen").and_then(|text| port(&text)),
                probe: told.setting("probe-listen").and_then(|text| port(&text)),
                drain_delay: told.setting("drain-delay").and_then(|text| time(&text)),
                drain_timeout: told.setting("drain-timeout").and_then(|text| time(&text)),
            }
        })
    }

    /// Whether something answers on a port; true, where nobody can tell.
    pub fn may_listen(&self, port: i32) -> bool {
        let known = |open: Option<Port>| match open {
            Some(Port::At(at)) => i32::from(at) == port,
            Some(Port::Closed) => false,
            None => true,
        };
        self.listen.is_none_or(|at| i32::from(at) == port) || known(self.grpc) || known(self.probe)
    }
}

/// By its command, or without one by its image's name.
fn is_torchpod(container: &Container<'_>) -> bool {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let serves = |word: Option<&String>| word.is_none_or(|word| word == "serve" || word.starts_with('-'));
    let args = container.spec.args.as_deref().unwrap_or_default();
    if let Some([program, rest @ ..]) = container.spec.command.as_deref() {
        return base(program) == "torchpod" && serves(rest.first().or(args.first()));
    }
    let image = container.spec.image.as_deref().unwrap_or_default();
    let name = base(image.split('@').next().unwrap_or_default());
    name.split(':').next() == Some("torchpod") && serves(args.first())
}

/// Of the settings that are known here those that torchpod refuses: name, value, and what it expects.
pub fn refused(container: &Container<'_>) -> Vec<(&'static str, String, &'static str)> {
    let told = Told { container };
    let check = |(name, _): (&'static str, &str)| {
        let value = told.setting(name)?;
        let (fine, expected) = match name {
            "drain-delay" | "drain-timeout" => (humantime::parse_duration(&value).is_ok(), "a time such as 30s"),
            "grpc-listen" | "probe-listen" if ["", "off"].contains(&value.as_str()) => return None,
            _ => {
                let port = value.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                (port.is_some(), "an address such as 0.0.0.0:8080")
            }
        };
        (!fine).then_some((name, value, expected))
    };
    DEFAULTS.into_iter().filter_map(check).collect()
}

/// What torchpod is told of a setting that has no default.
pub fn told(container: &Container<'_>, name: &str) -> Option<String> {
    Told { container }.setting(name)
}

struct Told<'a> {
    container: &'a Container<'a>,
}

impl Told<'_> {
    /// What a flag, or else its variable, or else the default says.
    fn setting(&self, name: &str) -> Option<String> {
        if let Some(value) = self.flag(name) {
            // `$(NAME)` is filled in by the kubelet.
            return (!value.contains("$(")).then_some(value);
        }
        let default = || DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, default)| (*default).to_owned());
        let variable = format!("TORCHPOD_{}", name.to_uppercase().replace('-', "_"));
        let spec = self.container.spec;
        if let Some(variable) = spec.env.iter().flatten().rev().find(|one| one.name == variable) {
            return match (&variable.value, &variable.value_from) {
                (Some(value), None) if !value.is_empty() && !value.contains("$(") => Some(value.clone()),
                (_, Some(_)) => None,
                (Some(value), None) if !value.is_empty() => None,
                // An empty variable counts as unset.
                _ => default(),
            };
        }
        let elsewhere = spec.env_from.as_ref().is_some_and(|from| !from.is_empty()) || self.flag("config").is_some();
        let by_variable = spec.env.iter().flatten().any(|one| one.name == "TORCHPOD_CONFIG");
        default().filter(|_| !elsewhere && !by_variable)
    }

    /// `--name value` or `--name=value`; of several, the last.
    fn flag(&self, name: &str) -> Option<String> {
        let flag = format!("--{name}");
        let spec = self.container.spec;
        let words: Vec<&String> = spec.command.iter().flatten().chain(spec.args.iter().flatten()).collect();
        let mut found = None;
        for (place, word) in words.iter().enumerate() {
            if let Some(value) = word.strip_prefix(&flag) {
                match value.strip_prefix('=') {
                    Some(value) => found = Some(value.to_owned()),
                    None if value.is_empty() => found = words.get(place + 1).map(|next| (*next).clone()),
                    None => {}
                }
            }
        }
        found
    }
}
