"""What Triton's Python backend calls with a batch of requests, each of one row or more."""

import json
import os
import sys

# The backend's interpreter looks at no PYTHONPATH.
sys.path.append(os.environ["SITE"])

import numpy  # noqa: E402
import torch  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        torch.set_num_threads(1)
        parameters = json.loads(args["model_config"])["parameters"]
        self.model = torch.jit.load(parameters["file"]["string_value"]).eval()

    def execute(self, requests):
        parts = [triton.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(numpy.concatenate(parts))).numpy()
        ends = numpy.cumsum([len(part) for part in parts])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("output", part)]) for part in numpy.split(outputs, ends)
        ]
