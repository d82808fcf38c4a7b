"""Trains the digits model and writes every generated file of this folder.

Writes 1/model.pt, golden.json, sample.json and the figures between the markers in README.md. Two runs on one machine
write the same bytes; another kind of CPU may round differently and so write other weights.

Where WORLD_SIZE says that there are several processes, distributed.py takes over and writes elsewhere.
"""

import argparse
import io
import os
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SIDE = 8  # pixels
PIXEL_MAX = 16.0  # a pixel counts the ink in a 4x4 block of the original scan
CLASSES = 10
SPLIT_SEED = 0  # fixed apart from --seed, so that every model is measured on the same held-out rows
GOLDEN_ROWS = 200
BATCH = 64

# Keeps the logits below 10 rather than 30, and so their rounding at other batch sizes well inside the golden 1e-5.
LABEL_SMOOTHING = 0.02

MAX_MULTIPLY_ADDS = 100_000  # a row: small enough that serving it measures the server rather than the network
MIN_ACCURACY = 0.98
SAMPLE_CLASS = 7
SAMPLE_MIN_SCORE = 0.95

WRITER_ADDS = {"version", "byteorder", ".data/serialization_id"}  # records of an archive that PyTorch adds by itself

README_BEGIN, README_END = "<!-- train.py begin -->", "<!-- train.py end -->"


class Digits(nn.Module):
    """Maps pixels [n, 8, 8] in 0..16 to logits [n, 10]; scales its input itself, so that clients send raw pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 8x8 -> 4x4
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 4x4 -> 2x2
            nn.Flatten(),
            nn.Linear(32 * 2 * 2, 64),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(64, CLASSES),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image.unsqueeze(1) / 16.0)  # PIXEL_MAX: TorchScript reads no globals


def load_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and classes, then held-out images and classes: a fixed, stratified 80 : 20."""
    data = load_digits()
    split = train_test_split(data.images, data.target, test_size=0.2, stratify=data.target, random_state=SPLIT_SEED)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in split)
    assert float(train_x.max()) == PIXEL_MAX
    return train_x.float(), train_y.long(), test_x.float(), test_y.long()


def with_shifts(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The images in all nine positions at most one pixel away; blank paper (0) comes in at the edge."""
    padded = F.pad(images, (1, 1, 1, 1))
    shifted = [padded[:, y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
    return torch.cat(shifted), classes.repeat(len(shifted))


def recipe(net: nn.Module, rows: int, epochs: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    steps = epochs * -(-rows // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def fit(net: nn.Module, images: Tensor, classes: Tensor, epochs: int) -> None:
    optimizer, schedule = recipe(net, len(images), epochs)
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(net(images[rows]), classes[rows], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1:2}/{epochs}: training loss {total / len(images):.4f}")
    net.eval()


def multiply_adds(net: nn.Module) -> int:
    """Multiply-adds of one row, counted layer by layer; biases, pooling and ReLU multiply nothing."""
    counts = []

    def count(layer: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())  # each output is one dot product

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    net(torch.zeros(1, SIDE, SIDE))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def archive(net: nn.Module) -> bytes:
    """The frozen TorchScript, less its debug records, which hold the paths of this machine."""
    whole, stripped = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), whole)
    whole.seek(0)
    reader, writer = torch._C.PyTorchFileReader(whole), torch._C.PyTorchFileWriter(stripped)
    # Without this the writer claims an old version, and the loader would rewrite division to what it meant then.
    writer.set_min_version(int(reader.get_record("version")))
    for name in reader.get_all_records():
        if name not in WRITER_ADDS and not name.endswith(".debug_pkl"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return stripped.getvalue()


def row(values: list) -> str:
    """One row as compact JSON; whole numbers without a point, others in the nine digits that restore a float32."""
    if isinstance(values, list):
        return "[" + ",".join(row(value) for value in values) + "]"
    return f"{values:.9g}"


def golden_json(images: Tensor, logits: Tensor, classes: Tensor) -> str:
    image_rows, logit_rows = (",\n".join(row(r) for r in part.tolist()) for part in (images, logits))
    inputs, outputs = f'{{"image":[\n{image_rows}\n]}}', f'{{"logits":[\n{logit_rows}\n]}}'
    return f'{{"inputs":{inputs},"outputs":{outputs},"labels":{row(classes.tolist())}}}\n'


def sample_json(images: Tensor, logits: Tensor, classes: Tensor) -> str:
    """The first held-out seven that the model is sure of, padded so that the drawing shows."""
    sure = (classes == SAMPLE_CLASS) & (logits.softmax(1)[:, SAMPLE_CLASS] > SAMPLE_MIN_SCORE)
    pixels = images[sure.nonzero()[0, 0]].tolist()
    lines = ["  [" + ", ".join(f"{value:2.0f}" for value in line) + "]" for line in pixels]
    return '{"inputs": [\n' + ",\n".join(lines) + "\n]}\n"


def write_readme(path: Path, figures: dict[str, str]) -> None:
    """Replaces what is between the markers; starts a file with the markers where there is none."""
    text = path.read_text() if path.exists() else f"{README_BEGIN}\n{README_END}\n"
    before, rest = text.split(README_BEGIN)
    after = rest.split(README_END)[1]
    table = "\n".join(["| Figure | Value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in figures.items())])
    path.write_text(f"{before}{README_BEGIN}\n{table}\n{README_END}{after}")


class Proven(NamedTuple):
    model: bytes
    golden: str
    sample: str
    figures: dict[str, str]


def prove(net: nn.Module, images: Tensor, classes: Tensor) -> Proven:
    """What is published of a trained network; an assertion fails where it is too large or errs too often."""
    cost = multiply_adds(net)
    assert cost <= MAX_MULTIPLY_ADDS, f"{cost} multiply-adds a row, more than {MAX_MULTIPLY_ADDS}"

    # From here on all that is measured comes from the archive, as a server will load it.
    model = archive(net)
    with torch.inference_mode():
        logits = torch.jit.load(io.BytesIO(model))(images)
    right = int((logits.argmax(1) == classes).sum())
    accuracy = right / len(classes)
    assert accuracy >= MIN_ACCURACY, f"held-out accuracy {accuracy:.4f}, less than {MIN_ACCURACY}"
    return Proven(
        model,
        golden_json(images[:GOLDEN_ROWS], logits[:GOLDEN_ROWS], classes[:GOLDEN_ROWS]),
        sample_json(images, logits, classes),
        {
            "Parameters": f"{sum(p.numel() for p in net.parameters()):,}",
            "Multiply-adds a row": f"{cost:,}",
            "Held-out accuracy": f"{accuracy:.4f} ({right} of {len(classes)} rows)",
        },
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write (default: this one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of the rows")
    parser.add_argument("--epochs", type=int, default=20)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)

    train_x, train_y, test_x, test_y = load_split()
    net = Digits()
    fit(net, *with_shifts(train_x, train_y), args.epochs)
    proven = prove(net, test_x, test_y)
    figures = proven.figures | {
        "Trained on": f"{len(train_y):,} rows in 9 positions, {args.epochs} epochs, seed {args.seed}",
    }

    # Written last, so that a model that fails an assertion leaves the files as they were.
    (args.out / "1").mkdir(parents=True, exist_ok=True)
    (args.out / "1" / "model.pt").write_bytes(proven.model)
    (args.out / "golden.json").write_text(proven.golden)
    (args.out / "sample.json").write_text(proven.sample)
    write_readme(args.out / "README.md", figures)
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))


if __name__ == "__main__":
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        import distributed

        distributed.main()
    else:
        main()
