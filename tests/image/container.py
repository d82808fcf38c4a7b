"""Images that are built for real, and run as a kubelet that trusts nobody runs them.

buildah builds them without a service, runc runs them: a root that cannot be written to, user 10001, no capabilities, no new
privileges, and namespaces of their own, so that ports and PID 1 are those of a pod.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import base

ROOT = Path(__file__).parents[2]
WORK = ROOT / "target/image"
VERSION = re.search('^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
PATIENCE = 60  # seconds
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")  # where Debian keeps those of a machine's own


def build(target: str) -> tuple[dict, str]:
    """Builds the image as a user does, and mounts it: its configuration and its root. `cleared` ends that."""
    for name in ("graph", "run", "tmp"):
        (WORK / name).mkdir(parents=True, exist_ok=True)
    storage = WORK / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER") or "overlay"}"\n'
        f'graphroot = "{WORK / "graph"}"\nrunroot = "{WORK / "run"}"\n'
        # Nothing stays mounted then that `make clean` would stumble over.
        '[storage.options.overlay]\nskip_mount_home = "true"\n'
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
    subprocess.run([ROOT / "scripts/image", target], check=True)
    name = f"{'torchpod-trainer' if target == 'trainer' else 'torchpod'}:{VERSION}"
    image = json.loads(base.run("buildah", "inspect", "--type", "image", name))["OCIv1"]["config"]
    # One of an earlier run that was broken off would hold the name.
    subprocess.run(["buildah", "rm", f"test-{target}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    container = base.run("buildah", "from", "--pull=never", "--name", f"test-{target}", name)
    return image, base.run("buildah", "mount", container)


def cleared(target: str) -> None:
    base.run("buildah", "rm", f"test-{target}")


def bundle(folder: Path, rootfs: str, image: dict, variables: dict[str, str], volumes: dict[str, Path]) -> None:
    """What runc is to run: `image` as its configuration says, with less rights than it may have.

    Who has volumes is one of several that meet on this machine's network, and else has a network of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    spec = json.loads((folder / "config.json").read_text())
    user, group = map(int, image["User"].split(":"))
    spec["root"] = {"path": rootfs, "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": user, "gid": group},
        "args": image["Entrypoint"] + (image.get("Cmd") or []),
        "env": image["Env"] + [f"{name}={value}" for name, value in variables.items()],
        "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        "noNewPrivileges": True,
    }
    for target, source in volumes.items():
        source.mkdir(parents=True, exist_ok=True)
        os.chown(source, user, group)
        mount = {"destination": target, "source": str(source), "type": "bind", "options": ["rbind", "rw"]}
        spec["mounts"].append(mount)
    if volumes:
        spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    (folder / "config.json").write_text(json.dumps(spec))


class Container:
    """The running image; `asks` runs a command in it."""

    def __init__(
        self, name: str, rootfs: str, image: dict, variables: dict[str, str], volumes: dict[str, Path] | None = None
    ) -> None:
        self.name = f"torchpod-test-{name}"
        self.runc = ["runc", "--root", str(WORK / "runc")]
        folder = WORK / "bundle" / name
        bundle(folder, rootfs, image, variables, volumes or {})
        self.process = subprocess.Popen(
            [*self.runc, "run", "--bundle", folder, self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
