"""A cluster, as kubectl shows it. Which one, KUBECONFIG says."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KUBECTL = os.environ.get("KUBECTL", "kubectl")
RENDERED = Path(__file__).parents[2] / "k8s/rendered"
IMAGE = os.environ.get("IMAGE", "")
CPU = os.environ.get("CPU", "")
PATIENCE = float(os.environ.get("PATIENCE", "900"))  # seconds for whatever is waited for
KEEP = os.environ.get("KEEP", "")


class Failed(Exception):
    """What the tour found wrong."""


def kubectl(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run([KUBECTL, *arguments], input=given, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def until(what: str, seen: Callable[[], object], pause: float = 0.5) -> object:
    """Waits until `seen` gives something true, and gives that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if value := seen():
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(pause)


class Namespace:
    """One of our own, which is deleted at the end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> "Namespace":
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}
        kubectl("apply", "--filename=-", given=json.dumps(namespace))
        return self

    def __exit__(self, *_) -> None:
        if not KEEP:
            kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return kubectl("--namespace", self.name, *arguments, given=given)

    def apply(self, rendered: str) -> None:
        """Applies a file of k8s/rendered, in this namespace, and waits until all of it is available."""
        text = (RENDERED / f"{rendered}.yaml").read_text()
        # The tutorial brings its own, which would be everybody's.
        text = text.replace("\n  namespace: ml-canary\n", "\n").replace("\n  name: ml-canary\n", f"\n  name: {self.name}\n")
        if IMAGE:
            text = text.replace("image: torchpod:0.1.0", f"image: {IMAGE}")
        # Not its client: we call from pods of our own.
        self.kubectl("apply", "--selector=app!=client", "--filename=-", given=text)
        for deployment in self.names("deployments"):
            if CPU:
                self.kubectl("set", "resources", f"deployment/{deployment}", f"--requests=cpu={CPU},memory=256Mi")
            self.complete(deployment)

    def names(self, kind: str, *flags: str) -> list[str]:
        return self.kubectl("get", kind, *flags, "--output=jsonpath={.items[*].metadata.name}").split()

    def get(self, kind: str, name: str) -> dict:
        return json.loads(self.kubectl("get", kind, name, "--output=json"))

    def set_variable(self, deployment: str, text: str) -> None:
        self.kubectl("set", "env", f"deployment/{deployment}", text)

    def update(self, deployment: str, label: str) -> None:
        """Another version: the same image under another name, so that nobody needs two."""
        self.set_variable(deployment, f"TORCHPOD_LABEL={label}")

    def scale(self, deployment: str, replicas: int) -> None:
        self.kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}")

    def complete(self, deployment: str) -> None:
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={PATIENCE:.0f}s")

    def served_by(self, service: str, pods: str) -> None:
        """Waits until the Service's endpoints are the ready pods of the selector `pods`, and no others."""

        def settled() -> bool:
            slices = json.loads(
                self.kubectl("get", "endpointslices", f"--selector=kubernetes.io/service-name={service}", "--output=json")
            )
            ends = [end for one in slices["items"] for end in one["endpoints"] or []]
            ready = {end["targetRef"]["name"] for end in ends if end["conditions"].get("ready")}
            return bool(ready) and ready == set(self.names("pods", f"--selector={pods}"))

        until(f"{service} sends to {pods}", settled)


def documents(lines: Iterator[str]) -> Iterator[dict]:
    """What `kubectl get --watch --output=json` writes: one object after another, over several lines each."""
    decoder, text = json.JSONDecoder(), ""
    for line in lines:
        text = (text + line).lstrip()
        if line.startswith("}"):
            document, end = decoder.raw_decode(text)
            text = text[end:]
            yield document


class Watched:
    """The fewest available pods of a Deployment, and the most that are not ending, while this is open."""

    def __init__(self, namespace: Namespace, deployment: str) -> None:
        self.what = f"deployment/{deployment}"
        watch = ["get", self.what, "--watch", "--output=json"]
        self.process = subprocess.Popen(
            [KUBECTL, "--namespace", namespace.name, *watch], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.broken: list[str] = []
        self.seen = 0
        self.thread = threading.Thread(target=self.follow)

    def __enter__(self) -> "Watched":
        self.thread.start()
        until(f"{self.what} is watched", lambda: self.seen)
        return self

    def __exit__(self, kind, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        if kind is None and self.broken:
            raise Failed(f"the promise was broken: {'; '.join(self.broken)}")

    def follow(self) -> None:
        for deployment in documents(self.process.stdout):
            self.seen += 1
            least, most = promised(deployment)
            status = deployment["status"]
            available, pods = status.get("availableReplicas", 0), status.get("replicas", 0)
            if available < least:
                self.broken.append(f"{self.what} had {available} available pods, and promised {least}")
            if pods > most:
                self.broken.append(f"{self.what} had {pods} pods, and promised at most {most}")


def promised(deployment: dict) -> tuple[int, int]:
    """The fewest available pods and the most pods that its strategy allows."""
    spec = deployment["spec"]
    replicas, strategy = spec["replicas"], spec["strategy"]
    if strategy["type"] == "Recreate":
        return 0, replicas
    rolling = strategy["rollingUpdate"]

    def number(value: int | str, *, up: bool) -> int:
        if isinstance(value, int):
            return value
        hundredths = replicas * int(value.rstrip("%"))
        return -(-hundredths // 100) if up else hundredths // 100

    surge, missing = number(rolling["maxSurge"], up=True), number(rolling["maxUnavailable"], up=False)
    return replicas - (missing if surge or missing else 1), replicas + surge
