"""Makes what torchpod serves of a PyTorch module: TorchScript, an AOTInductor package, and the model.toml of both.

    python3 models/export.py my_model:Net models/net --input 'image:FP32[-1,3,224,224]' --weights net.pth

`my_model:Net` is a class, a function that makes a module, or a module, as Python imports it; every -1 is a length that may
differ from request to request, the first of them the rows. OUT becomes a model's folder: 1/model.pt, 1/model.pt2, golden.json
(what the module itself computed, which both files must meet) and model.toml. Each file carries the last two inside, too.

What it needs is in requirements.txt beside it, and a C++ compiler.
"""

import argparse
import contextlib
import importlib
import json
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
import torch._inductor
import torch._inductor.cpp_builder as cpp_builder

DTYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# The first two numbers of rows that are tried: with a sample of one row, the compiler would take rows for a constant.
ROWS = (2, 3)
GOLDEN_ROWS = 4
# Compiled code adds in another order than the module does.
TOLERANCE = 1e-4
PROVED_ROWS = (1, 2, 15, 16, 17, 33)
# What a golden file may have of numbers: it is JSON, and read at every start.
GOLDEN_NUMBERS = 100_000


class Input:
    """`image:FP32[-1,3,224,224]`, as torchpod's own --input takes it."""

    def __init__(self, text):
        match = re.fullmatch(r"(\w+):(\w+)\[(-1(?:,\s*(?:-1|\d+))*)\]", text)
        if match is None or match[2] not in DTYPES:
            raise argparse.ArgumentTypeError(f"{text}: expected NAME:DTYPE[-1,…], such as image:FP32[-1,8,8]")
        self.name, self.dtype = match[1], DTYPES[match[2]]
        self.shape = [int(length) for length in match[3].split(",")]

    def sample(self, rows, open_length, generator):
        """Numbers that most models can bear: small ones, and indices of 0 and 1."""
        shape = [rows] + [open_length if length == -1 else length for length in self.shape[1:]]
        if self.dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(self.dtype)
        return torch.randint(0, 2, shape, generator=generator).to(self.dtype)

    def dynamic(self):
        return {place: torch.export.Dim.DYNAMIC for place, length in enumerate(self.shape) if length == -1}


def module_of(target, weights):
    path, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    found = getattr(importlib.import_module(path), name)
    module = found if isinstance(found, torch.nn.Module) else found()
    if weights is not None:
        module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module


def named(value, name="output"):
    """The outputs as torchpod calls them: elements of a tuple or list are numbered, those of a dict carry their keys."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from named(inner, key if isinstance(key, str) else f"{name}_{key}")
    else:
        for index, inner in enumerate(value):
            yield from named(inner, f"{name}_{index}")


def port(table, name, dtype, shape):
    return f'[[{table}]]\nname = "{name}"\ndtype = "{NAMES[dtype]}"\nshape = {list(shape)}\n'


def shapes(module, inputs, generator):
    """Each output's name, type and shape; a length that two samples of other lengths do not share is open."""
    tried = [[each.sample(rows, 3 + rows, generator) for each in inputs] for rows in ROWS]
    first, second = (list(named(module(*sample))) for sample in tried)
    for (name, one), (_, other) in zip(first, second, strict=True):
        if len(one.shape) == 0 or (one.shape[0], other.shape[0]) != ROWS:
            sys.exit(f"output {name} has shape {list(one.shape)} for {ROWS[0]} rows: expected a row for each")
        yield name, one.dtype, [a if a == b else -1 for a, b in zip(one.shape, other.shape)]


def numbers(tensor):
    """Nine digits restore an FP32."""
    values = tensor.tolist()
    nine = lambda value: [nine(each) for each in value] if isinstance(value, list) else float(f"{value:.9g}")
    return nine(values) if tensor.dtype.is_floating_point else values


def description(module, inputs, generator):
    """model.toml and golden.json, the last of them empty where it would be large."""
    outputs = list(shapes(module, inputs, generator))
    toml = "".join(port("inputs", each.name, each.dtype, each.shape) for each in inputs)
    toml += "".join(port("outputs", *output) for output in outputs)
    sample = [each.sample(GOLDEN_ROWS, 5, generator) for each in inputs]
    computed = list(named(module(*sample)))
    if sum(tensor.numel() for tensor in sample + [tensor for _, tensor in computed]) > GOLDEN_NUMBERS:
        return toml, ""
    golden = {
        "inputs": {each.name: numbers(tensor) for each, tensor in zip(inputs, sample)},
        "outputs": {name: numbers(tensor) for name, tensor in computed},
    }
    return toml + f'[golden]\nfile = "golden.json"\ntolerance = {TOLERANCE}\n', json.dumps(golden) + "\n"


def script(module, sample, extra):
    """A frozen archive; a module whose code TorchScript cannot read is traced."""
    try:
        made = torch.jit.script(module)
    except Exception as error:  # noqa: BLE001: whatever it was, tracing may do
        print(f"traced, since it cannot be scripted: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        made = torch.jit.trace(module, sample)
    made = torch.jit.freeze(made)
    return lambda path: torch.jit.save(made, str(path), _extra_files=extra)


@contextlib.contextmanager
def for_processors(name):
    """Compiles for `name`, such as x86-64-v3, rather than for the very processor that compiles, and keeps this machine's
    paths out. Without torch's private function, there would be no flag that does.
    """
    here = cpp_builder._get_optimization_cflags
    paths = {str(Path(torch.__file__).parent): "torch", tempfile.gettempdir(): "compiled"}

    def flags(*args, **kwargs):
        compile_flags, link_flags = here(*args, **kwargs)
        if "march=native" not in compile_flags:
            sys.exit("torch's compiler has changed: it no longer asks for -march=native")
        kept = [flag for flag in compile_flags if flag != "march=native"]
        return kept + [f"march={name}"] + [f"ffile-prefix-map={path}={to}" for path, to in paths.items()], link_flags

    cpp_builder._get_optimization_cflags = flags
    try:
        yield
    finally:
        cpp_builder._get_optimization_cflags = here


def compiled(module, inputs, sample, out, cpu):
    """The package as the compiler writes it. With `native` it may use all that this processor has."""
    dynamic = tuple(each.dynamic() for each in inputs)
    # Which kernel a convolution takes depends on the rows: with these two in sight, the compiler would settle on what the
    # sample takes, and on the rows that it is for. What computes in the end is not settled here.
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        program = torch.export.export(module, tuple(sample), dynamic_shapes=dynamic)
        with contextlib.nullcontext() if cpu == "native" else for_processors(cpu):
            # In bits: AVX2 for all processors of the last ten years, AVX-512 for those that have it.
            bits = {"x86-64-v3": 256, "x86-64-v4": 512}.get(cpu)
            # On one thread: an exception, such as that of an index out of range, ends a process that is in the middle of a
            # parallel loop. Matrices and convolutions are libtorch's own, and use what threads there are.
            options = {"cpp.simdlen": bits, "cpp.threads": 1}
            torch._inductor.aoti_compile_and_package(program, package_path=str(out), inductor_configs=options)


def prove(module, inputs, package, generator):
    """Compares the package with the module, on both sides of the sizes at which kernels change."""
    run = torch._inductor.aoti_load_package(str(package))
    for rows in PROVED_ROWS:
        sample = [each.sample(rows, 5, generator) for each in inputs]
        pairs = zip(named(module(*sample)), named(run(*sample)), strict=True)
        for (name, expected), (_, got) in pairs:
            if not torch.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE):
                worst = (got.double() - expected.double()).abs().max()
                sys.exit(f"{name} of {rows} rows is {worst:.2g} off in the compiled package")


def packed(made, out, extra):
    """Writes the package anew: with the extra files, and without the compiler's command lines, which hold paths."""
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(out, "w") as package:
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith(".kernel.cpp"):
                continue  # It is part of the machine code, and nobody reads it.
            if info.filename.endswith(".cpp"):
                data = data.split(b"\n// Compile cmd\n")[0] + b"\n"
            rest = info.filename.split("/", 1)[1]
            how = zipfile.ZIP_DEFLATED if rest.endswith(".so") else zipfile.ZIP_STORED
            package.writestr(zipfile.ZipInfo(f"model/{rest}"), data, how)
        for name, text in extra.items():
            package.writestr(zipfile.ZipInfo(f"model/extra/{name}"), text)


def export(module, inputs, out, cpu="x86-64-v3", device="cpu"):
    """Writes a model's folder."""
    generator = torch.Generator().manual_seed(0)
    module.eval()
    (out / "1").mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        toml, golden = description(module, inputs, generator)
        sample = [each.sample(ROWS[0], 5, generator) for each in inputs]
        extra = {"model.toml": toml} | ({"golden.json": golden} if golden else {})
        script(module, tuple(sample), extra)(out / "1" / "model.pt")
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / "made.pt2"
            compiled(module.to(device), inputs, [tensor.to(device) for tensor in sample], made, cpu)
            if device == "cpu":
                prove(module, inputs, made, generator)
            packed(made, out / "1" / "model.pt2", extra)
    if golden:
        (out / "golden.json").write_text(golden)
    (out / "model.toml").write_text(f'format = "aoti"  # or "torchscript", for 1/model.pt\n{toml}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", metavar="MODULE:NAME", help="a class, a function or a module, as Python imports it")
    parser.add_argument("out", metavar="OUT", type=Path, help="the model's folder")
    parser.add_argument("--input", action="append", required=True, type=Input, dest="inputs", metavar="NAME:DTYPE[-1,…]")
    parser.add_argument("--weights", type=Path, help="a state_dict, as torch.save writes it")
    parser.add_argument("--cpu", default="x86-64-v3", help="x86-64-v3 (AVX2), x86-64-v4 (AVX-512) or native")
    parser.add_argument("--device", default="cpu", help="what the package is compiled for: cpu or cuda")
    args = parser.parse_args()
    export(module_of(args.target, args.weights), args.inputs, args.out, args.cpu, args.device)


if __name__ == "__main__":
    main()
