"""Triton's clients against a running server: `triton.py HTTP GRPC [CASE…]`, the first two as host:port.

The server must serve the identity models of tests/models/make.py, its row_sum, and models/digits, take orders with
the token "conformance", and be called by these clients alone.
"""

import asyncio
import json
import pathlib
import queue
import sys
import urllib.error
import urllib.request

import ml_dtypes
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

import cases
from cases import case, expect, for_each

HTTP, GRPC = sys.argv[1:3]
MODELS = pathlib.Path(__file__).parents[2] / "models"
TOKEN = {"Authorization": "Bearer conformance"}
GRPC_TOKEN = {"authorization": "Bearer conformance"}

DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
             "FP64", "BYTES"]


def refused(call, *words, status=None):
    """`call` raises an InferenceServerException that holds all of the words."""
    try:
        answer = call()
    except InferenceServerException as error:
        for word in words:
            expect(word in str(error.message()), "no", word, "in", str(error))
        expect(status is None or status in str(error.status()), "status", error.status(), "expected", status)
        return
    raise AssertionError(f"it was not refused, but answered {answer}")


def values_of(datatype, rows=3, columns=4):
    """Values that use the whole range of the datatype."""
    shape = (rows, columns)
    if datatype == "BYTES":
        texts = ["", "plain", "größer", "漢字", 'a"quote\\', "line\nend", "x" * 5000, "0", "\U0001f600", "tab\t", "é", "end"]
        return np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape)
    if datatype == "BOOL":
        return (np.arange(rows * columns) % 3 == 0).reshape(shape)
    if datatype in ("FP16", "FP32", "FP64"):
        dtype = triton_to_np_dtype(datatype)
        return np.random.default_rng(5).normal(size=shape).astype(dtype)
    if datatype == "BF16":
        return (np.arange(rows * columns, dtype=np.float32) - 6).reshape(shape).astype(ml_dtypes.bfloat16)
    dtype = triton_to_np_dtype(datatype)
    info = np.iinfo(dtype)
    edges = [info.min, info.max, 0, 1, info.max - 1, info.min + 1, 7, 42, 100, 3, 2, 99]
    return np.array(edges, dtype=dtype).reshape(shape)


def same(got, sent):
    expect(got is not None, "there is no output")
    expect(got.shape == sent.shape, got.shape, sent.shape)
    if sent.dtype == np.object_:
        as_bytes = lambda x: x if isinstance(x, bytes) else str(x).encode()
        expect([as_bytes(x) for x in got.ravel()] == list(sent.ravel()), got, sent)
        return
    expect(got.astype(sent.dtype).tobytes() == sent.tobytes(), got, sent)


def identity(datatype):
    return "identity_" + datatype.lower()


def http_client(**options):
    return http.InferenceServerClient(HTTP, **options)


def http_input(values, datatype, binary=True, name="INPUT0"):
    tensor = http.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def grpc_client():
    # As high as torchpod's own limit.
    return grpc.InferenceServerClient(GRPC, channel_args=[("grpc.max_receive_message_length", 64 << 20),
                                                          ("grpc.max_send_message_length", 64 << 20)])


def grpc_input(values, datatype, name="INPUT0"):
    tensor = grpc.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values)
    return tensor


def digits():
    golden = json.loads((MODELS / "digits" / "golden.json").read_text())
    images = np.array(golden["inputs"]["image"], dtype=np.float32)
    (expected,) = golden["outputs"].values()
    return images, np.array(expected, dtype=np.float32)


def post(path, body, headers):
    request = urllib.request.Request(f"http://{HTTP}{path}", data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read()


# Every datatype, by every way.


@for_each(DATATYPES)
def http_binary_tensors_come_back_as_they_went(datatype):
    values = values_of(datatype)
    with http_client() as client:
        answer = client.infer(identity(datatype), [http_input(values, datatype)])
    same(answer.as_numpy("OUTPUT0"), values)


@for_each([datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")])  # The client has no JSON for those.
def http_json_tensors_come_back_as_they_went(datatype):
    values = values_of(datatype)
    outputs = [http.InferRequestedOutput("OUTPUT0", binary_data=False)]
    with http_client() as client:
        answer = client.infer(identity(datatype), [http_input(values, datatype, binary=False)], outputs=outputs)
    expect("data" in answer.get_output("OUTPUT0"), "the answer is JSON")
    same(answer.as_numpy("OUTPUT0"), values)


@for_each([datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")])
def http_json_goes_and_binary_comes_back(datatype):
    values = values_of(datatype)
    outputs = [http.InferRequestedOutput("OUTPUT0", binary_data=True)]
    with http_client() as client:
        answer = client.infer(identity(datatype), [http_input(values, datatype, binary=False)], outputs=outputs)
    same(answer.as_numpy("OUTPUT0"), values)


@for_each(DATATYPES)
def grpc_tensors_come_back_as_they_went(datatype):
    values = values_of(datatype)
    with grpc_client() as client:
        answer = client.infer(identity(datatype), [grpc_input(values, datatype)])
    same(answer.as_numpy("OUTPUT0"), values)


CONTENTS = {"BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
            "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
            "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


def typed(model, tensors):
    """A request with typed contents: name → (datatype, values)."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, (datatype, values) in tensors.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(tensor.contents, CONTENTS[datatype]).extend(values.ravel().tolist())
    return request


CLIENT = grpc_client()  # Whose channel lasts, since it closes it when it goes.


def stub():
    return service_pb2_grpc.GRPCInferenceServiceStub(CLIENT._channel)


def output_of(answer, name):
    for index, output in enumerate(answer.outputs):
        if output.name != name:
            continue
        if answer.raw_output_contents:
            dtype = triton_to_np_dtype(output.datatype)
            return np.frombuffer(answer.raw_output_contents[index], dtype=dtype).reshape(output.shape)
        values = list(getattr(output.contents, CONTENTS[output.datatype]))
        return np.array(values, dtype=triton_to_np_dtype(output.datatype)).reshape(output.shape)
    raise AssertionError(f"no output {name}")


@for_each(list(CONTENTS))
def grpc_typed_contents_come_back_as_they_went(datatype):
    values = values_of(datatype)
    channel = stub()
    answer = channel.ModelInfer(typed(identity(datatype), {"INPUT0": (datatype, values)}))
    expect(not answer.raw_output_contents, "typed contents are answered with typed contents")
    same(output_of(answer, "OUTPUT0"), values)


# Health, metadata, configuration, statistics, repository.


@case
def http_health_is_that_of_the_server():
    with http_client() as client:
        expect(client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits"))
        expect(client.is_model_ready("digits", "1"))
        expect(not client.is_model_ready("nobody") and not client.is_model_ready("digits", "7"))


@case
def grpc_health_is_that_of_the_server():
    with grpc_client() as client:
        expect(client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits"))
        expect(client.is_model_ready("digits", "1"))
        expect(not client.is_model_ready("nobody") and not client.is_model_ready("digits", "7"))


def check_metadata(server, model):
    expect(server["name"] == "torchpod" and server["version"], server)
    expect("model_repository" in server["extensions"], server)
    expect(model["name"] == "digits" and model["versions"] == ["1"] and model["platform"] == "pytorch_libtorch", model)
    (image,), (logits,) = model["inputs"], model["outputs"]
    shape = [int(length) for length in image["shape"]]
    expect((image["name"], image["datatype"], shape) == ("image", "FP32", [-1, 8, 8]), image)
    expect(logits["datatype"] == "FP32" and [int(length) for length in logits["shape"]] == [-1, 10], logits)


@case
def http_metadata_tells_the_server_and_the_models_signature():
    with http_client() as client:
        check_metadata(client.get_server_metadata(), client.get_model_metadata("digits"))
        check_metadata(client.get_server_metadata(), client.get_model_metadata("digits", "1"))


@case
def grpc_metadata_tells_the_server_and_the_models_signature():
    with grpc_client() as client:
        check_metadata(client.get_server_metadata(as_json=True), client.get_model_metadata("digits", as_json=True))


@case
def metadata_of_an_unknown_model_is_refused():
    with http_client() as client:
        refused(lambda: client.get_model_metadata("nobody"), "nobody", status="404")
        refused(lambda: client.get_model_metadata("digits", "7"), "digits", status="404")
    with grpc_client() as client:
        refused(lambda: client.get_model_metadata("nobody"), "nobody", status="NOT_FOUND")


@case
def http_config_tells_how_a_model_is_run():
    with http_client() as client:
        config = client.get_model_config("digits")
    expect(config["name"] == "digits" and config["backend"] == "pytorch" and config["max_batch_size"] > 1, config)
    (image,) = config["input"]
    expect(image["data_type"] == "TYPE_FP32" and [int(length) for length in image["dims"]] == [8, 8], image)


@case
def grpc_config_tells_how_a_model_is_run():
    with grpc_client() as client:
        config = client.get_model_config("digits").config
    expect(config.name == "digits" and config.backend == "pytorch" and config.max_batch_size > 1, config)
    expect(config.input[0].data_type == 11 and list(config.input[0].dims) == [8, 8], config)  # TYPE_FP32


def counted(statistics):
    (model,) = statistics["model_stats"]
    expect(model["name"] == "digits" and model["version"] == "1", model)
    inferences, executions = int(model["inference_count"]), int(model["execution_count"])
    expect(0 < executions <= inferences and int(model["inference_stats"]["success"]["count"]) > 0, model)
    expect(int(model["inference_stats"]["success"]["ns"]) > 0 and int(model["last_inference"]) > 1_600_000_000_000, model)
    return inferences


@case
def statistics_count_what_both_protocols_asked():
    images, _ = digits()
    with http_client() as by_http, grpc_client() as by_grpc:
        by_http.infer("digits", [http_input(images[:1], "FP32", name="image")])
        before = counted(by_http.get_inference_statistics("digits"))
        by_http.infer("digits", [http_input(images[:3], "FP32", name="image")])
        by_grpc.infer("digits", [grpc_input(images[:2], "FP32", name="image")])
        expect(counted(by_grpc.get_inference_statistics("digits", as_json=True)) == before + 5)
        everyone = by_http.get_inference_statistics()["model_stats"]
        expect({"digits", "row_sum"} <= {model["name"] for model in everyone}, everyone)


@case
def the_repository_lists_every_model_as_ready():
    with http_client() as by_http, grpc_client() as by_grpc:
        for index in [by_http.get_model_repository_index(), by_grpc.get_model_repository_index(as_json=True)["models"]]:
            names = {model["name"] for model in index if model["state"] == "READY"}
            expect({"digits", "row_sum", *map(identity, DATATYPES)} <= names, index)


@case
def http_unloads_and_loads_with_the_token_and_not_without():
    name = identity("UINT8")
    with http_client() as client:
        refused(lambda: client.unload_model(name), "token", status="401")
        client.unload_model(name, headers=TOKEN)
        expect(not client.is_model_ready(name))
        client.load_model(name, headers=TOKEN)
        expect(client.is_model_ready(name))
        refused(lambda: client.load_model("nobody", headers=TOKEN), "nobody", status="404")


@case
def grpc_unloads_and_loads_with_the_token_and_not_without():
    name = identity("UINT16")
    with grpc_client() as client:
        refused(lambda: client.unload_model(name), "token", status="UNAUTHENTICATED")
        client.unload_model(name, headers=GRPC_TOKEN)
        expect(not client.is_model_ready(name))
        client.load_model(name, headers=GRPC_TOKEN)
        expect(client.is_model_ready(name))
        refused(lambda: client.load_model("nobody", headers=GRPC_TOKEN), "nobody", status="NOT_FOUND")


@case
def what_there_is_not_is_refused_with_a_sentence():
    with grpc_client() as client:
        for call in [client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings]:
            refused(call, " ", status="UNIMPLEMENTED")


# What a request can ask for.


@case
def digits_are_recognised_by_both_protocols():
    images, expected = digits()
    with http_client() as client:
        got = client.infer("digits", [http_input(images, "FP32", name="image")])
        (name,) = [output["name"] for output in got.get_response()["outputs"]]
        expect(np.allclose(got.as_numpy(name), expected, rtol=1e-4, atol=1e-4))
    with grpc_client() as client:
        got = client.infer("digits", [grpc_input(images, "FP32", name="image")]).as_numpy(name)
        expect(np.allclose(got, expected, rtol=1e-4, atol=1e-4))


@case
def http_answers_carry_the_requests_id_and_their_model():
    images, _ = digits()
    with http_client() as client:
        answer = client.infer("digits", [http_input(images[:1], "FP32", name="image")], request_id="my-1",
                              model_version="1").get_response()
    expect((answer["id"], answer["model_name"], answer["model_version"]) == ("my-1", "digits", "1"), answer)


@case
def grpc_answers_carry_the_requests_id_and_their_model():
    images, _ = digits()
    with grpc_client() as client:
        answer = client.infer("digits", [grpc_input(images[:1], "FP32", name="image")], request_id="my-1",
                              model_version="1").get_response()
    expect((answer.id, answer.model_name, answer.model_version) == ("my-1", "digits", "1"), answer)


@case
def only_the_outputs_that_are_asked_for_come_back_in_their_order():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for wanted in [["sums"], ["rows"], ["sums", "rows"]]:
        with http_client() as client:
            answer = client.infer("row_sum", [http_input(values, "FP32", name="x")],
                                  outputs=[http.InferRequestedOutput(name) for name in wanted])
            expect([output["name"] for output in answer.get_response()["outputs"]] == wanted, answer.get_response())
            if "sums" in wanted:
                same(answer.as_numpy("sums"), values.sum(axis=1))
        with grpc_client() as client:
            answer = client.infer("row_sum", [grpc_input(values, "FP32", name="x")],
                                  outputs=[grpc.InferRequestedOutput(name) for name in wanted])
            expect([output.name for output in answer.get_response().outputs] == wanted, answer.get_response())
            if "sums" in wanted:
                same(answer.as_numpy("sums"), values.sum(axis=1))


@case
def one_output_can_be_binary_and_the_other_json():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = [http.InferRequestedOutput("rows", binary_data=False), http.InferRequestedOutput("sums", binary_data=True)]
    with http_client() as client:
        answer = client.infer("row_sum", [http_input(values, "FP32", name="x")], outputs=outputs)
    same(answer.as_numpy("rows"), values)
    same(answer.as_numpy("sums"), values.sum(axis=1))


def check_classes(classes, expected):
    expect(classes.shape == (2, 3), classes.shape)
    for row, scores in zip(classes, expected):
        best = np.argsort(-scores, kind="stable")[:3]
        parts = [entry.decode().split(":") for entry in row]
        expect([int(part[1]) for part in parts] == best.tolist(), parts, best)
        expect([part[2] for part in parts] == [str(index) for index in best], parts)
        expect(np.allclose([float(part[0]) for part in parts], scores[best], rtol=1e-3), parts)


@case
def http_classification_gives_scores_indices_and_labels():
    images, expected = digits()
    with http_client() as client:
        (name,) = [output["name"] for output in client.get_model_metadata("digits")["outputs"]]
        for binary in [True, False]:
            outputs = [http.InferRequestedOutput(name, binary_data=binary, class_count=3)]
            answer = client.infer("digits", [http_input(images[:2], "FP32", name="image")], outputs=outputs)
            classes = answer.as_numpy(name)
            check_classes(np.vectorize(lambda x: x if isinstance(x, bytes) else x.encode(), otypes=[object])(classes),
                          expected[:2])


@case
def grpc_classification_gives_scores_indices_and_labels():
    images, expected = digits()
    with grpc_client() as client:
        name = client.get_model_metadata("digits").outputs[0].name
        outputs = [grpc.InferRequestedOutput(name, class_count=3)]
        answer = client.infer("digits", [grpc_input(images[:2], "FP32", name="image")], outputs=outputs)
    check_classes(answer.as_numpy(name), expected[:2])


@for_each(["gzip", "deflate"])
def http_bodies_can_be_compressed_both_ways(algorithm):
    values = np.zeros((500, 3), dtype=np.float32)
    with http_client() as client:
        answer = client.infer("row_sum", [http_input(values, "FP32", name="x")],
                              request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
    same(answer.as_numpy("rows"), values)


@for_each(["gzip", "deflate"])
def grpc_messages_can_be_compressed(algorithm):
    values = np.zeros((500, 3), dtype=np.float32)
    with grpc_client() as client:
        answer = client.infer("row_sum", [grpc_input(values, "FP32", name="x")], compression_algorithm=algorithm)
    same(answer.as_numpy("rows"), values)


@case
def a_request_can_say_how_long_it_may_take_and_how_much_it_matters():
    values = np.ones((1, 3), dtype=np.float32)
    with http_client() as client:
        client.infer("row_sum", [http_input(values, "FP32", name="x")], priority=2, timeout=10_000_000)
    with grpc_client() as client:
        client.infer("row_sum", [grpc_input(values, "FP32", name="x")], priority=2, timeout=10_000_000,
                     client_timeout=10)


@case
def sequences_are_refused_by_name():
    values = np.ones((1, 3), dtype=np.float32)
    with http_client() as client:
        refused(lambda: client.infer("row_sum", [http_input(values, "FP32", name="x")], sequence_id=5,
                                     sequence_start=True), "sequence_", status="400")
    with grpc_client() as client:
        refused(lambda: client.infer("row_sum", [grpc_input(values, "FP32", name="x")], sequence_id=5,
                                     sequence_start=True), "sequence_", status="INVALID_ARGUMENT")


@case
def headers_go_in_and_come_out():
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
    headers, _ = post("/v2/models/row_sum/infer", body.encode(), {"x-request-id": "conformance-7"})
    expect(headers["x-request-id"] == "conformance-7" and headers["torchpod-model"] == "row_sum", headers)
    expect(headers["torchpod-model-version"] == "1" and headers["torchpod-model-digest"], headers)


@case
def grpc_metadata_carries_the_identity_of_whoever_answered():
    values = np.ones((1, 3), dtype=np.float32)
    _, call = stub().ModelInfer.with_call(typed("row_sum", {"x": ("FP32", values)}))
    metadata = dict(call.initial_metadata()) | dict(call.trailing_metadata())
    expect(metadata.get("torchpod-model") == "row_sum" and metadata.get("torchpod-model-version") == "1", metadata)
    expect(metadata.get("torchpod-model-digest") and metadata.get("x-request-id"), metadata)


# Asynchronous and streaming clients.


@case
def http_async_requests_are_all_answered():
    values = [np.full((1, 3), index, dtype=np.float32) for index in range(20)]
    with http_client(concurrency=8) as client:
        pending = [client.async_infer("row_sum", [http_input(value, "FP32", name="x")]) for value in values]
        for value, request in zip(values, pending):
            same(request.get_result().as_numpy("rows"), value)


@case
def grpc_async_requests_are_all_answered():
    answers = queue.Queue()
    with grpc_client() as client:
        for index in range(20):
            value = np.full((1, 3), index, dtype=np.float32)
            client.async_infer("row_sum", [grpc_input(value, "FP32", name="x")], request_id=str(index),
                               callback=lambda result, error: answers.put((result, error)))
        got = [answers.get(timeout=30) for _ in range(20)]
    expect(not [error for _, error in got if error], got)
    for result, _ in got:
        same(result.as_numpy("rows"), np.full((1, 3), int(result.get_response().id), dtype=np.float32))


@case
def a_grpc_stream_answers_each_request_and_survives_a_bad_one():
    answers = queue.Queue()
    with grpc_client() as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for index in range(50):
            columns = 4 if index == 25 else 3
            value = np.full((1, columns), index, dtype=np.float32)
            client.async_stream_infer("row_sum", [grpc_input(value, "FP32", name="x")], request_id=str(index))
        got = [answers.get(timeout=30) for _ in range(50)]
        client.stop_stream()
    errors = [error for _, error in got if error]
    expect(len(errors) == 1 and "shape" in errors[0].message(), errors)
    results = {int(result.get_response().id): result for result, error in got if not error}
    expect(set(results) == set(range(50)) - {25}, results.keys())
    for index, result in results.items():
        same(result.as_numpy("rows"), np.full((1, 3), index, dtype=np.float32))


@case
def the_asyncio_http_client_works():
    async def run():
        async with http_aio.InferenceServerClient(HTTP) as client:
            expect(await client.is_server_ready() and await client.is_model_ready("row_sum"))
            values = [np.full((2, 3), index, dtype=np.float32) for index in range(16)]
            calls = [client.infer("row_sum", [http_input(value, "FP32", name="x")]) for value in values]
            for value, answer in zip(values, await asyncio.gather(*calls)):
                same(answer.as_numpy("rows"), value)

    asyncio.run(run())


@case
def the_asyncio_grpc_client_works():
    async def run():
        async with grpc_aio.InferenceServerClient(GRPC) as client:
            expect(await client.is_server_ready() and await client.is_model_ready("row_sum"))
            values = [np.full((2, 3), index, dtype=np.float32) for index in range(16)]
            calls = [client.infer("row_sum", [grpc_input(value, "FP32", name="x")]) for value in values]
            for value, answer in zip(values, await asyncio.gather(*calls)):
                same(answer.as_numpy("rows"), value)

    asyncio.run(run())


@case
def the_asyncio_grpc_client_streams():
    async def run():
        async def requests():
            for index in range(16):
                value = np.full((1, 3), index, dtype=np.float32)
                yield {"model_name": "row_sum", "inputs": [grpc_input(value, "FP32", name="x")], "request_id": str(index)}

        async with grpc_aio.InferenceServerClient(GRPC) as client:
            seen = 0
            async for result, error in client.stream_infer(requests()):
                expect(error is None, error)
                same(result.as_numpy("rows"), np.full((1, 3), int(result.get_response().id), dtype=np.float32))
                seen += 1
            expect(seen == 16, seen)

    asyncio.run(run())


@case
def a_message_of_fifty_mebibytes_passes_both_protocols():
    values = np.random.default_rng(1).random((50 << 20 >> 2 >> 2, 4), dtype=np.float32)
    only = [http.InferRequestedOutput("OUTPUT0")]
    with http_client(network_timeout=120) as client:
        same(client.infer(identity("FP32"), [http_input(values, "FP32")], outputs=only).as_numpy("OUTPUT0"), values)
    with grpc_client() as client:
        same(client.infer(identity("FP32"), [grpc_input(values, "FP32")]).as_numpy("OUTPUT0"), values)


# What is wrong is said.


def wrong_requests(module, client, make_input):
    x = lambda values, **options: make_input(values, options.pop("datatype", "FP32"), name=options.pop("name", "x"))
    good = np.ones((1, 3), dtype=np.float32)
    return [
        (lambda: client.infer("nobody", [x(good)]), ["nobody"], ("404", "NOT_FOUND")),
        (lambda: client.infer("row_sum", [x(good)], model_version="9"), ["9"], ("404", "NOT_FOUND")),
        (lambda: client.infer("row_sum", [x(good, name="y")]), ["y", "x"], ("400", "INVALID_ARGUMENT")),
        (lambda: client.infer("row_sum", []), ["x"], ("400", "INVALID_ARGUMENT")),
        (lambda: client.infer("row_sum", [x(good), x(good)]), ["x"], ("400", "INVALID_ARGUMENT")),
        (lambda: client.infer("row_sum", [x(np.ones((1, 4), dtype=np.float32))]), ["x", "shape"],
         ("400", "INVALID_ARGUMENT")),
        (lambda: client.infer("row_sum", [x(np.ones((1, 3)), datatype="FP64")]), ["x", "FP64", "FP32"],
         ("400", "INVALID_ARGUMENT")),
        (lambda: client.infer("row_sum", [x(good)], outputs=[module.InferRequestedOutput("none")]), ["none"],
         ("400", "INVALID_ARGUMENT")),
    ]


@case
def http_says_what_is_wrong_with_a_request():
    with http_client() as client:
        for call, words, (status, _) in wrong_requests(http, client, http_input):
            refused(call, *words, status=status)


@case
def grpc_says_what_is_wrong_with_a_request():
    with grpc_client() as client:
        for call, words, (_, status) in wrong_requests(grpc, client, grpc_input):
            refused(call, *words, status=status)


@case
def v1_errors_are_told_as_tf_serving_tells_them():
    for path, body, status in [("/v1/models/nobody:predict", {"instances": [[1, 2, 3]]}, 404),
                               ("/v1/models/row_sum:predict", {"instances": [[1, 2]]}, 400),
                               ("/v1/models/row_sum:predict", {}, 400),
                               ("/v1/models/row_sum:classify", {"instances": [[1, 2, 3]]}, 404)]:
        try:
            post(path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        except urllib.error.HTTPError as error:
            expect(error.code == status, path, body, error.code)
            expect(isinstance(json.loads(error.read())["error"], str), path)
        else:
            raise AssertionError(f"{path} took {body}")


# The same numbers, whichever way they are asked for.


@case
def a_thousand_random_requests_get_the_same_bits_by_every_way():
    random = np.random.default_rng(2026)
    channel = stub()
    with http_client() as by_http, grpc_client() as by_grpc:
        for _ in range(1000):
            values = random.normal(scale=1e3, size=(int(random.integers(1, 9)), 3)).astype(np.float32)
            rows = values.tolist()
            answers = {}
            raw = by_http.infer("row_sum", [http_input(values, "FP32", name="x")])
            answers["http binary"] = raw.as_numpy("rows"), raw.as_numpy("sums")
            outputs = [http.InferRequestedOutput(name, binary_data=False) for name in ("rows", "sums")]
            text = by_http.infer("row_sum", [http_input(values, "FP32", binary=False, name="x")], outputs=outputs)
            answers["http json"] = text.as_numpy("rows"), text.as_numpy("sums")
            got = by_grpc.infer("row_sum", [grpc_input(values, "FP32", name="x")])
            answers["grpc raw"] = got.as_numpy("rows"), got.as_numpy("sums")
            got = channel.ModelInfer(typed("row_sum", {"x": ("FP32", values)}))
            answers["grpc typed"] = output_of(got, "rows"), output_of(got, "sums")
            kind = {"Content-Type": "application/json"}
            got = json.loads(post("/v1/models/row_sum:predict", json.dumps({"instances": rows}).encode(), kind)[1])
            got = got["predictions"]
            answers["v1 rows"] = [row["rows"] for row in got], [row["sums"] for row in got]
            got = json.loads(post("/v1/models/row_sum:predict", json.dumps({"inputs": rows}).encode(), kind)[1])
            answers["v1 columns"] = got["outputs"]["rows"], got["outputs"]["sums"]
            got = json.loads(post("/predict/row_sum", json.dumps({"inputs": rows}).encode(), kind)[1])
            answers["predict"] = got["outputs"]["rows"], got["outputs"]["sums"]
            sums = answers["http binary"][1]
            for way, (rows_of, sums_of) in answers.items():
                expect(np.asarray(rows_of, dtype=np.float32).tobytes() == values.tobytes(), way, rows_of, values)
                expect(np.asarray(sums_of, dtype=np.float32).tobytes() == sums.tobytes(), way, sums_of, sums)


@case
def reflection_lists_the_services():
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    services = set(ProtoReflectionDescriptorDatabase(CLIENT._channel).get_services())
    expect({"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services, services)


cases.run()
