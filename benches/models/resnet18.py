"""Writes a ResNet-18 as TorchScript: torchvision's architecture for 1000 classes of [-1, 3, 224, 224], with weights that
nobody trained. What it costs is that of the real one; what it says means nothing.

    python3 benches/models/resnet18.py FILE
"""

import array
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "models"))
import archive  # noqa: E402

# Drawn once and repeated: a normal number for each of 11.7 million weights would take longer than the server's start.
DRAW = random.Random(18)
NOISE = [DRAW.gauss(0.0, 1.0) for _ in range(65521)]  # A prime, so that no two filters repeat in step.

tensors = {}
lines = []


def keep(name, shape, values):
    tensors[name] = ("FP32", shape, values.tobytes())
    return f"self.{name}"


def noise(elements, scale):
    block = array.array("f", (value * scale for value in NOISE))
    whole = block * (elements // len(block) + 1)
    return whole[:elements]


def constant(elements, value):
    return array.array("f", [value]) * elements


def convolution(name, source, inputs, outputs, kernel, stride):
    """A convolution and its batch norm in eval mode. He's scale keeps activations at their size, layer by layer."""
    fan_in = inputs * kernel * kernel
    weights = noise(outputs * fan_in, (2.0 / fan_in) ** 0.5)
    weight = keep(f"{name}_weight", [outputs, inputs, kernel, kernel], weights)
    parts = [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)]
    norm = ", ".join(keep(f"{name}_{part}", [outputs], constant(outputs, value)) for part, value in parts)
    edge = kernel // 2
    lines.append(f"{name} = torch.conv2d({source}, {weight}, None, [{stride}, {stride}], [{edge}, {edge}])")
    lines.append(f"{name} = torch.batch_norm({name}, {norm}, False, 0.1, 1e-05, True)")
    return name


def block(name, source, inputs, outputs, stride):
    """Two convolutions and the way around them."""
    first = convolution(f"{name}_1", source, inputs, outputs, 3, stride)
    lines.append(f"{first} = torch.relu({first})")
    second = convolution(f"{name}_2", first, outputs, outputs, 3, 1)
    around = source
    if stride != 1 or inputs != outputs:
        around = convolution(f"{name}_around", source, inputs, outputs, 1, stride)
    lines.append(f"{name} = torch.relu(torch.add({second}, {around}))")
    return name


def main():
    layer = convolution("stem", "image", 3, 64, 7, 2)
    lines.append(f"{layer} = torch.max_pool2d(torch.relu({layer}), [3, 3], [2, 2], [1, 1])")
    inputs = 64
    for stage, outputs in enumerate([64, 128, 256, 512], start=1):
        for number in range(2):
            stride = 2 if stage > 1 and number == 0 else 1
            layer = block(f"stage_{stage}_{number}", layer, inputs, outputs, stride)
            inputs = outputs
    weight = keep("classes_weight", [1000, 512], noise(512 * 1000, 512**-0.5))
    bias = keep("classes_bias", [1000], constant(1000, 0.0))
    lines.append(f"pooled = torch.flatten(torch.adaptive_avg_pool2d({layer}, [1, 1]), 1)")
    lines.append(f"return torch.linear(pooled, {weight}, {bias})")
    forward = "def forward(self, image: Tensor) -> Tensor:\n" + "".join(f"  {line}\n" for line in lines)
    archive.write(sys.argv[1], forward, tensors)


main()
