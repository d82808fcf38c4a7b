"""Processes that a test starts, waits for and ends: a rank of a training, and a torchpod."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 240  # seconds for anything that has no limit of its own; three ranks on a busy core are slow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A child and all that it prints."""

    def __init__(self, command: list[str | Path], variables: dict[str, str]) -> None:
        self.child = subprocess.Popen(
            command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.pid = self.child.pid
        self.output = ""
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.child.stdout:
            with self.news:
                self.output += line
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    def until(self, pattern: str) -> re.Match:
        """The first place in the output where `pattern` matches, once it is there."""
        deadline = time.monotonic() + PATIENCE
        with self.news:
            while not (found := re.search(pattern, self.output)):
                assert self.reader.is_alive(), f"it ended without saying {pattern!r}:\n{self.output}"
                left = deadline - time.monotonic()
                assert left > 0 and self.news.wait(left), f"it did not say {pattern!r} in time:\n{self.output}"
        return found

    def ends_within(self, seconds: float) -> int:
        """The exit status, with all output read."""
        try:
            status = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it had not ended after {seconds} s:\n{self.output}") from None
        self.reader.join()
        return status

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.reader.join()
        self.child.stdout.close()


def ranks(folder: Path, world: int, port: int, only: list[int] | None = None) -> list[Process]:
    """The processes of a training, as the pods of a StatefulSet are given their places."""
    return [
        Process(
            [sys.executable, "-u", ROOT / "models/digits/train.py"],
            {
                "POD_NAME": f"ml-training-{rank}",
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "GLOO_SOCKET_IFNAME": "lo",
                "CHECKPOINT_DIR": str(folder / f"checkpoints-{rank}"),
                "OUTPUT_DIR": str(folder / f"models-{rank}"),
            },
        )
        for rank in (range(world) if only is None else only)
    ]


def torchpod(models: Path) -> tuple[Process, str]:
    """A real server of `models` that is ready, and its address."""
    program = Path(os.environ.get("TORCHPOD") or ROOT / "target/debug/torchpod")
    assert program.exists(), f"no torchpod at {program}: build it, or let TORCHPOD name one"
    address = f"127.0.0.1:{free_port()}"
    server = Process([program, "serve", models, "--listen", address, "--grpc-listen", "off"], {})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.child.poll() is None:
        try:
            urllib.request.urlopen(f"http://{address}/ready", timeout=2).close()
            return server, f"http://{address}"
        except OSError:
            time.sleep(0.1)
    server.end()
    raise AssertionError(f"torchpod was not ready:\n{server.output}")
