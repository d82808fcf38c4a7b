"""Writes TorchScript archives without torch, as torch.jit.save lays them out (source: torch/csrc/jit/serialization).

A zip of stored entries: `data.pkl` is the module, whose tensors are references into `data/N`; `code/__torch__.py` is its
class in TorchScript; `constants.pkl` is empty here; `extra/…` is what `_extra_files` carries.
"""

import struct
import zipfile

# Element types by their names in the Open Inference Protocol: the storage class and the size in bytes. Those that are
# missing have no storage in TorchScript's pickles: a model may compute with them, not keep them.
STORAGES = {
    "BOOL": ("BoolStorage", 1),
    "UINT8": ("ByteStorage", 1),
    "INT8": ("CharStorage", 1),
    "INT16": ("ShortStorage", 2),
    "INT32": ("IntStorage", 4),
    "INT64": ("LongStorage", 8),
    "FP16": ("HalfStorage", 2),
    "BF16": ("BFloat16Storage", 2),
    "FP32": ("FloatStorage", 4),
    "FP64": ("DoubleStorage", 8),
}

# Readers map storages into memory, so that they start at a multiple of this.
ALIGNMENT = 64


def write(path, source, tensors={}, extra={}, name="archive"):
    """Writes a module to `path`. `source` holds its methods, `forward` among them, as in a class body; `self.NAME` is the
    tensor `tensors[NAME] = (dtype, shape, bytes)`, row-major and little-endian. `extra` maps names to texts or bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        entry(archive, f"{name}/data.pkl", module(tensors))
        entry(archive, f"{name}/code/__torch__.py", code(source, tensors).encode())
        for number, (_, _, data) in enumerate(tensors.values()):
            entry(archive, f"{name}/data/{number}", data)
        entry(archive, f"{name}/constants.pkl", b"\x80\x02).")  # An empty tuple.
        for file, data in extra.items():
            entry(archive, f"{name}/extra/{file}", data.encode() if isinstance(data, str) else data)
        entry(archive, f"{name}/version", b"10\n")
        entry(archive, f"{name}/byteorder", b"little")


def entry(archive, name, data):
    """Appends a stored entry whose data is aligned, by an extra field that readers skip."""
    info = zipfile.ZipInfo(name)
    unpadded = archive.fp.tell() + 30 + len(name.encode()) + 4
    info.extra = b"FB" + struct.pack("<H", -unpadded % ALIGNMENT) + b"Z" * (-unpadded % ALIGNMENT)
    archive.writestr(info, data)


def code(source, tensors):
    """The class. Every tensor is a buffer: nobody trains here."""
    names = "".join(f'"{name}", ' for name in tensors)
    fields = "".join(f"  {name} : Tensor\n" for name in tensors)
    methods = "".join(f"  {line}\n" if line.strip() else "\n" for line in source.strip("\n").split("\n"))
    return f"class Model(Module):\n  __parameters__ = []\n  __buffers__ = [{names}]\n{fields}{methods}"


def module(tensors):
    """The pickle of the module: its class, and its tensors by name."""
    pickle = b"\x80\x02c__torch__\nModel\n)\x81}("
    for number, (name, (dtype, shape, data)) in enumerate(tensors.items()):
        pickle += text(name) + tensor(number, dtype, shape, len(data))
    return pickle + b"ub."


def tensor(number, dtype, shape, size):
    """A call of _rebuild_tensor_v2: storage, offset, shape, strides, requires_grad, hooks."""
    storage, element = STORAGES[dtype]
    elements, strides = 1, []
    for length in reversed(shape):
        strides.insert(0, elements)
        elements *= length
    if elements * element != size:
        raise ValueError(f"{size} bytes, expected {elements * element} for {dtype} of shape {shape}")
    reference = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(str(number)) + text("cpu")
    reference += integer(elements) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + reference
        + integer(0)
        + b"("
        + b"".join(map(integer, shape))
        + b"t("
        + b"".join(map(integer, strides))
        + b"t\x89"
        + hooks
        + b"tR"
    )


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    """One byte, or four with a sign; nothing here is larger."""
    return b"K" + bytes([value]) if value < 256 else b"J" + struct.pack("<i", value)
