"""The process of one training: ``python -m ecluse.loop.training_process``, started by the loop, ended with it.

It imports what a training needs, waits for its order on stdin (a line of JSON: ``arguments`` of the command line, ``actor``), and runs it.
Started early, it is ready when the decision falls. When stdin closes the loop is gone: then the training ends too, so that a loop that goes
on after a kill never meets the training of its former life.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
import threading


def main() -> None:
    """Prepare, wait, run; exits like the command line."""
    _prepare()
    order = _read_line()
    if not order:
        sys.exit(0)
    asked = json.loads(order)
    threading.Thread(target=_end_with_the_loop, daemon=True).start()
    os.environ["ECLUSE_LAUNCHED_BY"] = asked["actor"]
    sys.argv = ["ecluse", *asked["arguments"]]
    runpy.run_module("ecluse", run_name="__main__")


def _prepare() -> None:
    """The slow imports: scikit-learn, polars, onnx, and by name what the command line will ask for, which stands above this room."""
    import ecluse.loop.retrain
    import ecluse.training.compile.pipeline
    import ecluse.training.encoders  # noqa: F401

    for name in ("ecluse.cli.main", "pydantic", "onnxruntime", "sklearn.ensemble", "sklearn.pipeline"):
        with contextlib.suppress(ImportError):  # then it is slow, not wrong
            importlib.import_module(name)


def _read_line() -> bytes:
    """A line of stdin, unbuffered: a thread that waits on a buffered stdin would keep the process from ending."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return b""
        line += piece
    return line


def _end_with_the_loop() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
