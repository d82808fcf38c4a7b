"""The cpu image: what is in it, and how it starts and stops. `make test-image`, as root."""

import json
import os
import sys
import tempfile
import threading
import tomllib
import unittest
import zlib
from pathlib import Path

import base
from container import PATIENCE, ROOT, VERSION, Container, build, cleared

LIMIT = 650_000_000  # bytes


def crates(binary: Path) -> list[dict]:
    """What `cargo auditable` has written into it: zlib over JSON, in a section of its own."""
    with tempfile.NamedTemporaryFile() as section:
        base.run("objcopy", "--dump-section", f".dep-v0={section.name}", binary, "/dev/null")
        return json.loads(zlib.decompress(Path(section.name).read_bytes()))["packages"]


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.image, cls.rootfs = build("cpu")
        cls.addClassCleanup(cleared, "cpu")

    def start(self, name: str, **variables: str) -> Container:
        container = Container(name, self.rootfs, self.image, variables)
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
            "names and licences of libtorch's packages": list((root / "opt/libtorch").glob("*.dist-info")),
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
        self.assertEqual(labels["org.opencontainers.image.version"], VERSION)
        self.assertEqual(labels["org.opencontainers.image.licenses"], "Apache-2.0")
        self.assertEqual(self.image["User"], "10001:10001")
        self.assertEqual(self.image["Entrypoint"] + self.image["Cmd"], ["torchpod", "serve", "/models"])

    def test_scanners_find_the_crates_and_the_packages_that_it_is_made_of(self) -> None:
        root = Path(self.rootfs)
        lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
        locked = {(package["name"], package["version"]) for package in lock}
        for file, crate in [("bin/torchpod", "axum"), ("lib/torchpod/libtorchpod_torch.so", "tch")]:
            found = {(package["name"], package["version"]) for package in crates(root / "usr/local" / file)}
            self.assertIn(crate, {name for name, _ in found})
            self.assertLessEqual(found, locked)
        metadata = (root / "opt/libtorch/torch-2.11.0.dist-info/METADATA").read_text()
        self.assertIn("\nName: torch\nVersion: 2.11.0", metadata)
        self.assertTrue((root / "var/lib/dpkg/status").stat().st_size > 0)

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
        sys.exit("tests/image/server.py: runc and buildah's mount need root")
    unittest.main(verbosity=2)
