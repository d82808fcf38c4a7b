"""models/digits trained in three real processes: `make test-training`. About five minutes on two idle cores."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from process import PATIENCE, ROOT, Process, free_port, ranks, torchpod

WORLD = 3
LEAVES_WITHIN = 30  # seconds: 20 s for a collective, and time to say so


def accuracy(output: str) -> float:
    return float(re.search(r"Held-out accuracy: ([0-9.]+)", output)[1])


class Together(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        """One training that nothing disturbs, which stays idle to the end."""
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name)
        cls.port = free_port()
        cls.whole = ranks(cls.folder / "whole", WORLD, cls.port)
        for rank in cls.whole:
            cls.addClassCleanup(rank.end)
        for rank in cls.whole:
            rank.until("done; idling")
        cls.models = cls.folder / "whole" / "models-0"
        cls.model = (cls.models / "digits/1/model.pt").read_bytes()

    def start(self, name: str, port: int, only: list[int] | None = None) -> list[Process]:
        started = ranks(self.folder / name, WORLD, port, only)
        for rank in started:
            self.addCleanup(rank.end)
        return started

    def test_three_processes_reach_the_accuracy_of_one_within_a_hundredth(self) -> None:
        alone = subprocess.run(
            [sys.executable, ROOT / "models/digits/train.py", "--out", self.folder / "alone"],
            env={name: value for name, value in os.environ.items() if name != "WORLD_SIZE"},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        print(f"\nheld-out accuracy: one {accuracy(alone.stdout)}, three {accuracy(self.whole[0].output)}")
        self.assertAlmostEqual(accuracy(self.whole[0].output), accuracy(alone.stdout), delta=0.01)

    def test_when_one_is_lost_all_leave_and_restarted_they_go_on_to_the_very_same_model(self) -> None:
        port = free_port()
        first = self.start("lost", port)
        first[0].until("epoch  3/20")
        os.kill(first[2].pid, signal.SIGKILL)
        killed = time.monotonic()
        for rank in first[:2]:
            self.assertEqual(rank.ends_within(killed + LEAVES_WITHIN - time.monotonic()), 1)
            self.assertIn("leaves, so that all are restarted", rank.output)
        print(f"\nafter a kill all had left in {time.monotonic() - killed:.1f} s")

        second = self.start("lost", port)
        for rank in second:
            self.assertGreaterEqual(int(rank.until(r"starting after epoch (\d+)")[1]), 3)
        # One that is there and silent: no connection breaks, so that only the collective's timeout tells.
        second[0].until("epoch  6/20")
        os.kill(second[1].pid, signal.SIGSTOP)
        silent = time.monotonic()
        for rank in (second[0], second[2]):
            self.assertEqual(rank.ends_within(silent + LEAVES_WITHIN - time.monotonic()), 1)
        print(f"after a silence all others had left in {time.monotonic() - silent:.1f} s")
        os.kill(second[1].pid, signal.SIGCONT)
        self.assertEqual(second[1].ends_within(LEAVES_WITHIN), 1)

        third = self.start("lost", port)
        self.assertGreaterEqual(int(third[1].until(r"starting after epoch (\d+)")[1]), 6)
        third[0].until("done; idling")
        again = (self.folder / "lost/models-0/digits/1/model.pt").read_bytes()
        self.assertTrue(again == self.model, "an interrupted training has written another model")

    def test_torchpod_serves_the_model_and_reads_the_sample_as_a_seven(self) -> None:
        server, address = torchpod(self.models)
        self.addCleanup(server.end)
        body = (ROOT / "models/digits/sample.json").read_bytes()
        with urllib.request.urlopen(f"{address}/predict", body, timeout=PATIENCE) as response:
            answer = json.load(response)
        self.assertEqual((answer["model"], answer["version"]), ("digits", "1"))
        self.assertEqual(answer["predictions"][0]["label"], "7")
        self.assertGreater(answer["predictions"][0]["score"], 0.9)

    def test_only_rank_0_writes(self) -> None:
        self.assertEqual({path.name for path in (self.folder / "whole").iterdir()}, {"checkpoints-0", "models-0"})

    def test_whoever_is_restarted_after_the_end_idles_again_and_sigterm_ends_it_with_0(self) -> None:
        os.kill(self.whole[1].pid, signal.SIGTERM)
        self.assertEqual(self.whole[1].ends_within(5), 0)
        [rank_1] = self.start("whole", self.port, [1])
        rank_1.until("done; idling")

        os.kill(self.whole[0].pid, signal.SIGTERM)
        self.assertEqual(self.whole[0].ends_within(5), 0)
        for rank in (rank_1, self.whole[2]):
            self.assertEqual(rank.ends_within(LEAVES_WITHIN), 1)
        again = self.start("whole", self.port)
        for rank in again:
            rank.until("done; idling")
            self.assertNotIn("starting", rank.output)
        self.assertEqual([path.name for path in self.models.glob("digits/[0-9]*")], ["1"])

        # Without its disk rank 0 knows of nothing, and the others are there to train with it again.
        os.kill(again[0].pid, signal.SIGKILL)
        shutil.rmtree(self.folder / "whole/checkpoints-0")
        for rank in again[1:]:
            self.assertEqual(rank.ends_within(LEAVES_WITHIN), 1)
        for rank in self.start("whole", self.port):
            rank.until("starting after epoch 0")

    def test_sigterm_ends_a_rank_that_waits_for_the_others(self) -> None:
        [alone] = self.start("alone", free_port(), [0])
        alone.until("meeting at")
        os.kill(alone.pid, signal.SIGTERM)
        self.assertEqual(alone.ends_within(5), 128 + signal.SIGTERM)

    def test_everything_wrong_with_the_variables_is_said_at_once(self) -> None:
        process = Process(
            [sys.executable, ROOT / "models/digits/train.py"],
            {"WORLD_SIZE": "3", "POD_NAME": "ml-training-3", "MASTER_ADDR": "", "MASTER_PORT": "http"},
        )
        self.addCleanup(process.end)
        self.assertEqual(process.ends_within(PATIENCE), 2)
        for part in ("rank 3 is none of the 3", "MASTER_ADDR is not set", "MASTER_PORT='http' is no number"):
            self.assertIn(part, process.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
