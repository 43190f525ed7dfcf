"""The trial of compiled bundles: ``python -m ecluse.trial MEGABYTES SECONDS`` does with each what a worker would, so that it may die instead.

Asked by ``adapters/trials.py`` in framed bytes: manifest, then model, schema and smoke rows, which were verified before; it answers why the
bundle is refused, or nothing. Memory and CPU are limited, no file is written, no connection made. It ends when its input does.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import threading
from typing import IO

from ecluse.adapters.child_process import answer, answers_only, limit_memory, read_framed
from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.bundle import Bundle, Manifest
from ecluse.core.codec import from_plain
from ecluse.core.errors import EcluseError
from ecluse.serving.scorers import check_smoke, read_schema

STACK_BYTES = 4 << 20
"""Half of what threads usually have: what does not overflow here does not overflow in a worker."""
WRITTEN_BYTES = 1 << 20


def main() -> int:
    """Answer until the input ends."""
    megabytes, seconds = int(sys.argv[1]), int(sys.argv[2])
    source, answers = sys.stdin.buffer, answers_only()
    limit_memory(megabytes)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN_BYTES, WRITTEN_BYTES))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    threading.stack_size(STACK_BYTES)
    while True:
        try:
            bundle = _read(source)
        except EOFError:
            return 0
        _limit_time(seconds)
        answer(answers, _in_a_thread(bundle, megabytes))


def examine(bundle: Bundle, megabytes: int) -> str:
    """Why a compiled bundle cannot be served; "" when it can: parsed, warmed on its smoke rows, answers as stored."""
    try:
        schema, scorer = read_schema(bundle), OnnxScorer(bundle.model_bytes)
        check_smoke(bundle, schema, scorer)
    except EcluseError as error:
        return _too_large(bundle, megabytes) if _wants_memory(error) else error.what
    except Exception as error:  # noqa: BLE001 - whatever a bad model makes a library raise is a refusal
        if _wants_memory(error):
            return _too_large(bundle, megabytes)
        return f"bundle {bundle.digest[:12]} cannot be run: {type(error).__name__}: {str(error)[:200]}"
    return ""


def _wants_memory(error: Exception) -> bool:
    """The allocators of onnxruntime have no class of error for it, and say so in words of theirs."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in ("bad_alloc", "bfc_arena"))


def _too_large(bundle: Bundle, megabytes: int) -> str:
    return f"bundle {bundle.digest[:12]} takes more memory than the {megabytes} MB that [serving] model_mb allows"


def _in_a_thread(bundle: Bundle, megabytes: int) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(examine(bundle, megabytes)))
    thread.start()
    thread.join()
    return found[0]


def _read(source: IO[bytes]) -> Bundle:
    manifest = from_plain(Manifest, json.loads(read_framed(source)), where="manifest.json")
    names = f"model.{manifest.scorer}", "schema.json", "smoke.json"
    return Bundle(manifest, {name: read_framed(source) for name in names})


def _limit_time(seconds: int) -> None:
    """So many seconds of CPU more, should nobody be left to end it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, hard))


if __name__ == "__main__":
    sys.exit(main())
