//! `/docs`: the document of `/openapi.json` as a page to read. It is written here, without scripts, so that a browser in
//! a cluster without a way out shows all of it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use super::openapi::{self, SERVER};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem } code, pre { font: 14px/1.5 ui-monospace, monospace }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem }
summary { cursor: pointer } summary b { display: inline-block; width: 3.2rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-top: 1px solid var(--line) }
pre { overflow: auto; max-height: 30rem }";

/// Nothing is fetched, and nothing run. The page is the same for everybody, and so is its nonce.
const POLICY: &str = "default-src 'none'; style-src 'nonce-torchpod'; base-uri 'none'; form-action 'none'";

static PAGE: LazyLock<Bytes> = LazyLock::new(|| write(openapi::described()).into());

/// The routes, as a page to read.
#[utoipa::path(get, path = "/docs", tag = SERVER, operation_id = "docs",
    responses((status = 200, content((String = "text/html")))))]
pub(super) async fn page() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE.clone())
}

fn write(api: &Value) -> String {
    let info = &api["info"];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>torchpod</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style nonce=\"torchpod\">{STYLE}</style></head><body>\n\
         <h1>{} {}</h1><p>{}. <a href=\"/openapi.json\">openapi.json</a> is the same for programs.</p>\n",
        text(&info["title"]),
        text(&info["version"]),
        text(&info["description"])
    );
    let mut tags: Vec<&str> = Vec::new();
    for (.., operation) in operations(api) {
        let tag = tag(operation);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    for wanted in tags {
        let _ = writeln!(page, "<h2>{}</h2>", escaped(wanted));
        for (path, method, operation) in operations(api).filter(|(.., operation)| tag(operation) == wanted) {
            write_operation(&mut page, path, method, operation);
        }
    }
    page.push_str("<h2>schemas</h2>\n");
    for (name, schema) in fields(&api["components"]["schemas"]) {
        let name = escaped(name);
        let json = escaped(&format!("{schema:#}"));
        let _ =
            writeln!(page, "<details id=\"{name}\"><summary><code>{name}</code></summary><pre>{json}</pre></details>");
    }
    page.push_str("</body></html>\n");
    page
}

/// Path, method and operation of each.
fn operations(api: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let methods = |(path, item)| fields(item).map(move |(method, operation)| (path, method, operation));
    fields(&api["paths"]).flat_map(methods)
}

fn tag(operation: &Value) -> &str {
    operation["tags"][0].as_str().unwrap_or_default()
}

fn write_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = writeln!(
        page,
        "<details><summary><b>{}</b> <code>{}</code> {}</summary>",
        escaped(&method.to_uppercase()),
        escaped(path),
        text(&operation["summary"])
    );
    if let Some(more) = operation["description"].as_str() {
        let _ = writeln!(page, "<p>{}</p>", escaped(more));
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter<th>in<th>meaning\n");
    }
    for parameter in parameters {
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let _ = writeln!(page, "<tr><td><code>{name}</code><td>{place}<td>{}", text(&parameter["description"]));
    }
    if !parameters.is_empty() {
        page.push_str("</table>\n");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let _ = writeln!(page, "<p>Body: {}</p>", bodies(content));
    }
    page.push_str("<table><tr><th>status<th>body<th>meaning\n");
    for (status, response) in fields(&operation["responses"]) {
        let content = response["content"].as_object().map(bodies).unwrap_or_default();
        let _ = writeln!(page, "<tr><td>{}<td>{content}<td>{}", escaped(status), text(&response["description"]));
    }
    page.push_str("</table></details>\n");
}

/// The kinds of a body, each with a link to its schema.
fn bodies(content: &Map<String, Value>) -> String {
    let kinds =
        content.iter().map(|(kind, body)| format!("<code>{}</code> {}", escaped(kind), schema(&body["schema"])));
    kinds.collect::<Vec<_>>().join(", ")
}

fn schema(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escaped(name));
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let all = all.iter().filter(|one| one["type"] != "null").map(self::schema);
        return all.collect::<Vec<_>>().join(" or ");
    }
    match schema["type"].as_str() {
        Some("array") => format!("[{}]", self::schema(&schema["items"])),
        _ => String::new(),
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
