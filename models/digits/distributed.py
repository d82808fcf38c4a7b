"""Trains the digits model in several processes, one a pod of a StatefulSet, where WORLD_SIZE is more than 1.

Every process takes its share of each batch, and gradients are added up (torch.distributed, gloo): the model is as good as
that of one process. When one is lost all others leave, within 20 s of hearing nothing, so that whoever restarts processes
(a kubelet does) brings back all of them; they go on from the last epoch that rank 0 wrote down. What an epoch computes
depends on the seed, the epoch and the number of processes alone: an interrupted training ends with the same bytes. Since
a StatefulSet restarts whatever ends, processes that are done stay, idle, until SIGTERM or until rank 0 is lost.
"""

import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from argparse import Namespace
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Mapping, NoReturn

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import train

VARIABLES = """\
WORLD_SIZE                how many processes there are
RANK, or else POD_NAME    which one this is: a number, or a name that ends in one, such as ml-training-2
MASTER_ADDR, MASTER_PORT  where rank 0 is found
CHECKPOINT_DIR            a folder that rank 0 keeps what it has learnt in; the others need none
OUTPUT_DIR                a folder that rank 0 writes the model into, as torchpod serves it: digits/N/model.pt and so on
"""

# A kubelet waits up to 5 min before it starts a process that keeps failing, and an image has to be pulled first.
MEETING_TIMEOUT = timedelta(minutes=10)
# Longer than rank 0 takes to write down an epoch, and the most that a peer may be silent.
COLLECTIVE_TIMEOUT = timedelta(seconds=20)
POLL_SECONDS = 5  # how often one that is done looks whether rank 0 is still there

TERMINATION_LOG = Path("/dev/termination-log")  # kubectl describe pod shows what is in it
BESIDE = Path(__file__).parent

done = threading.Event()


@dataclass(frozen=True)
class Place:
    """Which of the processes this is, and where everything lies."""

    rank: int
    world: int
    address: str
    port: int
    checkpoints: Path
    output: Path

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Place":
        """Raises ValueError, with all that is wrong."""
        wrong = []

        def number(name: str, text: str) -> int:
            if re.fullmatch("[0-9]+", text):
                return int(text)
            wrong.append(f"{name}={text!r} is no number")
            return 0

        def word(name: str) -> str:
            if not variables.get(name):
                wrong.append(f"{name} is not set")
            return variables.get(name, "")

        world = number("WORLD_SIZE", word("WORLD_SIZE"))
        if variables.get("RANK"):
            rank = number("RANK", variables["RANK"])
        else:
            rank = number("POD_NAME's end", word("POD_NAME").rpartition("-")[2])
        if rank >= world:
            wrong.append(f"rank {rank} is none of the {world} of WORLD_SIZE, which count from 0")
        place = cls(
            rank,
            world,
            word("MASTER_ADDR"),
            number("MASTER_PORT", word("MASTER_PORT")),
            # Only rank 0 has anything to write.
            Path(word("CHECKPOINT_DIR") if rank == 0 else ""),
            Path(word("OUTPUT_DIR") if rank == 0 else ""),
        )
        if wrong:
            raise ValueError("; ".join(wrong))
        return place


class Learner:
    """The network with all that decides how its training goes on."""

    def __init__(self, args: Namespace) -> None:
        torch.manual_seed(args.seed)
        train_x, train_y, self.test_x, self.test_y = train.load_split()
        self.images, self.classes = train.with_shifts(train_x, train_y)
        self.seed, self.epochs = args.seed, args.epochs
        self.net: nn.Module = train.Digits()
        self.optimizer, self.schedule = train.recipe(self.net, len(self.images), args.epochs)
        self.epoch = 0  # how many are done
        self.version = 0  # the folder that the model will be written to; 0 as long as nobody has chosen it

    def state(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "version": self.version,
        }

    def restore(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.version = state["epoch"], state["version"]

    def learn(self, place: Place) -> float:
        """One epoch, of which this process computes its share. Gives the mean loss over all of it."""
        order = torch.Generator().manual_seed(self.seed * self.epochs + self.epoch)
        torch.manual_seed((self.seed * self.epochs + self.epoch) * place.world + place.rank)  # for dropout
        total = torch.zeros(())
        self.net.train()
        for rows in torch.randperm(len(self.images), generator=order).split(train.BATCH):
            share = rows[place.rank :: place.world]
            loss = F.cross_entropy(
                self.net(self.images[share]), self.classes[share], label_smoothing=train.LABEL_SMOOTHING, reduction="sum"
            )
            self.optimizer.zero_grad()
            # Shares differ by a row: what adds up over all processes is the mean over the batch, as one process has it.
            (loss / len(rows)).backward()
            add_up([parameter.grad for parameter in self.net.parameters()])
            self.optimizer.step()
            self.schedule.step()
            total += loss.detach()
        self.net.eval()
        dist.all_reduce(total)
        self.epoch += 1
        return total.item() / len(self.images)


def add_up(gradients: list[torch.Tensor]) -> None:
    """The sum over all processes, in place.

    DistributedDataParallel would do, but that it arranges the gradients anew after a process's first step: they are added
    in another order then, and a resumed training would differ in its last bits.
    """
    together = parameters_to_vector(gradients)
    dist.all_reduce(together)
    vector_to_parameters(together, gradients)


class Checkpoint:
    """What rank 0 has learnt, on its disk. Another seed or number of epochs is another training, with another file."""

    def __init__(self, place: Place, args: Namespace) -> None:
        self.path = place.checkpoints / f"digits-seed-{args.seed}-epochs-{args.epochs}.pt"

    def read(self) -> dict | None:
        return torch.load(self.path, weights_only=True) if self.path.exists() else None

    def write(self, state: dict) -> None:
        """Whole or not at all, even where the machine loses power."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)


def next_version(models: Path) -> int:
    return 1 + max((int(path.name) for path in models.glob("[0-9]*") if path.name.isdigit()), default=0)


def publish(learner: Learner, models: Path) -> None:
    """Writes version learner.version, once. Its folder comes last and in one step: a server sees all of it or nothing."""
    version = models / str(learner.version)
    if version.exists():
        return
    proven = train.prove(learner.net, learner.test_x, learner.test_y)
    staged = models / f".{learner.version}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    (staged / "model.pt").write_bytes(proven.model)
    for name, content in {
        "golden.json": proven.golden,
        "sample.json": proven.sample,
        "labels.txt": (BESIDE / "labels.txt").read_text(),
        "model.toml": (BESIDE / "model.toml").read_text(),
    }.items():
        fresh = models / f".{name}"
        fresh.write_text(content)
        fresh.replace(models / name)
    staged.replace(version)
    say("; ".join(f"{name}: {value}" for name, value in proven.figures.items()))
    say(f"wrote {version}")


def work(place: Place, args: Namespace) -> None:
    """All of this process's part in the training. Raises RuntimeError where a peer is lost."""
    say(f"rank {place.rank} of {place.world}, meeting at {place.address}:{place.port}")
    store = dist.TCPStore(
        place.address, place.port, place.world, place.rank == 0, MEETING_TIMEOUT, wait_for_workers=False
    )
    learner = Learner(args)
    checkpoint = Checkpoint(place, args)
    if place.rank == 0:
        if (state := checkpoint.read()) is not None:
            learner.restore(state)
            say(f"epoch {learner.epoch} of {args.epochs} is in {checkpoint.path}")
        else:
            learner.version = next_version(place.output / "digits")
    # Rank 0 may come back to peers that idle, and a peer to a rank 0 that does: there is nobody to train with then.
    if place.rank == 0:
        store.set("training", "over" if learner.epoch == args.epochs else "on")
    if store.get("training") == b"on":
        train_together(learner, checkpoint, place, store)
    if place.rank == 0:
        publish(learner, place.output / "digits")
        store.set("training", "over")
    done.set()
    say("done; idling until SIGTERM")
    while True:
        time.sleep(POLL_SECONDS)
        # Rank 0 may come back without its disk, and then needs everybody. It stays itself, so that others can ask.
        if place.rank != 0:
            store.get("training")


def train_together(learner: Learner, checkpoint: Checkpoint, place: Place, store: dist.TCPStore) -> None:
    store.set(f"rank {place.rank}", "here")
    store.wait([f"rank {rank}" for rank in range(place.world)], MEETING_TIMEOUT)
    dist.init_process_group(
        "gloo",
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.world,
        timeout=COLLECTIVE_TIMEOUT,
    )
    states = [learner.state() if place.rank == 0 else None]
    dist.broadcast_object_list(states, src=0)
    learner.restore(states[0])
    say(f"starting after epoch {learner.epoch}")
    while learner.epoch < learner.epochs:
        loss = learner.learn(place)
        if place.rank == 0:
            checkpoint.write(learner.state())
            say(f"epoch {learner.epoch:2}/{learner.epochs}: training loss {loss:.4f}")
    dist.destroy_process_group()


def leave_on_signal() -> None:
    """SIGTERM and SIGINT end the process at once, by 0 when it is done: nothing that is written suffers.

    Python runs handlers between two of its own instructions, so not while a collective waits for a peer; the thread that
    reads what Python's own C handler writes does not wait for that. As PID 1 a process without a handler ignores signals.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        number = os.read(reader, 1)[0]
        os._exit(0 if done.is_set() else 128 + number)

    threading.Thread(target=wait, daemon=True).start()


def say(text: str) -> None:
    print(text, flush=True)


def leave(reason: str, code: int) -> NoReturn:
    """At once, since the group's destructors would wait for peers; with the reason where kubectl shows it."""
    print(reason, file=sys.stderr, flush=True)
    if TERMINATION_LOG.exists():
        TERMINATION_LOG.write_text(reason)
    os._exit(code)


def main() -> None:
    args = train.arguments()
    leave_on_signal()
    try:
        place = Place.of(os.environ)
    except ValueError as error:
        leave(f"{error}. Needed are\n{VARIABLES}", 2)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        work(place, args)
    except Exception as error:
        traceback.print_exc()
        first_line = str(error).partition("\n")[0]
        leave(f"rank {place.rank} leaves, so that all are restarted: {type(error).__name__}: {first_line}", 1)


if __name__ == "__main__":
    main()
