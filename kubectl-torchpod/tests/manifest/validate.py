"""Checks manifests strictly, against what Kubernetes has published, and the projects of custom resources (schema/).

validate.py FILE… -- VERSION…    prints one line for each thing that is wrong, and the number of objects checked last
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils

SCHEMAS = {
    path.stem: jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for path in (pathlib.Path(__file__).parent / "schema").glob("*.json")
}


def as_pod(thing):
    """The parts of a ServingRuntime that KServe copies into a pod, as one."""
    spec = {key: thing["spec"][key] for key in ("containers", "volumes", "tolerations", "affinity") if key in thing["spec"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": thing["metadata"], "spec": spec}


def builtin(thing, version):
    """What is wrong with an object of Kubernetes' own; the validator stops at the first."""
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def custom(thing):
    """What is wrong with a custom resource, all of it."""
    for error in SCHEMAS[thing["kind"]].iter_errors(thing):
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


def wrong(thing, versions):
    if thing["kind"] in SCHEMAS:
        yield from custom(thing)
        if thing["kind"] != "ServingRuntime":
            return
        thing = as_pod(thing)
    for version in versions:
        for problem in builtin(thing, version):
            yield f"Kubernetes {version}: {problem}"


def main():
    split = sys.argv.index("--")
    files, versions = sys.argv[1:split], sys.argv[split + 1 :]
    missing = set(versions) - {utils.major_minor(known) for known in utils.all_versions()}
    if missing:
        sys.exit(f"kubernetes-validate has no schemas for {sorted(missing)}")
    checked = problems = 0
    for file in files:
        for thing in yaml.safe_load_all(pathlib.Path(file).read_text()):
            checked += 1
            for problem in wrong(thing, versions):
                problems += 1
                print(f"{file}: {thing['kind']}/{thing['metadata']['name']}: {problem}")
    print(checked)
    sys.exit(problems > 0)


main()
