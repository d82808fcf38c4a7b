"""Makes the schemas beside this file from what the custom resources' own projects have published.

Flagger's and the Prometheus Operator's definitions are packaged for Rust, as types that kopium made of them
(kube-custom-resources-rs, 0BSD): they get back what a schema needs, and are asked for it. KServe's definition is packaged
for Python, in its SDK (Apache-2.0): its models name every field and its type. Parts that are a pod's are left open, since
validate.py checks them as a pod.

    make.py    needs cargo, pip and their registries; prints what it wrote
"""

import ast
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
CRATES = {"kcr_flagger_app": "3.20260530.231609", "kcr_monitoring_coreos_com": "3.20260613.160609"}
KSERVE = "0.21.0"
# Kind: crate, version of the API, file of the crate.
RUST = {
    "Canary": ("kcr_flagger_app", "v1beta1", "canaries"),
    "MetricTemplate": ("kcr_flagger_app", "v1beta1", "metrictemplates"),
    "PodMonitor": ("kcr_monitoring_coreos_com", "v1", "podmonitors"),
    "PrometheusRule": ("kcr_monitoring_coreos_com", "v1", "prometheusrules"),
    "ServiceMonitor": ("kcr_monitoring_coreos_com", "v1", "servicemonitors"),
}
MANIFEST = """
[package]
name = "definitions"
edition = "2024"
[workspace]
[dependencies]
k8s-openapi = { version = "0.27", features = ["schemars", "v1_35"] }
kube = { version = "3", default-features = false, features = ["derive"] }
schemars = "1"
serde = { version = "1", features = ["derive"] }
serde_json = "1"
"""
METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def run(*command, folder=None):
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def closed(schema):
    """The same, with nothing allowed that is not named, and without the words that tell people about it."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    kept = {key: closed(part) for key, part in schema.items() if key not in ("description", "title", "format", "default")}
    # A field of the name `default` or `format` is one of these, too.
    for name, part in schema.get("properties", {}).items():
        kept["properties"][name] = closed(part)
    if "properties" in kept:
        kept.setdefault("additionalProperties", False)
    # An unset field is left out, and not null.
    kept.pop("nullable", None)
    return kept


def whole(version, kind, spec, origin):
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Made by make.py from {origin}.",
        "type": "object",
        "properties": {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA, "spec": spec},
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


def crates(folder):
    """Where the crates' sources are. Nothing of them is built: they pin nothing that goes together."""
    pins = "".join(f'{crate} = "={version}"\n' for crate, version in CRATES.items())
    (folder / "src").mkdir(parents=True)
    (folder / "src/lib.rs").touch()
    (folder / "Cargo.toml").write_text('[package]\nname = "fetched"\nedition = "2024"\n[dependencies]\n' + pins)
    metadata = json.loads(run("cargo", "metadata", "--quiet", "--format-version=1", folder=folder))
    return {one["name"]: pathlib.Path(one["manifest_path"]).parent for one in metadata["packages"]}


def from_rust(folder):
    sources = crates(folder / "fetched")
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text(MANIFEST)
    main = ["use kube::CustomResourceExt as _;", "fn main() {", "}"]
    for kind, (crate, version, file) in RUST.items():
        text = (sources[crate] / f"src/{version}/{file}.rs").read_text().replace('#[kube(schema = "disabled")]', "")
        text = re.sub(r"#\[derive\((?=.*Serialize)", "#[derive(schemars::JsonSchema, ", text)
        (folder / f"src/{file}.rs").write_text(text)
        main.insert(1, f"mod {file};")
        main.insert(-1, f'println!("{{}}", serde_json::to_string(&{file}::{kind}::crd()).unwrap());')
    (folder / "src/main.rs").write_text("\n".join(main))
    definitions = run("cargo", "run", "--quiet", folder=folder).splitlines()
    for definition in map(json.loads, definitions):
        kind, version = definition["spec"]["names"]["kind"], definition["spec"]["versions"][0]
        spec = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
        crate = RUST[kind][0]
        group = f"{definition['spec']['group']}/{version['name']}"
        yield kind, whole(group, kind, spec, f"{crate} {CRATES[crate]} (0BSD)")


class Sdk:
    """The models of KServe's SDK, read without importing them: they import half of Python's machine learning."""

    def __init__(self, folder):
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"kserve=={KSERVE}")
        self.wheel = zipfile.ZipFile(next(folder.glob("kserve-*.whl")))

    def file(self, name):
        return f"kserve/models/{re.sub(r'(?<!^)(?=[A-Z][a-z])', '_', name).lower()}.py"

    def model(self, name):
        tree = ast.parse(self.wheel.read(self.file(name)))
        (model,) = [part for part in tree.body if isinstance(part, ast.ClassDef)]
        tables = {part.targets[0].id: ast.literal_eval(part.value) for part in model.body if isinstance(part, ast.Assign)}
        required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", ast.unparse(model))
        return tables["openapi_types"], tables["attribute_map"], sorted(set(required))

    def schema(self, type_):
        if type_ in PLAIN:
            return {"type": PLAIN[type_]}
        if inner := re.fullmatch(r"list\[(.+)\]", type_):
            return {"type": "array", "items": self.schema(inner[1])}
        if inner := re.fullmatch(r"dict\(str, (.+)\)", type_):
            return {"type": "object", "additionalProperties": self.schema(inner[1])}
        if self.file(type_) not in self.wheel.namelist():
            return {}  # Kubernetes' own, or one that the SDK names and lacks
        types, names, required = self.model(type_)
        return {
            "type": "object",
            "properties": {names[field]: self.schema(of) for field, of in types.items()},
            "required": [names[field] for field in required],
            "additionalProperties": False,
        }


def main():
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        schemas = dict(from_rust(folder))
        spec = Sdk(folder).schema("V1alpha1ServingRuntimeSpec")
    origin = f"kserve {KSERVE} (Apache-2.0)"
    schemas["ServingRuntime"] = whole("serving.kserve.io/v1alpha1", "ServingRuntime", spec, origin)
    for kind, schema in schemas.items():
        (HERE / f"{kind}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
        print(f"{kind}.json: {len(json.dumps(schema))} bytes")


main()
