"""Starts litserve_app.py."""

import pathlib
import sys

from asked import environment, keep

server = pathlib.Path(__file__).with_name("litserve_app.py")
keep([sys.executable, str(server), *sys.argv[1:]], env=environment())
