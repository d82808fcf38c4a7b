"""Writes the odd models of the integration tests as a repository: `make.py DIR [NAME…]`, all of them without names.

Each is as small as its oddity allows. SERVED can be served, each in its way; REFUSED must be refused with a sentence;
IDENTITIES return what they get, one for each type.
"""

import json
import pathlib
import struct
import sys

import archive


def port(table, name, dtype="FP32", shape="[-1, 3]"):
    return f'[[{table}]]\nname = "{name}"\ndtype = "{dtype}"\nshape = {shape}\n'


X = port("inputs", "x")


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def model(source, toml=X, tensors={}, extra={}, files={}):
    """A writer of one model's folder. `toml` may be None; `files` lie beside it, `extra` ones inside the archive."""

    def write(folder):
        (folder / "1").mkdir(parents=True, exist_ok=True)
        if toml is not None:
            (folder / "model.toml").write_text(toml)
        for name, text in files.items():
            (folder / name).write_text(text)
        archive.write(folder / "1" / "model.pt", source, tensors, extra)

    return write


def function(body, arguments="x: Tensor", result="Tensor"):
    lines = "".join(f"  {line}\n" for line in body.split("\n"))
    return f"def forward(self, {arguments}) -> {result}:\n{lines}"


def each(result, start="annotate(List[str], [])", before="pass", texts="x"):
    """A body that makes a list of `result`, an expression of `texts[i]`."""
    return (
        f"{before}\nmade = {start}\nfor i in range(torch.len({texts})):\n  made = torch.append(made, {result})\nreturn made"
    )


TEXTS = port("inputs", "x", "BYTES", "[-1]")
LENGTHS = each("torch.len(x[i])", "annotate(List[int], [])").replace("return made", "lengths = torch.tensor(made)\n")
PAD = (
    "longest = 0\nfor i in range(torch.len(x)):\n"
    "  if torch.gt(torch.len(x[i]), longest):\n    longest = torch.len(x[i])\n  else:\n    pass"
)

SERVED = {
    # Outputs of every form.
    "row_sum": model(function("return (x, torch.sum(x, [1]))", result="Tuple[Tensor, Tensor]")),
    "list": model(function("return [x, torch.mul(x, 2)]", result="List[Tensor]")),
    "dict": model(function('return {"twice": torch.mul(x, 2), "same": x}', result="Dict[str, Tensor]")),
    "nested": model(
        function(
            'return (x, [torch.mul(x, 2), torch.mul(x, 3)], {"sum": torch.sum(x, [1])})',
            result="Tuple[Tensor, List[Tensor], Dict[str, Tensor]]",
        )
    ),
    # One part of it on another thread.
    "forked": model(
        function(
            "def __forked_function():\n  return torch.neg(x)\n"
            "part = fork(__forked_function)\nreturn torch.add(torch.wait(part), torch.mul(x, 3))"
        )
    ),
    "empty": model(function("return torch.slice(x, 1, 0, 0)")),
    "wide": model(function("return torch.mul(torch.sum(x, [1], True), self.ones)"),
                  tensors={"ones": ("FP32", [100000], floats(*[1.0] * 100000))}),
    # Inputs of every kind.
    "two_inputs": model(
        function("return torch.add(torch.mul(a, 2), b)", "a: Tensor, b: Tensor"), port("inputs", "a") + port("inputs", "b")
    ),
    "optional": model(function("return torch.mul(x, scale)", "x: Tensor, scale: float=2.")),
    "embedding": model(
        function("return torch.embedding(self.weight, ids)", "ids: Tensor"),
        port("inputs", "ids", "INT64", "[-1, -1]"),
        {"weight": ("FP32", [4, 2], floats(0, 1, 2, 3, 4, 5, 6, 7))},
    ),
    "mask": model(
        function("return torch.sum(torch.masked_fill(x, mask, 0.), [1])", "x: Tensor, mask: Tensor"),
        X + port("inputs", "mask", "BOOL"),
    ),
    "image": model(
        function("return torch.mean(torch.div(torch.to(image, 6), 255.), [1, 2])", "image: Tensor"),
        port("inputs", "image", "UINT8", "[-1, 2, 2, 3]"),
    ),
    "scalars": model(function("return torch.mul(x, 2)"), port("inputs", "x", shape="[-1]")),
    "same": model(function("return x"), None),
    "half": model(function("return torch.mul(x, 0.5)"), port("inputs", "x", "FP16")),
    "brain": model(function("return torch.mul(x, 0.5)"), port("inputs", "x", "BF16")),
    # What is computed tells in which type: 257 is none of BF16's numbers, 2049 none of FP16's.
    "precise": model(
        function("return (torch.mul(x, self.one), [x, torch.add(n, 1)], {\"sum\": torch.sum(x, [1])})",
                 "x: Tensor, n: Tensor", "Tuple[Tensor, List[Tensor], Dict[str, Tensor]]"),
        X + port("inputs", "n", "INT64", "[-1]"),
        {"one": ("FP32", [1], floats(1.001))},
    ),
    # How far it is from one channel to the next: 1 where channels are last.
    "strides": model(
        function("return torch.add(torch.sum(torch.conv2d(x, self.weight), [1, 2, 3]), torch.stride(x, 1))"),
        port("inputs", "x", shape="[-1, 2, 2, 2]"),
        {"weight": ("FP32", [1, 2, 1, 1], floats(10, 20))},
    ),
    "buffers": model(
        function("return torch.div(torch.sub(x, self.mean), self.deviation)"),
        tensors={"mean": ("FP32", [3], floats(1, 2, 3)), "deviation": ("FP32", [3], floats(2, 2, 2))},
    ),
    # Answers with what it was asked before, which it has kept, not copied.
    "keeper": model(
        function("last = self.last\nself.last = x\nreturn last"),
        X + "[batching]\nrow_wise = false\n",
        tensors={"last": ("FP32", [1, 3], floats(0, 0, 0))},
    ),
    # Models whose rows know of each other, or that have none.
    "control_flow": model(
        function("if bool(torch.gt(torch.sum(x), 0)):\n  y = torch.mul(x, 2)\nelse:\n  y = torch.neg(x)\nreturn y")
    ),
    "softmax_of_batch": model(function("return torch.softmax(x, 0)")),
    "mean": model(function("return torch.mean(x)")),
    "declared": model(function("return x"), X + "[batching]\nrow_wise = false\n"),
    "mean_of_batch": model(
        function("return torch.mean(x)"),
        X + port("outputs", "mean", shape="[]") + '[batching]\nrow_wise = false\n[golden]\nfile = "golden.json"\n',
        files={"golden.json": '{"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}, "outputs": {"mean": 3.5}}'},
    ),
    "random": model(function("return torch.add(x, torch.rand_like(x))")),
    # A model that raises, by itself and within an operator (embedding).
    "raises": model(
        function(
            "if bool(torch.gt(torch.max(x), 9)):\n"
            '  ops.prim.RaiseException("x is too large: expected at most 9", "builtins.ValueError")\n'
            "else:\n"
            "  pass\n"
            "return x"
        )
    ),
    # Models of texts.
    "texts": model(function("return x", "x: List[str]", "List[str]"), TEXTS),
    "texts_upper": model(function(each("torch.upper(x[i])"), "x: List[str]", "List[str]"), None),
    "texts_lengths": model(
        function(LENGTHS + "return lengths", "x: List[str]"), TEXTS + port("outputs", "lengths", "INT64", "[-1]")
    ),
    "texts_weighted": model(
        function(LENGTHS + "return (x, torch.mul(weight, lengths))", "x: List[str], weight: Tensor", "Tuple[List[str], Tensor]"),
        TEXTS
        + port("inputs", "weight", shape="[-1]")
        + port("outputs", "same", "BYTES", "[-1]")
        + port("outputs", "weighted", shape="[-1]"),
    ),
    "texts_mixed": model(function("return (x, weight)", "x: List[str], weight: Tensor", "Tuple[List[str], Tensor]"), None),
    "texts_column": model(
        function("return x", "x: List[str]", "List[str]"),
        port("inputs", "x", "BYTES", "[-1, 1]") + port("outputs", "y", "BYTES", "[-1, 1]"),
    ),
    "texts_pairs": model(function("return x", "x: List[List[str]]", "List[List[str]]"), None),
    # It knows two words, and raises at every other.
    "texts_vocabulary": model(
        function(
            each("known[x[i]]", "annotate(List[int], [])", 'known = {"cat": 1, "dog": 2}').replace(
                "return made", "return torch.tensor(made)"
            ),
            "x: List[str]",
        ),
        TEXTS + port("outputs", "id", "INT64", "[-1]") + '[golden]\nfile = "golden.json"\n',
        files={"golden.json": '{"inputs": {"x": ["dog", "cat"]}, "outputs": {"id": [2, 1]}}'},
    ),
    # The longest text of a batch says how long all of them become.
    "texts_padded": model(
        function(each("torch.ljust(x[i], longest)", before=PAD), "x: List[str]", "List[str]"),
        TEXTS,
    ),
    # Models that describe themselves, or do not.
    "described": model(
        function("return torch.mul(x, 2)"),
        None,
        extra={
            "model.toml": X + port("outputs", "y") + 'labels = "labels.txt"\n[golden]\nfile = "golden.json"\n',
            "labels.txt": "one\ntwo\nthree\n",
            "golden.json": '{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[2, 4, 6]]}}',
        },
    ),
    "plain": model(function("return (torch.mul(x, 2), torch.sum(x, [1]))", result="Tuple[Tensor, Tensor]"), None),
    "plain_softmax": model(function("return torch.softmax(torch.to(x, 6), 0)"), None),
    "plain_centred": model(function("return torch.sub(x, torch.mean(torch.to(x, 6), [0], True))"), None),
    "plain_embedding": model(
        function("return torch.embedding(self.weight, ids)", "ids: Tensor"),
        None,
        {"weight": ("FP32", [4, 2], floats(0, 1, 2, 3, 4, 5, 6, 7))},
    ),
    "plain_two": model(function("return torch.add(torch.mul(a, 2), b)", "a: Tensor, b: Tensor"), None),
}


AOTI = pathlib.Path(__file__).parent / "aoti"


def package(name="words", toml=None, change=lambda entry, data: (entry, data)):
    """A writer of a package of `aoti/`. `change` gives each entry's name and data."""

    def write(folder):
        (folder / "1").mkdir(parents=True, exist_ok=True)
        if toml is not None:
            (folder / "model.toml").write_text(toml)
        with archive.zipfile.ZipFile(AOTI / f"{name}.pt2") as source:
            with archive.zipfile.ZipFile(folder / "1" / "model.pt2", "w") as made:
                for entry in source.namelist():
                    made.writestr(*change(entry, source.read(entry)))

    return write


def made_for(key, value):
    """Says of a package that it was compiled for another machine."""

    def change(entry, data):
        if entry.endswith("_metadata.json"):
            data = json.dumps(json.loads(data) | {key: value}).encode()
        return entry, data

    return change


WORDS = port("inputs", "ids", "INT64", "[-1, -1]") + port("inputs", "weights", shape="[-1, -1]")

SERVED |= {
    "words": package(),
    # Without what it says of itself.
    "package_silent": package(
        change=lambda entry, data: (entry.replace(".toml", ".text"), b"" if entry.endswith("wrapper.cpp") else data)
    ),
}


def raw(data, file="model.pt", toml=X):
    """A writer of a file that is no TorchScript archive."""

    def write(folder):
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "model.toml").write_text(toml)
        (folder / "1" / file).write_bytes(data)

    return write


def zipped(*entries):
    def write(folder):
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "model.toml").write_text(X)
        with archive.zipfile.ZipFile(folder / "1" / "model.pt", "w") as file:
            for name, data in entries:
                file.writestr(name, data)

    return write


def truncated(folder):
    model(function("return x"))(folder)
    file = folder / "1" / "model.pt"
    file.write_bytes(file.read_bytes()[:-100])


SAFETENSORS = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'

REFUSED = {
    "texts_ragged": model(
        function(each('torch.split(x[i], " ")', "annotate(List[List[str]], [])"), "x: List[str]", "List[List[str]]"),
        TEXTS + '[golden]\nfile = "golden.json"\n' + port("outputs", "words", "BYTES", "[-1, -1]"),
        files={"golden.json": '{"inputs": {"x": ["one", "two words"]}, "outputs": {"words": [["one"], ["two"]]}}'},
    ),
    "texts_golden": model(
        function(each("torch.upper(x[i])"), "x: List[str]", "List[str]"),
        TEXTS + port("outputs", "y", "BYTES", "[-1]") + '[golden]\nfile = "golden.json"\n',
        files={"golden.json": '{"inputs": {"x": ["cat", "dog"]}, "outputs": {"y": ["CAT", "dog"]}}'},
    ),
    "texts_unbearable": model(
        function('ops.prim.RaiseException("no texts today", "builtins.ValueError")\nreturn x', "x: List[str]", "List[str]"),
        None,
    ),
    "texts_as_numbers": model(function("return x", "x: List[str]", "List[str]")),
    "texts_as_lists": model(
        function("return x", "x: List[str]", "List[str]"), port("inputs", "x", "BYTES", "[-1, 2]")
    ),
    "numbers_as_texts": model(function("return x"), TEXTS),
    "misdescribed": model(
        function("return torch.mul(x, 2)"),
        None,
        extra={
            "model.toml": X + port("outputs", "y") + '[golden]\nfile = "golden.json"\n',
            "golden.json": '{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[2, 4, 7]]}}',
        },
    ),
    "text": model(function('return "cat"', result="str")),
    # What needs a library that libtorch does not bring along, as detection models do.
    "foreign_operator": model(function("return ops.torchvision.nms(x, x, 0.5)")),
    "too_few_inputs": model(function("return torch.add(a, b)", "a: Tensor, b: Tensor"), port("inputs", "a")),
    "swapped_inputs": model(
        function("return torch.sub(a, b)", "a: Tensor, b: Tensor"), port("inputs", "b") + port("inputs", "a")
    ),
    "other_outputs": model(function("return x"), X + port("outputs", "y") + port("outputs", "z")),
    # What torch.save writes: of a state_dict, and of a module as a whole.
    "state_dict": zipped(("archive/data.pkl", b"\x80\x02}X\x06\x00\x00\x00weightK\x01s."), ("archive/version", b"3\n")),
    "whole_module": zipped(("archive/data.pkl", b"\x80\x02c__main__\nNet\n)\x81}b."), ("archive/version", b"3\n")),
    "legacy": raw(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."),
    "exported": zipped(("net/models/model.json", b"{}"), ("net/archive_format", b"pt2"), ("net/version", b"0")),
    "safetensors": raw(struct.pack("<Q", len(SAFETENSORS)) + SAFETENSORS + floats(1)),
    "onnx": raw(b"\x08\x08\x12\x07pytorch\x1a\x052.3.0:\x10"),
    "pointer": raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "nothing": raw(b""),
    "package_for_cuda": package(change=made_for("AOTI_DEVICE_KEY", "cuda")),
    "package_for_others": package(change=made_for("AOTI_CPU_ISA", "AVX512 AVX1024")),
    "package_of_another": package(change=lambda entry, data: (entry.replace("/aotinductor/model/", "/aotinductor/net/"), data)),
    "package_torn": package(change=lambda entry, data: (entry, b"no code" if entry.endswith(".so") else data)),
    "package_misdescribed": package(toml=WORDS.replace("INT64", "INT32")),
    "package_as_script": package(toml='format = "torchscript"\n' + WORDS),
    "package_in_bf16": package(toml='precision = "bf16"\n' + WORDS),
    "script_as_package": model(function("return x"), 'format = "aoti"\n' + X),
    "truncated": truncated,
}


def identity(dtype):
    """A writer of a model that returns its input, rows of any length, of this type."""
    kind = "List[List[str]]" if dtype == "BYTES" else "Tensor"
    ports = port("inputs", "INPUT0", dtype, "[-1, -1]") + port("outputs", "OUTPUT0", dtype, "[-1, -1]")
    return model(function("return INPUT0", f"INPUT0: {kind}", kind), ports)


# One for each type, which is what clients are tried with.
DTYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()
IDENTITIES = {f"identity_{dtype.lower()}": identity(dtype) for dtype in DTYPES}


def main():
    root, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    known = SERVED | REFUSED | IDENTITIES
    for name in names or known:
        known[name](root / name)


main()
