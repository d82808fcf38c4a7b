"""The cpu image, built for real and run as a kubelet that trusts nobody runs it: `make test-image`, as root.

buildah builds it without a service, runc runs it: a root that cannot be written to, user 10001, no capabilities, no new
privileges, and namespaces of its own, so that its ports and its PID 1 are those of a pod.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import base

ROOT = Path(__file__).parents[2]
WORK = ROOT / "target/image"
LIMIT = 650_000_000  # bytes
PATIENCE = 60  # seconds
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")  # where Debian keeps those of a machine's own


def build() -> None:
    for name in ("graph", "run", "tmp"):
        (WORK / name).mkdir(parents=True, exist_ok=True)
    storage = WORK / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER") or "overlay"}"\n'
        f'graphroot = "{WORK / "graph"}"\nrunroot = "{WORK / "run"}"\n'
    )
    os.environ |= {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "TMPDIR": str(WORK / "tmp"),
        "BUILDAH_ISOLATION": "chroot",
        "BUILDER": "buildah",
        "BUILD_FLAGS": "--pull=never",
    }
    if OWN_CERTIFICATES.is_dir():
        os.environ["BUILD_FLAGS"] += f" --volume={OWN_CERTIFICATES}:{OWN_CERTIFICATES}:ro"
    base.prepare()
    subprocess.run([ROOT / "scripts/image", "cpu"], check=True)


def bundle(folder: Path, rootfs: str, image: dict, variables: dict[str, str]) -> None:
    """What runc is to run: `image` as its configuration says, and less than it may."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    spec = json.loads((folder / "config.json").read_text())
    user, group = map(int, image["User"].split(":"))
    spec["root"] = {"path": rootfs, "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": user, "gid": group},
        "args": image["Entrypoint"] + image["Cmd"],
        "env": image["Env"] + [f"{name}={value}" for name, value in variables.items()],
        "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        "noNewPrivileges": True,
    }
    (folder / "config.json").write_text(json.dumps(spec))


class Container:
    """The running image; `asks` runs a command in it."""

    def __init__(self, name: str, rootfs: str, image: dict, variables: dict[str, str]) -> None:
        self.name = name
        self.runc = ["runc", "--root", str(WORK / "runc")]
        folder = WORK / "bundle" / name
        bundle(folder, rootfs, image, variables)
        self.process = subprocess.Popen(
            [*self.runc, "run", "--bundle", folder, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def asks(self, *command: str) -> tuple[int, str]:
        done = subprocess.run([*self.runc, "exec", self.name, *command], capture_output=True, text=True)
        return done.returncode, done.stdout

    def until(self, what: str, *command: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            status, said = self.asks(*command)
            if status == 0 and what in said:
                return
            assert time.monotonic() < deadline, f"{command} did not say {what!r} in time, but {said!r}"
            assert self.process.poll() is None, f"the container has ended:\n{self.process.stdout.read()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """What `docker stop` and the kubelet begin with."""
        subprocess.run([*self.runc, "kill", self.name, "TERM"], check=True)

    def end(self) -> None:
        if self.process.poll() is None:
            subprocess.run([*self.runc, "delete", "--force", self.name], stderr=subprocess.DEVNULL)
        self.process.wait()
        self.process.stdout.close()


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        build()
        cls.name = "torchpod:" + re.search('^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        cls.image = json.loads(base.run("buildah", "inspect", "--type", "image", cls.name))["OCIv1"]["config"]
        container = base.run("buildah", "from", "--pull=never", cls.name)
        cls.addClassCleanup(base.run, "buildah", "rm", container)
        cls.rootfs = base.run("buildah", "mount", container)

    def start(self, name: str, **variables: str) -> Container:
        container = Container(f"torchpod-test-{name}", self.rootfs, self.image, variables)
        self.addCleanup(container.end)
        return container

    def test_it_weighs_at_most_650_mb(self) -> None:
        def weight(*paths: str) -> int:
            lines = base.run("du", "--summarize", "--apparent-size", "--block-size=1", "--total", *paths).splitlines()
            return int(lines[-1].split()[0])

        root = Path(self.rootfs)
        parts = {
            "libtorch_cpu.so": [root / "opt/libtorch/torch/lib/libtorch_cpu.so"],
            "what else libtorch needs": [
                path for path in (root / "opt/libtorch").rglob("*.so*") if path.name != "libtorch_cpu.so"
            ],
            "licences of libtorch": [root / "opt/libtorch/licenses"],
            "torchpod": [root / "usr/local/bin/torchpod"],
            "its engine": [root / "usr/local/lib/torchpod"],
            "models/digits": [root / "models"],
        }
        weights = {name: weight(*map(str, paths)) for name, paths in parts.items()}
        total = weight(self.rootfs)
        weights["Debian, curl and certificates"] = total - sum(weights.values())
        print()
        for name, bytes_ in sorted(weights.items(), key=lambda item: -item[1]):
            print(f"{bytes_ / 1e6:7.1f} MB  {name}")
        print(f"{total / 1e6:7.1f} MB  in all")
        self.assertLessEqual(total, LIMIT)

    def test_it_says_what_it_is(self) -> None:
        labels = self.image["Labels"]
        self.assertEqual(labels["org.opencontainers.image.title"], "torchpod")
        self.assertEqual(labels["org.opencontainers.image.version"], self.name.partition(":")[2])
        self.assertEqual(labels["org.opencontainers.image.licenses"], "Apache-2.0")
        self.assertEqual(self.image["User"], "10001:10001")
        self.assertEqual(self.image["Entrypoint"] + self.image["Cmd"], ["torchpod", "serve", "/models"])

    def test_torchpod_is_pid_1_and_may_do_nothing_that_it_need_not(self) -> None:
        container = self.start("rights")
        container.until("ready", "torchpod", "probe", "ready")
        self.assertEqual(container.asks("readlink", "/proc/1/exe"), (0, "/usr/local/bin/torchpod\n"))
        status = dict(line.split(":\t") for line in container.asks("cat", "/proc/1/status")[1].splitlines() if ":\t" in line)
        self.assertEqual(status["Uid"].split(), ["10001"] * 4)
        self.assertEqual({status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0" * 16})
        self.assertEqual(status["NoNewPrivs"], "1")
        for path in ("/", "/tmp", "/models", "/var"):
            self.assertNotEqual(container.asks("touch", f"{path}/x")[0], 0, path)

    def test_curl_and_torchpod_itself_serve_as_exec_probes(self) -> None:
        container = self.start("probes")
        for probe in ("startup", "health", "ready"):
            container.until("", "curl", "--fail", "--silent", f"http://localhost:8080/{probe}")
            container.until("", "torchpod", "probe", probe, "--grpc")

    def test_sigterm_to_pid_1_drains_without_losing_a_request_and_ends_with_0(self) -> None:
        container = self.start("drain", TORCHPOD_CHAOS="batch-delay=3s")
        container.until("ready", "torchpod", "probe", "ready")
        answers = []
        predict = ["curl", "--silent", "--write-out", " %{http_code}", "-d", "@/models/digits/sample.json"]
        client = threading.Thread(
            target=lambda: answers.append(container.asks(*predict, "http://localhost:8080/predict"))
        )
        client.start()
        container.until("\ntorchpod_in_flight_requests 1\n", "curl", "--silent", "http://localhost:8080/metrics")
        container.stop()
        container.until("503", "curl", "--silent", "--write-out", " %{http_code}", "http://localhost:8080/ready")
        client.join()
        status, answer = answers[0]
        self.assertEqual(status, 0)
        self.assertIn('"label":"7"', answer)
        self.assertTrue(answer.endswith(" 200"), answer)
        said, _ = container.process.communicate(timeout=PATIENCE)
        self.assertEqual(container.process.returncode, 0, said)
        print(f"\n{said.strip().splitlines()[-1]}")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("tests/image/container.py: runc and buildah's mount need root")
    unittest.main(verbosity=2)
