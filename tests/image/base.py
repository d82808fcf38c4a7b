"""The images that ours are built on and from, for a machine without a registry of images.

The base is Debian 12 as mmdebstrap makes it, cut down as the official slim image is; the builder is that with this
machine's Rust. Where the registry can be reached, the official ones are taken.
"""

import os
import subprocess
import tempfile
from pathlib import Path

BASE = "docker.io/library/debian:bookworm-slim"
RUST = "docker.io/library/rust:1.95-slim-bookworm"
SLIM = ["man", "doc", "locale", "info"]  # what the official slim image leaves out of /usr/share


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def there(image: str) -> bool:
    """Kept from an earlier run, or pulled."""
    for command in (["images", "--quiet", image], ["pull", "--quiet", image]):
        tried = subprocess.run(["buildah", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if tried.returncode == 0:
            return True
    return False


def commit(container: str, image: str) -> None:
    run("buildah", "commit", "--quiet", container, image)
    run("buildah", "rm", container)
    print(f"made {image} here: no registry has answered for it", flush=True)


def make_base() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "debian.tar"
        run(
            *["mmdebstrap", "--quiet", "--variant=apt", "--include=usr-is-merged"],
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in SLIM),
            *["bookworm", tar],
        )
        container = run("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, tar, "/")
        run("buildah", "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        commit(container, BASE)


def make_rust() -> None:
    sysroot = Path(run("rustc", "--print", "sysroot"))
    container = run("buildah", "from", "--pull=never", BASE)
    for part in ("bin", "lib"):
        run("buildah", "copy", "--quiet", container, sysroot / part, f"/usr/local/rust/{part}")
    # Cargo reads the certificates that this machine trusts, of which some may be its own.
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    run("buildah", "copy", "--quiet", container, bundle, "/etc/ssl/certs/ca-certificates.crt")
    run(
        *["buildah", "config", "--env", "CARGO_HOME=/usr/local/cargo"],
        *["--env", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
        *["--env", "PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container],
    )
    commit(container, RUST)


def prepare() -> None:
    if not there(BASE):
        make_base()
    if not there(RUST):
        make_rust()
