"""The trainer image, three times, as the pods of a StatefulSet: `make test-image TARGET=trainer`, as root."""

import os
import shutil
import socket
import sys
import time
import unittest

from container import WORK, Container, build, cleared

WORLD = 3
PATIENCE = 300  # seconds: training takes a minute where cores are idle


class Trainer(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.image, cls.rootfs = build("trainer")
        cls.addClassCleanup(cleared, "trainer")

    def test_three_that_may_write_to_their_volumes_alone_train_a_model_and_sigterm_ends_them_with_0(self) -> None:
        volumes = WORK / "volumes"
        shutil.rmtree(volumes, ignore_errors=True)
        self.addCleanup(shutil.rmtree, volumes)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        pods = []
        for rank in range(WORLD):
            name = f"ml-training-{rank}"
            variables = {
                "POD_NAME": name,
                "WORLD_SIZE": str(WORLD),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "GLOO_SOCKET_IFNAME": "lo",
                "CHECKPOINT_DIR": "/checkpoints",
                "OUTPUT_DIR": "/models",
            }
            mounts = {path: volumes / name / path[1:] for path in ("/checkpoints", "/models")}
            pods.append(Container(name, self.rootfs, self.image, variables, mounts))
            self.addCleanup(pods[-1].end)

        model = volumes / "ml-training-0/models/digits/1/model.pt"
        deadline = time.monotonic() + PATIENCE
        while not model.exists():
            for pod in pods:
                ended = pod.process.poll() is not None
                self.assertFalse(ended, pod.process.stdout.read() if ended else "")
            self.assertLess(time.monotonic(), deadline, "no model in time")
            time.sleep(0.2)
        # Who is asked to end before it is done ends with 143.
        outputs = []
        for pod in pods:
            lines = []
            while not lines or not lines[-1].startswith("done; idling"):
                lines.append(pod.process.stdout.readline())
                self.assertNotEqual(lines[-1], "", "".join(lines))
            outputs.append("".join(lines))
        print("\n" + outputs[0].splitlines()[-3])
        for pod in pods:
            pod.stop()
            self.assertEqual(pod.process.wait(10), 0)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("tests/image/trainer.py: runc and buildah's mount need root")
    unittest.main(verbosity=2)
