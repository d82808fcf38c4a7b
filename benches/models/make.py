"""Writes the benchmark's models, each as a folder that torchpod serves, with weights that nobody trained. What they cost is
what the real ones cost; what they say means nothing.

    python3 benches/models/make.py FOLDER [NAME…]    every model, without names

It needs no torch: TorchScript is a text, which PyTorch's own modules come to when they are traced. A folder that this
script has written before is left alone.
"""

import array
import hashlib
import math
import pathlib
import random
import sys

HERE = pathlib.Path(__file__)
ARCHIVE = HERE.parents[2] / "tests" / "models" / "archive.py"
sys.path.insert(0, str(ARCHIVE.parent))
import archive  # noqa: E402

# Drawn once and repeated: a normal number for each of BERT's 110 million weights would take minutes.
DRAW = random.Random(18)
NOISE = [DRAW.gauss(0.0, 1.0) for _ in range(65521)]  # A prime, so that no two filters repeat in step.


class Graph:
    """The lines of a forward, and the tensors that they name. Each layer returns the name of what it computes."""

    def __init__(self):
        self.lines = []
        self.tensors = {}

    def line(self, name, expression):
        self.lines.append(f"{name} = {expression}")
        return name

    def keep(self, name, shape, values):
        self.tensors[name] = ("FP32", shape, values.tobytes())
        return f"self.{name}"

    def noise(self, name, shape, scale):
        elements = math.prod(shape)
        block = array.array("f", (value * scale for value in NOISE))
        whole = block * (elements // len(block) + 1)
        return self.keep(name, shape, whole[:elements])

    def constant(self, name, elements, value):
        return self.keep(name, [elements], array.array("f", [value]) * elements)

    def linear(self, name, source, inputs, outputs):
        weight = self.noise(f"{name}_weight", [outputs, inputs], inputs**-0.5)
        return self.line(name, f"torch.linear({source}, {weight}, {self.constant(f'{name}_bias', outputs, 0.0)})")

    def convolution(self, name, source, inputs, outputs, kernel, stride):
        """With its batch norm in eval mode. He's scale keeps activations at their size, layer by layer."""
        shape = [outputs, inputs, kernel, kernel]
        weight = self.noise(f"{name}_weight", shape, (2.0 / (inputs * kernel * kernel)) ** 0.5)
        parts = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)]
        norm = ", ".join(self.constant(f"{name}_{part}", outputs, value) for part, value in parts)
        edge = kernel // 2
        self.line(name, f"torch.conv2d({source}, {weight}, None, [{stride}, {stride}], [{edge}, {edge}])")
        return self.line(name, f"torch.batch_norm({name}, {norm}, False, 0.1, 1e-05, True)")

    def relu(self, name):
        return self.line(name, f"torch.relu({name})")

    def layer_norm(self, name, source, width):
        scale, shift = self.constant(f"{name}_scale", width, 1.0), self.constant(f"{name}_shift", width, 0.0)
        return self.line(name, f"torch.layer_norm({source}, [{width}], {scale}, {shift}, 1e-12)")

    def write(self, folder, argument, result, toml):
        body = "".join(f"  {line}\n" for line in [*self.lines, f"return {result}"])
        (folder / "1").mkdir(parents=True, exist_ok=True)
        forward = f"def forward(self, {argument}: Tensor) -> Tensor:\n{body}"
        archive.write(folder / "1" / "model.pt", forward, self.tensors)
        (folder / "model.toml").write_text(toml)


def toml(name, dtype, row, largest, warm):
    """One thread: the other core is the load generator's, and threads that wait for each other spin."""
    return f"""[[inputs]]
name = "{name}"
dtype = "{dtype}"
shape = {[-1, *row]}

[batching]
max_size = {largest}

[instances]
threads = 1

[warm_up]
sizes = {warm}
"""


def mlp(folder):
    graph = Graph()
    hidden = graph.relu(graph.linear("hidden", "x", 64, 128))
    classes = graph.linear("classes", hidden, 128, 10)
    graph.write(folder, "x", classes, toml("x", "FP32", [64], 64, [1, 8, 64]))


def basic(graph, name, source, inputs, width, stride):
    """ResNet's block of two convolutions, and the way around them."""
    first = graph.relu(graph.convolution(f"{name}_1", source, inputs, width, 3, stride))
    return join(graph, name, source, graph.convolution(f"{name}_2", first, width, width, 3, 1), inputs, width, stride)


def bottleneck(graph, name, source, inputs, width, stride):
    """ResNet's block of three convolutions, the middle one between fewer channels."""
    first = graph.relu(graph.convolution(f"{name}_1", source, inputs, width, 1, 1))
    second = graph.relu(graph.convolution(f"{name}_2", first, width, width, 3, stride))
    third = graph.convolution(f"{name}_3", second, width, 4 * width, 1, 1)
    return join(graph, name, source, third, inputs, 4 * width, stride)


def join(graph, name, source, last, inputs, outputs, stride):
    around = source
    if stride != 1 or inputs != outputs:
        around = graph.convolution(f"{name}_around", source, inputs, outputs, 1, stride)
    return graph.line(name, f"torch.relu(torch.add({last}, {around}))")


def resnet(folder, block, widening, stages, largest):
    """torchvision's architecture, for 1000 classes of [3, 224, 224]."""
    graph = Graph()
    layer = graph.relu(graph.convolution("stem", "image", 3, 64, 7, 2))
    graph.line(layer, f"torch.max_pool2d({layer}, [3, 3], [2, 2], [1, 1])")
    inputs = 64
    for stage, (width, blocks) in enumerate(zip([64, 128, 256, 512], stages), start=1):
        for number in range(blocks):
            stride = 2 if stage > 1 and number == 0 else 1
            layer = block(graph, f"stage_{stage}_{number}", layer, inputs, width, stride)
            inputs = width * widening
    pooled = graph.line("pooled", f"torch.flatten(torch.adaptive_avg_pool2d({layer}, [1, 1]), 1)")
    classes = graph.linear("classes", pooled, inputs, 1000)
    description = toml("image", "FP32", [3, 224, 224], largest, [1, largest])
    graph.write(folder, "image", classes, f'memory_format = "channels_last"\n\n{description}')


def bert(folder):
    """BERT-base: 12 layers of 768 with 12 heads over 128 tokens, and its pooled output. No padding, so no mask."""
    width, heads, tokens, words = 768, 12, 128, 30522
    graph = Graph()
    word = graph.noise("words", [words, width], 0.02)
    place = graph.noise("places", [tokens, width], 0.02)
    layer = graph.layer_norm("embedded", f"torch.add(torch.embedding({word}, ids), {place})", width)
    for number in range(12):
        name = f"layer_{number}"
        split = [
            graph.line(
                f"{name}_{part}",
                f"torch.transpose(torch.view({graph.linear(f'{name}_{part}', layer, width, width)}, "
                f"[-1, {tokens}, {heads}, {width // heads}]), 1, 2)",
            )
            for part in ["query", "key", "value"]
        ]
        seen = f"torch.transpose(torch.scaled_dot_product_attention({', '.join(split)}), 1, 2)"
        seen = graph.line(f"{name}_seen", f"torch.reshape({seen}, [-1, {tokens}, {width}])")
        mixed = graph.linear(f"{name}_mixed", seen, width, width)
        middle = graph.layer_norm(f"{name}_middle", f"torch.add({mixed}, {layer})", width)
        inner = graph.linear(f"{name}_inner", middle, width, 4 * width)
        graph.line(inner, f"torch.gelu({inner})")
        outer = graph.linear(f"{name}_outer", inner, 4 * width, width)
        layer = graph.layer_norm(name, f"torch.add({outer}, {middle})", width)
    pooled = graph.linear("pooled", f"torch.select({layer}, 1, 0)", width, width)
    graph.write(folder, "ids", f"torch.tanh({pooled})", toml("ids", "INT64", [tokens], 4, [1, 4]))


# Batches of half a second to a second on one core: larger ones gain nothing there.
MODELS = {
    "mlp": mlp,
    "resnet18": lambda folder: resnet(folder, basic, 1, [2, 2, 2, 2], 18),
    "resnet50": lambda folder: resnet(folder, bottleneck, 4, [3, 4, 6, 3], 8),
    "bert": bert,
}


def main(folder, names):
    stamp = hashlib.sha256(HERE.read_bytes() + ARCHIVE.read_bytes()).hexdigest()
    for name in names or MODELS:
        written = folder / name / "written-by"
        if not written.exists() or written.read_text() != stamp:
            MODELS[name](folder / name)
            written.write_text(stamp)


main(pathlib.Path(sys.argv[1]), sys.argv[2:])
