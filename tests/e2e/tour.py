"""The tour of every strategy, with kubectl, on the cluster that KUBECONFIG names. `make e2e`.

Each stop has a namespace of its own, calls the Service from pods in it all the while, and fails where a request is lost or
a promise broken. What is not visited is said, with the reason.

    IMAGE=torchpod:0.1.0   the image, where the cluster's registry has it
    IMAGE_NEW=torchpod:2   the same of another version, to be promoted by the plugin's canary
    CPU=100m               what a pod asks for, on a cluster that is too small for 13 pods of a core each
    REQUESTS=20000         of each kind of caller, at each stop
    DRAIN_NODE=NAME        a node that may be drained
    STOPS=recreate,pdb     these alone
    KEEP=1                 leaves the namespaces
"""

import functools
import json
import os
import subprocess
import sys
import time

from cluster import KUBECTL, PATIENCE, Failed, Namespace, Watched, kubectl, until
from load import Load, count

IMAGE_NEW = os.environ.get("IMAGE_NEW", "")
REQUESTS = int(os.environ.get("REQUESTS", "20000"))
DRAIN_NODE = os.environ.get("DRAIN_NODE", "")
PLUGIN = os.environ.get("PLUGIN", "target/debug/kubectl-torchpod")
CRITICAL = 6.635  # of chi-square with one degree of freedom: chance exceeds it once in 100 times
RULES = 3  # seconds until every node's rules follow the endpoints: nothing says when
SERVICE, NAME = "ml-model-service", "ml-model"


class Skipped(Exception):
    """Why a stop is not visited."""


def rolling(namespace: Namespace, strategy: str) -> None:
    namespace.apply(strategy)
    with Watched(namespace, NAME), Load(namespace) as load:
        for version in ("v2", "v3"):
            namespace.update(NAME, version)
            namespace.complete(NAME)
        load.wait_for(REQUESTS)
    expect_all(namespace, "v3")


def undo(namespace: Namespace) -> None:
    namespace.apply("strategy-rolling")
    namespace.update(NAME, "v1")
    namespace.complete(NAME)
    with Watched(namespace, NAME), Load(namespace) as load:
        namespace.update(NAME, "v2")
        until("the rollout is under way", lambda: 0 < updated(namespace) < wanted(namespace), pause=0.1)
        namespace.kubectl("rollout", "undo", f"deployment/{NAME}")
        namespace.complete(NAME)
        load.wait_for(REQUESTS)
    expect_all(namespace, "v1")


def updated(namespace: Namespace) -> int:
    return namespace.get("deployment", NAME)["status"].get("updatedReplicas", 0)


def wanted(namespace: Namespace) -> int:
    return namespace.get("deployment", NAME)["spec"]["replicas"]


def stopped(namespace: Namespace, variable: str, kind: str) -> None:
    """A version that is not fit: the rollout stops where the plan says, until it is undone."""
    namespace.apply("strategy-rolling")
    namespace.update(NAME, "v1")
    namespace.complete(NAME)
    deadline = json.dumps({"spec": {"progressDeadlineSeconds": 90}})
    namespace.kubectl("patch", "deployment", NAME, "--patch", deadline)
    with Watched(namespace, NAME), Load(namespace) as load:
        namespace.set_variable(NAME, variable)
        until("the deadline has passed", lambda: reason(namespace) == "ProgressDeadlineExceeded")
        sizes = [one["spec"]["replicas"] for one in sets(namespace) if one["spec"]["replicas"]]
        if (plan := predicted(wanted(namespace), kind)) != sizes:
            raise Failed(f"it stopped at {sizes}, and the plan says {plan}")
        namespace.kubectl("rollout", "undo", f"deployment/{NAME}")
        namespace.complete(NAME)
        load.wait_for(REQUESTS)
    expect_all(namespace, "v1")


def reason(namespace: Namespace) -> str | None:
    conditions = namespace.get("deployment", NAME)["status"].get("conditions", [])
    return next((one["reason"] for one in conditions if one["type"] == "Progressing"), None)


def sets(namespace: Namespace) -> list[dict]:
    """The Deployment's ReplicaSets, by revision."""
    found = json.loads(namespace.kubectl("get", "replicasets", "--output=json"))["items"]
    own = [one for one in found if one["metadata"]["ownerReferences"][0]["name"] == NAME]
    return sorted(own, key=lambda one: int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))


def predicted(replicas: int, kind: str) -> list[int]:
    plan = [PLUGIN, "plan", "k8s/rendered/strategy-rolling.yaml", "--new-version", kind, "--output", "json"]
    done = subprocess.run([*plan, "--replicas", str(replicas)], stdout=subprocess.PIPE, text=True)
    return [one["size"] for one in json.loads(done.stdout)["steps"][-1]["sets"]]


def two_colours(namespace: Namespace) -> None:
    """Blue-green, in which each environment answers with its name."""
    namespace.apply("strategy-blue-green")
    for colour in ("blue", "green"):
        namespace.update(f"ml-model-{colour}", colour)
        namespace.complete(f"ml-model-{colour}")


def blue_green(namespace: Namespace) -> None:
    two_colours(namespace)
    with Load(namespace) as load:
        for colour in ("green", "blue", "green"):
            selector = json.dumps({"spec": {"selector": {"version": colour}}})
            namespace.kubectl("patch", "service", SERVICE, "--patch", selector)
            namespace.served_by(SERVICE, f"app=ml-model,version={colour}")
            expect_all(namespace, colour)
        namespace.scale("ml-model-blue", 0)
        load.wait_for(REQUESTS)


def canary(namespace: Namespace) -> None:
    stable, new = "ml-model-stable", "ml-model-canary"
    namespace.apply("strategy-canary")
    for deployment, version in ((stable, "v1"), (new, "v2")):
        namespace.update(deployment, version)
        namespace.complete(deployment)
    replicas = namespace.get("deployment", stable)["spec"]["replicas"]
    with Load(namespace) as load:
        for share in (0.25, 0.5, 1):
            more = round((replicas + 1) * share)
            namespace.scale(new, more)
            namespace.complete(new)
            namespace.scale(stable, replicas + 1 - more)
            namespace.complete(stable)
        namespace.update(stable, "v2")
        namespace.scale(stable, replicas)
        namespace.complete(stable)
        namespace.scale(new, 0)
        load.wait_for(REQUESTS)
    expect_all(namespace, "v2")


def plugin(namespace: Namespace, *arguments: str, code: int = 0) -> None:
    """Runs `kubectl torchpod`, which is to end so."""
    done = subprocess.run([PLUGIN, *arguments, "--namespace", namespace.name], text=True, capture_output=True)
    if done.returncode != code:
        raise Failed(f"kubectl torchpod {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")


def plugin_canary(namespace: Namespace) -> None:
    """A version that cannot come up is taken back, and a good one, where there is one, is promoted."""
    namespace.apply("strategy-canary")
    with Load(namespace) as load:
        plugin(namespace, "canary", NAME, "--image", "torchpod:there-is-none", code=1)
        if IMAGE_NEW:
            plugin(namespace, "canary", NAME, "--image", IMAGE_NEW, "--gate", "30s")
        load.wait_for(REQUESTS)
    if not IMAGE_NEW:
        raise Skipped("IMAGE_NEW names no version to promote; one that cannot come up was taken back")


def plugin_cutover(namespace: Namespace) -> None:
    two_colours(namespace)
    with Load(namespace) as load:
        for arguments, colour in ((("cutover", NAME, "--to", "green"), "green"), (("rollback", NAME), "blue")):
            plugin(namespace, *arguments)
            namespace.served_by(SERVICE, f"app=ml-model,version={colour}")
            expect_all(namespace, colour)
        load.wait_for(REQUESTS)


def recreate(namespace: Namespace) -> None:
    """Requests fail in the gap between the last old pod and the first new one, and at no other time."""
    namespace.apply("strategy-recreate")
    with Load(namespace, may_lose=True) as load:
        load.wait_for(REQUESTS // 2)
        before = [len(caller.answers()) for caller in load.callers]
        namespace.update(NAME, "v2")
        namespace.complete(NAME)
        time.sleep(RULES)
        after = [len(caller.answers()) for caller in load.callers]
        load.wait_for(max(after) + REQUESTS // 2)
        for caller, first, last in zip(load.callers, before, after):
            failed = [index for index, line in enumerate(caller.answers()) if line[:3] != "200"]
            outside = [index for index in failed if not first <= index < last]
            if outside or not failed:
                raise Failed(f"{caller.name}: of {len(failed)} failures {len(outside)} lie outside the gap")
    expect_all(namespace, "v2")


def hands_on(namespace: Namespace) -> None:
    """The split of 100 new connections, against the pods' shares."""
    namespace.apply("tutorial")
    stable, new = "ml-model-stable", "ml-model-canary"
    for pods in ((9, 1), (6, 4), (0, 10)):
        for deployment, replicas in ((new, pods[1]), (stable, pods[0])):
            namespace.scale(deployment, replicas)
            namespace.complete(deployment)
        namespace.served_by("ml-model", "app=ml-model")
        time.sleep(RULES)
        # Chance alone exceeds the bound once in 100 times, and hardly twice in a row.
        if not any(is_split(namespace, pods) for _ in range(2)):
            raise Failed(f"100 connections are not split as {pods[0]} and {pods[1]} pods are")


def is_split(namespace: Namespace, pods: tuple[int, int]) -> bool:
    counted = count(namespace, "ml-model", 100)
    print(f"    {pods[0]} stable, {pods[1]} canary: {counted}")
    share = pods[1] / sum(pods)
    seen = sum(number for line, number in counted.items() if "canary" in line)
    if share == 1:
        return seen == 100
    return (seen - 100 * share) ** 2 / (100 * share * (1 - share)) <= CRITICAL


def budget(namespace: Namespace) -> None:
    """An eviction that would break a budget is refused, and granted once another pod is ready."""
    namespace.apply("strategy-recreate")

    def evict(pod: str) -> bool:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}}
        path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
        try:
            kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(eviction))
        except Failed as refused:
            if "disruption budget" not in str(refused):
                raise
            return False
        return True

    first, second, *_ = namespace.names("pods", "--selector=app=ml-model")
    if not evict(first):
        raise Failed("the first eviction was refused")
    if evict(second):
        raise Failed("the second eviction was granted while the budget was used up")
    namespace.complete(NAME)
    until("the second is granted", lambda: evict(second))


def drain(namespace: Namespace) -> None:
    if not DRAIN_NODE:
        raise Skipped("DRAIN_NODE names no node that may be drained")
    namespace.apply("strategy-recreate")
    try:
        with Load(namespace) as load:
            flags = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE:.0f}s"]
            kubectl("drain", DRAIN_NODE, *flags, "--pod-selector=app=ml-model")
            namespace.complete(NAME)
            load.wait_for(REQUESTS)
    finally:
        kubectl("uncordon", DRAIN_NODE)


def flagger(_: Namespace) -> None:
    kinds = kubectl("api-resources", "--api-group=flagger.app", "--output=name")
    if "canaries" not in kinds:
        raise Skipped("Flagger is not installed")
    raise Skipped("Flagger shifts traffic by a router of your own, which this tour cannot know: see k8s/README.md")


def expect_all(namespace: Namespace, label: str) -> None:
    time.sleep(RULES)
    counted = count(namespace, SERVICE, 20)
    if set(counted) != {label}:
        raise Failed(f"expected all of 20 from {label}: {counted}")


STOPS = {
    "rolling": functools.partial(rolling, strategy="strategy-rolling"),
    "conservative": functools.partial(rolling, strategy="strategy-rolling-conservative"),
    "aggressive": functools.partial(rolling, strategy="strategy-rolling-aggressive"),
    "undo": undo,
    # Nobody listens on port 1, so it waits for ever; and a time that is none ends it at once.
    "never-ready": functools.partial(stopped, variable="TORCHPOD_DEPENDENCY=tcp://127.0.0.1:1", kind="never-ready"),
    "crash": functools.partial(stopped, variable="TORCHPOD_DRAIN_TIMEOUT=never", kind="crash"),
    "blue-green": blue_green,
    "canary": canary,
    "plugin-canary": plugin_canary,
    "plugin-cutover": plugin_cutover,
    "recreate": recreate,
    "hands-on": hands_on,
    "budget": budget,
    "drain": drain,
    "flagger": flagger,
}


def visit(name: str) -> str:
    began = time.monotonic()
    print(f"{name} …", flush=True)
    try:
        with Namespace(f"torchpod-e2e-{name}") as namespace:
            STOPS[name](namespace)
        said = f"passed in {time.monotonic() - began:.0f} s"
    except Skipped as why:
        said = f"NOT VISITED: {why}"
    except Failed as why:
        said = f"FAILED: {why}"
    print(f"{name}: {said}", flush=True)
    return said


def main() -> int:
    try:
        server = json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    except (Failed, KeyError, FileNotFoundError) as why:
        print(f"{KUBECTL} reaches no cluster: set KUBECONFIG to one that may be used for this ({why})", file=sys.stderr)
        return 2
    asked = [name for name in os.environ.get("STOPS", "").split(",") if name] or list(STOPS)
    if unknown := set(asked) - set(STOPS):
        print(f"STOPS names {', '.join(sorted(unknown))}; there are {', '.join(STOPS)}", file=sys.stderr)
        return 2
    print(f"Kubernetes {server}, {REQUESTS} requests of each kind at each stop")
    results = {name: visit(name) for name in asked}
    print("\n" + "\n".join(f"{name:<16}{said}" for name, said in results.items()))
    return int(any(said.startswith("FAILED") for said in results.values()))


if __name__ == "__main__":
    sys.exit(main())
