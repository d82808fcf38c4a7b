"""What every peer is asked for, and how it ends: when the benchmark closes its pipe, or is gone, nothing is left running."""

import argparse
import os
import pathlib
import select
import signal
import subprocess
import sys

WORKERS = 2  # processes that compute, each with one thread: as many as the cores that this was written for


def asked():
    """The command line of a starter."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True, help="the model's")
    parser.add_argument("--file", required=True, help="TorchScript")
    parser.add_argument("--row", required=True, help="the shape of a row, such as 3,224,224")
    parser.add_argument("--batch", type=int, required=True, help="the most requests in a batch")
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="a folder of its own")
    parsed = parser.parse_args()
    parsed.shape = [int(length) for length in parsed.row.split(",")]
    return parsed


def environment(**more):
    """One thread for each worker: more of them wait for each other's cores."""
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | more


def program(name):
    """One that pip has put beside Python."""
    return str(pathlib.Path(sys.executable).parent / name)


def keep(command, **how):
    """Runs `command` until it ends or stdin does. Its processes are a group, which is killed as one."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **how)
    try:
        while server.poll() is None:
            readable, _, _ = select.select([sys.stdin], [], [], 0.5)
            if readable and not sys.stdin.buffer.read1():
                break
        server.send_signal(signal.SIGTERM)
        server.wait(10)
    except subprocess.TimeoutExpired:
        pass
    finally:
        try:
            os.killpg(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
