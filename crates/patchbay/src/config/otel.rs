//! The standard `OTEL_*` variables that Patchbay honours.

use std::collections::BTreeMap;
use std::time::Duration;

use patchbay_types::Secret;
use percent_encoding::percent_decode_str;
use url::Url;

use super::problem::{Invalid, Origin, Problem};
use super::values;

/// Export of traces by OTLP over HTTP. Off unless an endpoint is set.
#[derive(Clone, Debug, Default)]
pub struct Otel {
    /// Where traces are posted, path included; none = no export.
    pub traces_endpoint: Option<Url>,
    /// Headers of each export.
    pub headers: Vec<(String, Secret)>,
    /// Longest time an export may take.
    pub timeout: Duration,
    /// Which traces are kept.
    pub sampler: Sampler,
    /// `service.name`.
    pub service_name: String,
    /// Further resource attributes.
    pub resource: Vec<(String, String)>,
    /// Waits between exports.
    pub schedule_delay: Duration,
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// What the caller decided; without a caller, all.
    #[default]
    ParentAlwaysOn,
    /// What the caller decided; without a caller, none.
    ParentAlwaysOff,
    /// What the caller decided; without a caller, this share.
    ParentRatio(f64),
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share.
    Ratio(f64),
}

/// Variables and what they mean here, for the reference.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "Collector's base URL; traces go to `<endpoint>/v1/traces`. Setting it turns the export on.",
    ),
    (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "URL for traces, used as it is; wins over the former.",
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers of every export: `name=value,name=value`, percent-encoded.",
    ),
    (
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "Headers for traces; win over the former.",
    ),
    (
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "Only `http/protobuf` is spoken; another value is refused at the start.",
    ),
    (
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "Longest time of an export, in milliseconds (10000).",
    ),
    (
        "OTEL_BSP_SCHEDULE_DELAY",
        "Wait between exports, in milliseconds (5000).",
    ),
    (
        "OTEL_TRACES_SAMPLER",
        "`parentbased_always_on` (default), `parentbased_always_off`, `parentbased_traceidratio`, \
         `always_on`, `always_off`, `traceidratio`.",
    ),
    (
        "OTEL_TRACES_SAMPLER_ARG",
        "Share of traces kept by the ratio samplers, 0 to 1.",
    ),
    ("OTEL_TRACES_EXPORTER", "`otlp` (default) or `none`."),
    ("OTEL_SERVICE_NAME", "`service.name` (patchbay)."),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "Further resource attributes: `name=value,name=value`.",
    ),
    ("OTEL_SDK_DISABLED", "`true` turns the export off."),
];

impl Otel {
    pub(super) fn read(variables: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader { variables, problems };
        let base = reader.parse("OTEL_EXPORTER_OTLP_ENDPOINT", values::web_url);
        let whole = reader.parse("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", values::web_url);
        let off = reader.parse("OTEL_SDK_DISABLED", values::switch) == Some(true)
            || reader.parse("OTEL_TRACES_EXPORTER", |text| match text {
                "otlp" => Ok(false),
                "none" => Ok(true),
                _ => Err(Invalid::new(
                    "is not an exporter Patchbay has",
                    "write otlp or none",
                )),
            }) == Some(true);
        for name in [
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ] {
            reader.parse(name, |text| match text {
                "http/protobuf" => Ok(()),
                _ => Err(Invalid::new(
                    "is not a protocol Patchbay speaks",
                    "write http/protobuf and use the collector's HTTP port, usually 4318",
                )),
            });
        }
        let headers = reader
            .parse("OTEL_EXPORTER_OTLP_TRACES_HEADERS", header_list)
            .or_else(|| reader.parse("OTEL_EXPORTER_OTLP_HEADERS", header_list));
        let mut resource = reader
            .parse("OTEL_RESOURCE_ATTRIBUTES", pairs)
            .unwrap_or_default();
        let named = resource.iter().position(|(name, _)| name == "service.name");
        let from_resource = named.map(|index| resource.remove(index).1);
        Self {
            traces_endpoint: whole.or_else(|| base.map(signal_url)).filter(|_| !off),
            headers: headers.unwrap_or_default(),
            timeout: reader
                .parse("OTEL_EXPORTER_OTLP_TIMEOUT", milliseconds)
                .unwrap_or(Duration::from_secs(10)),
            sampler: reader.sampler(),
            service_name: reader
                .get("OTEL_SERVICE_NAME")
                .map(str::to_owned)
                .or(from_resource)
                .unwrap_or_else(|| "patchbay".to_owned()),
            resource,
            schedule_delay: reader
                .parse("OTEL_BSP_SCHEDULE_DELAY", milliseconds)
                .unwrap_or(Duration::from_secs(5)),
        }
    }
}

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let text = self.get(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.problems.push(Problem {
                    key: name.to_owned(),
                    value: Some(if name.ends_with("HEADERS") {
                        "***".to_owned()
                    } else {
                        text.to_owned()
                    }),
                    origin: Origin::Variable(name.to_owned()),
                    reason: invalid.reason,
                    fix: invalid.fix,
                });
                None
            }
        }
    }

    fn sampler(&mut self) -> Sampler {
        let share = self.parse("OTEL_TRACES_SAMPLER_ARG", |text| match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err(Invalid::new("is not a share", "write a number from 0 to 1")),
        });
        let share = share.unwrap_or(1.0);
        self.parse("OTEL_TRACES_SAMPLER", |text| match text {
            "parentbased_always_on" => Ok(Sampler::ParentAlwaysOn),
            "parentbased_always_off" => Ok(Sampler::ParentAlwaysOff),
            "parentbased_traceidratio" => Ok(Sampler::ParentRatio(share)),
            "always_on" => Ok(Sampler::AlwaysOn),
            "always_off" => Ok(Sampler::AlwaysOff),
            "traceidratio" => Ok(Sampler::Ratio(share)),
            _ => Err(Invalid::new(
                "is not a sampler Patchbay has",
                "write parentbased_always_on, parentbased_traceidratio, always_on or always_off",
            )),
        })
        .unwrap_or_default()
    }
}

fn signal_url(mut base: Url) -> Url {
    let path = format!("{}/v1/traces", base.path().trim_end_matches('/'));
    base.set_path(&path);
    base
}

fn milliseconds(text: &str) -> Result<Duration, Invalid> {
    match text.parse() {
        Ok(number @ 1..=3_600_000) => Ok(Duration::from_millis(number)),
        _ => Err(Invalid::new(
            "is not a number of milliseconds up to an hour",
            "write digits only, such as 10000",
        )),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, Invalid> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Invalid::new("has a part without `=`", "write name=value,name=value"))?;
            let value = percent_decode_str(value.trim()).decode_utf8_lossy();
            Ok((name.trim().to_owned(), value.into_owned()))
        })
        .collect()
}

fn header_list(text: &str) -> Result<Vec<(String, Secret)>, Invalid> {
    pairs(text)?
        .into_iter()
        .map(|(name, value)| {
            let valid =
                http::HeaderName::try_from(&name).is_ok() && http::HeaderValue::try_from(&value).is_ok();
            if valid {
                Ok((name, Secret::new(value)))
            } else {
                Err(Invalid::new(
                    "has a header HTTP does not allow",
                    "write name=value,name=value",
                ))
            }
        })
        .collect()
}
