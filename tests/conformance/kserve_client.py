"""KServe's own inference clients against a running server: `kserve_client.py HTTP GRPC [CASE…]`.

Apart from triton.py: each brings its own copy of the protocol's messages, and a process can have only one.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

import cases
from cases import case, expect

HTTP, GRPC = sys.argv[1:3]


def kserve_input():
    tensor = InferInput(name="x", shape=[2, 3], datatype="FP32")
    tensor.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3), binary_data=False)
    return tensor


def kserve_rest(protocol):
    return InferenceRESTClient(config=RESTConfig(protocol=protocol, retries=0, timeout=30))


@case
def the_kserve_rest_client_speaks_v2():
    async def run():
        client, base = kserve_rest("v2"), f"http://{HTTP}"
        expect(await client.is_server_ready(base) and await client.is_server_live(base))
        expect(await client.is_model_ready(base, "row_sum"))
        request = InferRequest(model_name="row_sum", infer_inputs=[kserve_input()])
        answer = await client.infer(base, request, model_name="row_sum")
        sums = [output for output in answer.outputs if output.name == "sums"][0]
        expect(list(sums.as_numpy()) == [3.0, 12.0], answer)

    asyncio.run(run())


@case
def the_kserve_rest_client_speaks_v1():
    async def run():
        client, base = kserve_rest("v1"), f"http://{HTTP}"
        expect(await client.is_model_ready(base, "row_sum"))
        answer = await client.infer(base, {"instances": [[0, 1, 2], [3, 4, 5]]}, model_name="row_sum")
        expect([row["sums"] for row in answer["predictions"]] == [3.0, 12.0], answer)

    asyncio.run(run())


@case
def the_kserve_grpc_client_works():
    async def run():
        client = InferenceGRPCClient(GRPC, retries=0)
        expect(await client.is_server_ready() and await client.is_server_live() and await client.is_model_ready("row_sum"))
        answer = await client.infer(InferRequest(model_name="row_sum", infer_inputs=[kserve_input()]))
        sums = [output for output in answer.outputs if output.name == "sums"][0]
        expect(list(sums.as_numpy()) == [3.0, 12.0], answer)
        await client.close()

    asyncio.run(run())


cases.run()
