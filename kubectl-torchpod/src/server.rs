//! What a container that runs torchpod was told: the ports that it will open, and how long it takes to leave. Defaults
//! are those of `torchpod serve --help`.

use std::time::Duration;

use crate::cluster::Container;

/// How torchpod will behave. None, where the manifest does not tell, such as a value that comes from a ConfigMap.
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
                listen: told.setting("listen", "0.0.0.0:8080").and_then(|text| text.rsplit_once(':')?.1.parse().ok()),
                grpc: told.setting("grpc-listen", "0.0.0.0:9090").and_then(|text| port(&text)),
                probe: told.setting("probe-listen", "").and_then(|text| port(&text)),
                drain_delay: told.setting("drain-delay", "5s").and_then(|text| time(&text)),
                drain_timeout: told.setting("drain-timeout", "30s").and_then(|text| time(&text)),
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
    match container.spec.command.as_deref() {
        Some([program, rest @ ..]) => base(program) == "torchpod" && serves(rest.first().or(args.first())),
        _ => {
            let image = container.spec.image.as_deref().unwrap_or_default();
            let name = base(image.split('@').next().unwrap_or_default());
            name.split(':').next() == Some("torchpod") && serves(args.first())
        }
    }
}

struct Told<'a> {
    container: &'a Container<'a>,
}

impl Told<'_> {
    /// What a flag, or else its variable, or else the default says.
    fn setting(&self, name: &str, default: &str) -> Option<String> {
        if let Some(value) = self.flag(name) {
            // `$(NAME)` is filled in by the kubelet.
            return (!value.contains("$(")).then_some(value);
        }
        let variable = format!("TORCHPOD_{}", name.to_uppercase().replace('-', "_"));
        let spec = self.container.spec;
        if let Some(variable) = spec.env.iter().flatten().rev().find(|one| one.name == variable) {
            return match (&variable.value, &variable.value_from) {
                (Some(value), None) if !value.is_empty() && !value.contains("$(") => Some(value.clone()),
                (_, Some(_)) => None,
                (Some(value), None) if !value.is_empty() => None,
                // An empty variable counts as unset.
                _ => Some(default.to_owned()),
            };
        }
        let elsewhere = spec.env_from.as_ref().is_some_and(|from| !from.is_empty()) || self.flag("config").is_some();
        let by_variable = spec.env.iter().flatten().any(|one| one.name == "TORCHPOD_CONFIG");
        (!elsewhere && !by_variable).then(|| default.to_owned())
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
