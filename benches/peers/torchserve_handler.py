"""What TorchServe calls with a batch of requests, each of one row or more."""

import json

import numpy
import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        torch.set_num_threads(1)
        super().initialize(context)
        self.row = [int(length) for length in context.model_yaml_config["handler"]["row"].split(",")]

    def preprocess(self, data):
        rows = [self.rows(request.get("body") or request.get("data")) for request in data]
        self.counts = [len(part) for part in rows]
        return torch.cat(rows)

    def rows(self, body):
        """JSON arrives as a dictionary, everything else as bytes."""
        if isinstance(body, dict):
            return torch.tensor(body["inputs"], dtype=torch.float32)
        return torch.from_numpy(numpy.frombuffer(body, dtype="<f4").reshape(-1, *self.row).copy())

    def inference(self, data):
        with torch.inference_mode():
            return self.model(data)

    def postprocess(self, data):
        return [json.dumps({"outputs": part.tolist()}) for part in data.split(self.counts)]
