"""A LitServe server: batches, two workers, and the faster of its two queues. Run by start_litserve.py."""

import base64

import litserve
import numpy
import torch

from asked import WORKERS, asked

wanted = asked()


class Api(litserve.LitAPI):
    def setup(self, device):
        torch.set_num_threads(1)
        self.model = torch.jit.load(wanted.file, map_location=device).eval()

    def decode_request(self, request):
        """It reads no bodies of plain bytes: numbers come as JSON, or as base64 inside."""
        if "b64" in request:
            rows = numpy.frombuffer(base64.b64decode(request["b64"]), dtype="<f4").reshape(-1, *wanted.shape)
            return torch.from_numpy(rows.copy())
        return torch.tensor(request["inputs"], dtype=torch.float32)

    def batch(self, inputs):
        self.counts = [len(rows) for rows in inputs]
        return torch.cat(inputs)

    def predict(self, rows):
        with torch.inference_mode():
            return self.model(rows)

    def unbatch(self, output):
        return output.split(self.counts)

    def encode_response(self, output):
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=wanted.batch, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True, timeout=120)
    server.run(host="127.0.0.1", port=wanted.port, log_level="warning", generate_client_file=False, pretty_logs=False)
