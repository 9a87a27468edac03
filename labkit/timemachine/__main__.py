"""The traveller: plays a handler of a file and keeps the run, in the interpreter that ``time_machine`` has started."""

from __future__ import annotations

import importlib.util
import json
import sys


def main() -> None:
    """Play what the arguments say: the handler's file, the file for the run, and the rest as JSON."""
    import labkit

    module, recording, trip = sys.argv[1:]
    name, on, fault, messages, patience, options = json.loads(trip)
    spec = importlib.util.spec_from_file_location("handler", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    handler = getattr(loaded, name)
    labkit.run(labkit.play(handler, on, fault, messages=messages, patience=patience, **options)).save(recording)


if __name__ == "__main__":
    main()
