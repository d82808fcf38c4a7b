"""A model behind Flask, as tutorials write it: the three probes, and a handler that computes."""

import os
import threading

import numpy
import torch
from flask import Flask, jsonify, request

app = Flask(__name__)
torch.set_num_threads(1)

shape = [int(length) for length in os.environ["ROW"].split(",")]
model = None


def load_model():
    global model
    model = torch.jit.load(os.environ["FILE"]).eval()


threading.Thread(target=load_model, daemon=True).start()


@app.route("/startup", methods=["GET"])
def startup():
    return (jsonify(status="ready"), 200) if model is not None else (jsonify(status="loading"), 503)


@app.route("/health", methods=["GET"])
def health():
    return jsonify(status="healthy"), 200


@app.route("/ready", methods=["GET"])
def ready():
    return (jsonify(status="ready"), 200) if model is not None else (jsonify(status="not_ready"), 503)


@app.route("/predict", methods=["POST"])
def predict():
    if request.mimetype == "application/json":
        rows = torch.tensor(request.get_json()["inputs"], dtype=torch.float32)
    else:
        rows = torch.from_numpy(numpy.frombuffer(request.get_data(), dtype="<f4").reshape(-1, *shape).copy())
    with torch.inference_mode():
        return jsonify(outputs=model(rows).tolist())
