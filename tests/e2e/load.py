"""Callers inside the cluster: one that opens a connection for each request, and one that keeps its own."""

import json
from pathlib import Path

from cluster import IMAGE, Failed, Namespace, until

SAMPLE = Path(__file__).parents[2] / "models/digits/sample.json"
KINDS = {"fresh": "Connection: close", "kept": "Connection: keep-alive"}
# Every pod is told where the Services of its namespace are. The rules that lead there lag behind.
BEGIN = """
url=http://${prefix}_SERVICE_HOST:${prefix}_SERVICE_PORT
until curl --silent --fail --max-time 5 --output /dev/null "$url/ready"; do sleep 0.2; done
"""
# A hundred requests in turn, and one line for each.
SCRIPT = """
while :; do
  curl --silent --max-time 60 --output /dev/null --write-out '%{{http_code}} %{{errormsg}}\\n' --rate 200/s \\
       --header '{header}' --data '{body}' "$url/predict?[1-100]"
done
"""
COUNT = """
for _ in $(seq {times}); do curl --silent --max-time 60 "$url/"; done
sleep infinity
"""


def deployment(name: str, script: str) -> str:
    """One pod that runs a script in the server's image, for its curl. It reads a kept log: nothing ever starts it again."""
    secure = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    user = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": name,
        "image": IMAGE or "torchpod:0.1.0",
        "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": secure,
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": user,
        "containers": [container],
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"caller": name}},
                "template": {"metadata": {"labels": {"caller": name}}, "spec": spec},
            },
        }
    )


class Caller:
    """A pod that asks, and whose log has a line for each answer."""

    def __init__(self, namespace: Namespace, name: str, service: str, script: str) -> None:
        self.namespace, self.name = namespace, name
        begin = BEGIN.format(prefix=service.upper().replace("-", "_"))
        namespace.kubectl("create", "--filename=-", given=deployment(name, begin + script))
        namespace.complete(name)
        (self.pod,) = namespace.names("pods", f"--selector=caller={name}")

    def answers(self) -> list[str]:
        return self.namespace.kubectl("logs", self.pod).splitlines()

    def end(self) -> None:
        self.namespace.kubectl("delete", "deployment", self.name)


def count(namespace: Namespace, service: str, times: int) -> dict[str, int]:
    """Asks `GET /` so many times, each on a connection of its own, and counts who answered."""
    caller = Caller(namespace, "count", service, COUNT.format(times=times))
    try:
        lines = until(f"{times} answers", lambda: len(caller.answers()) >= times and caller.answers())
    finally:
        caller.end()
    return {line: lines.count(line) for line in sorted(set(lines))}


class Load:
    """Goes on while the cluster changes. Closed, it holds that every request was answered with 200."""

    def __init__(self, namespace: Namespace, service: str = "ml-model-service", may_lose: bool = False) -> None:
        body = "".join(SAMPLE.read_text().split())
        self.may_lose = may_lose
        self.callers = [
            Caller(namespace, f"load-{kind}", service, SCRIPT.format(header=header, body=body))
            for kind, header in KINDS.items()
        ]

    def __enter__(self) -> "Load":
        self.wait_for(100)
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            sent = {caller.name: caller.answers() for caller in self.callers}
            lost = {name: [line for line in lines if line[:3] != "200"] for name, lines in sent.items()}
            print(f"    {', '.join(f'{name}: {len(lines)} sent, {len(lost[name])} lost' for name, lines in sent.items())}")
            if any(lost.values()) and not self.may_lose:
                raise Failed(f"requests were lost: {lost}")
        for caller in self.callers:
            caller.end()

    def wait_for(self, requests: int) -> None:
        """So many of each kind, all in all."""
        until(
            f"{requests} requests of each kind",
            lambda: all(len(caller.answers()) >= requests for caller in self.callers),
            pause=1,
        )
