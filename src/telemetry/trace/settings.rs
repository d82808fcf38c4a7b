//! Which traces are kept and how they are sent, by the variables of OpenTelemetry's specification.

use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample as _};

/// A variable, and what is wrong with it.
type Wrong = (&'static str, String);

/// What the SDK does not decide.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rather than over HTTP.
    pub(super) over_grpc: bool,
    /// Whether a caller's decision is ours.
    follows: bool,
    /// Of those that begin here, or of all.
    sampler: Sampler,
}

impl Settings {
    /// What the variables say, asked one by one; `None` where no collector is named, or tracing is switched off.
    ///
    /// # Errors
    /// The variable that is wrong, with what was expected.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Wrong> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .into_iter()
            .any(|name| variable(name).is_some());
        let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if is_off || !is_named || !is_exported(&variable)? {
            return Ok(None);
        }
        let over_grpc = is_grpc(&variable)?;
        let name = variable("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().unwrap_or("parentbased_always_on");
        let root = name.strip_prefix("parentbased_");
        let sampler = match root.unwrap_or(name) {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(share(variable("OTEL_TRACES_SAMPLER_ARG"))?),
            _ => {
                let expected = "always_on, always_off or traceidratio, with or without parentbased_ before it";
                return Err(("OTEL_TRACES_SAMPLER", format!("{name}: expected {expected}")));
            }
        };
        Ok(Some(Self { over_grpc, follows: root.is_some(), sampler }))
    }

    pub(super) fn keeps(&self, trace: TraceId, caller: Option<bool>) -> bool {
        if let Some(decision) = caller.filter(|_| self.follows) {
            return decision;
        }
        let result = self.sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}

/// Whether OTLP is among what traces are exported by: where nothing is said, it is.
fn is_exported(variable: &impl Fn(&str) -> Option<String>) -> Result<bool, Wrong> {
    let Some(list) = variable("OTEL_TRACES_EXPORTER") else { return Ok(true) };
    let mut exporters = list.split(',').map(str::trim);
    if exporters.clone().all(|exporter| ["otlp", "none"].contains(&exporter)) {
        return Ok(exporters.any(|exporter| exporter == "otlp"));
    }
    Err(("OTEL_TRACES_EXPORTER", format!("{list}: expected otlp or none")))
}

/// HTTP where nothing is said, as the specification has it.
fn is_grpc(variable: &impl Fn(&str) -> Option<String>) -> Result<bool, Wrong> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let Some((name, value)) = names.into_iter().find_map(|name| Some((name, variable(name)?))) else {
        return Ok(false);
    };
    match value.as_str() {
        "grpc" => Ok(true),
        "http/protobuf" => Ok(false),
        _ => Err((name, format!("{value}: expected grpc or http/protobuf"))),
    }
}

/// All of them where nothing is said.
fn share(text: Option<String>) -> Result<f64, Wrong> {
    let Some(text) = text else { return Ok(1.0) };
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| ("OTEL_TRACES_SAMPLER_ARG", format!("{text}: expected a share from 0 to 1, such as 0.01")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Wrong> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Settings::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn nothing_is_traced_until_a_collector_is_named_or_once_it_is_switched_off() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().is_none());
        assert!(read(&[COLLECTOR]).unwrap().is_some());
        assert!(read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")]).unwrap().is_some());
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(read(&[COLLECTOR, off]).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn a_callers_decision_is_followed_unless_the_sampler_has_its_own() {
        for (sampler, of_the_root, of_a_kept, of_an_unkept) in [
            (None, true, true, false),
            (Some("parentbased_always_on"), true, true, false),
            (Some("parentbased_always_off"), false, true, false),
            (Some("always_on"), true, true, true),
            (Some("always_off"), false, false, false),
        ] {
            let variables: Vec<_> =
                sampler.map(|name| ("OTEL_TRACES_SAMPLER", name)).into_iter().chain([COLLECTOR]).collect();
            let sampling = read(&variables).unwrap().unwrap();
            let kept = [None, Some(true), Some(false)].map(|caller| sampling.keeps(TraceId::from(7), caller));
            assert_eq!(kept, [of_the_root, of_a_kept, of_an_unkept], "{sampler:?}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_kept() {
        let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        let kept = |share| {
            let sampling = read(&[COLLECTOR, sampler, ("OTEL_TRACES_SAMPLER_ARG", share)]).unwrap().unwrap();
            let mut random = fastrand::Rng::with_seed(7);
            (0..1_000).filter(|_| sampling.keeps(TraceId::from(random.u128(1..)), None)).count()
        };
        assert_eq!((kept("0"), kept("1")), (0, 1_000));
        assert!((50..150).contains(&kept("0.1")), "{}", kept("0.1"));
    }

    #[test]
    fn the_protocol_of_traces_wins_and_http_is_the_default() {
        let (grpc, http) = ("grpc", "http/protobuf");
        for (of_traces, of_all, over_grpc) in
            [("", "", false), ("", grpc, true), (grpc, http, true), (http, grpc, false), ("", http, false)]
        {
            let protocols =
                [("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", of_traces), ("OTEL_EXPORTER_OTLP_PROTOCOL", of_all), COLLECTOR];
            assert_eq!(read(&protocols).unwrap().unwrap().over_grpc, over_grpc, "{protocols:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let share = ("OTEL_TRACES_SAMPLER", "traceidratio");
        for (variables, name, got) in [
            ([COLLECTOR, ("OTEL_TRACES_SAMPLER", "jaeger_remote"), ("", "")], "OTEL_TRACES_SAMPLER", "jaeger_remote: "),
            ([COLLECTOR, share, ("OTEL_TRACES_SAMPLER_ARG", "7")], "OTEL_TRACES_SAMPLER_ARG", "7: "),
            (
                [COLLECTOR, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("", "")],
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/json: ",
            ),
            ([COLLECTOR, ("OTEL_TRACES_EXPORTER", "otlp,console"), ("", "")], "OTEL_TRACES_EXPORTER", "otlp,console: "),
            ([COLLECTOR, share, ("OTEL_TRACES_SAMPLER_ARG", "some")], "OTEL_TRACES_SAMPLER_ARG", "some: "),
        ] {
            let (variable, wrong) = read(&variables).unwrap_err();
            assert!(variable == name && wrong.starts_with(got), "{variable} {wrong}");
        }
    }
}
