"""Reads a dashboard by the library that Grafana publishes for those who write dashboards by program, and lists what that
does not know: fields that are misspelt, or that belong elsewhere, are lost on the way.

dashboard.py FILE    prints one line for each of them
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(written, read, place="dashboard"):
    """What of `written` is not in `read`; defaults that the library adds are nobody's business."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key in read:
                yield from lost(value, read[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, (one, other) in enumerate(zip(written, read)):
            yield from lost(one, other, f"{place}[{index}]")
    elif written != read:
        yield f"{place}: {written!r} became {read!r}"


def main():
    register_default_plugins()  # Without it, options and queries pass as they are.
    written = json.loads(pathlib.Path(sys.argv[1]).read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    found = list(lost(written, read))
    for line in found:
        print(line)
    sys.exit(bool(found))


main()
