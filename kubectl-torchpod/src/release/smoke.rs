//! Whether a pod answers real requests, before anybody is sent to it: it is ready, and each of its models computes one
//! row. What a model takes is asked of the pod itself, and the row is of zeros, unless somebody gives a request.

use std::future::Future;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::api::{Api, NUMBERS, Page, REQUESTS, port_of};
use super::error::Error;
use super::find::name_of;

/// Rows are zeros up to so many values; a model that takes more gets its request from somebody.
const MOST: i64 = 4_000_000;

/// What is sent, where not zeros.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub body: Option<Value>,
}

/// What all of them answered, in words; the first that is wrong ends it.
pub async fn smoke(
    api: &Api<'_>,
    pods: &[&Pod],
    container: &str,
    request: Option<&Request>,
) -> Result<Result<String, String>, Error> {
    let mut said = String::new();
    for pod in pods {
        match one(api, pod, container, request).await? {
            Ok(what) => said = what,
            Err(why) => return Ok(Err(format!("pod {}: {why}", name_of(*pod)))),
        }
    }
    Ok(Ok(format!("{} pods: ready, {said}", pods.len())))
}

async fn one(
    api: &Api<'_>,
    pod: &Pod,
    container: &str,
    request: Option<&Request>,
) -> Result<Result<String, String>, Error> {
    let (name, probes) = (name_of(pod), port_of(pod, container, &NUMBERS));
    let (Some(port), Some(probes)) = (port_of(pod, container, &REQUESTS), probes) else {
        return Ok(Err("its container names no port".to_owned()));
    };
    if let Err(why) = fine("/ready", api.ask(name, probes, "/ready", None)).await? {
        return Ok(Err(why));
    }
    if let Some(Request { path, body }) = request {
        return Ok(fine(path, api.ask(name, port, path, body.as_ref())).await?.map(|_| format!("{path} answers")));
    }
    let models = match fine("/v1/models", api.ask(name, port, "/v1/models", None)).await? {
        Ok(list) => models(&list),
        Err(_) => Vec::new(),
    };
    for model in &models {
        let path = format!("/v2/models/{model}");
        let described = match fine(&path, api.ask(name, port, &path, None)).await? {
            Ok(described) => described,
            Err(why) => return Ok(Err(why)),
        };
        let Some(row) = zeros(&described) else { continue };
        let path = format!("{path}/infer");
        match api.ask(name, port, &path, Some(&row)).await? {
            // A model may refuse a row of zeros, but must not fail of it.
            Page::Refused(code, _) if (400..500).contains(&code) => {}
            page => {
                if let Err(why) = told(&path, page) {
                    return Ok(Err(why));
                }
            }
        }
    }
    if models.is_empty() {
        return Ok(fine("/", api.ask(name, port, "/", None)).await?.map(|_| "/ answers".to_owned()));
    }
    Ok(Ok(format!("computes {}", models.join(", "))))
}

async fn fine(path: &str, page: impl Future<Output = Result<Page, Error>>) -> Result<Result<String, String>, Error> {
    Ok(told(path, page.await?))
}

fn told(path: &str, page: Page) -> Result<String, String> {
    match page {
        Page::Body(body) => Ok(body),
        Page::Refused(code, why) => Err(format!("{path}: {code} {why}")),
        Page::Silent(why) => Err(format!("{path}: {why}")),
        Page::Unasked => Err(format!("{path}: the API server was too busy to ask: try again")),
    }
}

fn models(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let names = list["models"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// A request of one row of zeros for a model that is described so; nothing, where that leaves sizes open or has texts.
fn zeros(described: &str) -> Option<Value> {
    let described: Value = serde_json::from_str(described).ok()?;
    let inputs = described["inputs"].as_array().filter(|inputs| !inputs.is_empty())?;
    let inputs: Option<Vec<Value>> = inputs.iter().map(zero).collect();
    Some(json!({"inputs": inputs?}))
}

fn zero(input: &Value) -> Option<Value> {
    let datatype = input["datatype"].as_str().filter(|datatype| *datatype != "BYTES")?;
    let shape: Option<Vec<i64>> = input["shape"].as_array()?.iter().map(Value::as_i64).collect();
    let shape: Vec<i64> = shape?.into_iter().map(|size| if size < 0 { 1 } else { size }).collect();
    let values =
        shape.iter().try_fold(1_i64, |values, size| values.checked_mul(*size)).filter(|values| *values <= MOST)?;
    let value = if datatype == "BOOL" { json!(false) } else { json!(0) };
    let data = vec![value; usize::try_from(values).ok()?];
    Some(json!({"name": input["name"], "datatype": datatype, "shape": shape, "data": data}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_zeros_is_as_the_model_says_and_texts_are_left_to_people() {
        let described = |datatype: &str, shape: &str| {
            format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape}}}]}}"#)
        };
        let row = zeros(&described("FP32", "[-1,2,3]")).unwrap();
        assert_eq!(row["inputs"][0]["shape"], json!([1, 2, 3]));
        assert_eq!(row["inputs"][0]["data"], json!([0, 0, 0, 0, 0, 0]));
        assert_eq!(zeros(&described("BOOL", "[1]")).unwrap()["inputs"][0]["data"], json!([false]));
        for odd in [described("BYTES", "[1]"), described("FP32", "[9000,9000]"), "{}".to_owned(), "<html>".to_owned()] {
            assert_eq!(zeros(&odd), None, "{odd}");
        }
    }
}
