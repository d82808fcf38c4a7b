"""Starts flask_app.py under gunicorn: threads that keep connections open, and 2 × cores + 1 workers, as its manual says."""

import os
import pathlib

from asked import asked, environment, keep, program

wanted = asked()
keep(
    [
        program("gunicorn"),
        "--worker-class=gthread",
        f"--workers={2 * len(os.sched_getaffinity(0)) + 1}",
        "--threads=2",
        "--keep-alive=75",
        "--timeout=120",
        "--log-level=warning",
        f"--bind=127.0.0.1:{wanted.port}",
        f"--chdir={pathlib.Path(__file__).parent}",
        "flask_app:app",
    ],
    env=environment(FILE=wanted.file, ROW=wanted.row),
)
