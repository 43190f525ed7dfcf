"""Metrics of all workers from any of them: each hangs its own on the board once a second, who is asked adds the others'.

Every series then carries its ``worker``: sums are the asker's (``sum without (worker)``), so that the counters of a worker started anew
begin at 0 in a series of their own instead of tearing down a sum. What is older than FRESH_SECONDS is of a dead or stuck worker: left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

FILE = "metrics.prom"
FRESH_SECONDS = 5.0


class Board:
    """``root/<worker>/metrics.prom`` of every worker."""

    def __init__(self, root: Path, worker: str) -> None:
        self._root, self.worker = root, worker

    def hang(self, text: bytes) -> None:
        """Replace one's own. A disk that takes nothing is told by the journal; here the others miss a series for a while."""
        path = self._root / self.worker / FILE
        temporary = path.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.touch(mode=0o600)
            temporary.write_bytes(text)
            temporary.replace(path)

    def others(self) -> dict[str, bytes]:
        """What the other workers hung up lately."""
        found = {}
        for path in sorted(self._root.glob(f"*/{FILE}")):
            with contextlib.suppress(OSError):
                if path.parent.name != self.worker and time.time() - path.stat().st_mtime < FRESH_SECONDS:
                    found[path.parent.name] = path.read_bytes()
        return found

    async def with_others(self, text: bytes) -> bytes:
        """One's own and the others' in one exposition."""
        return merge({self.worker: text, **await asyncio.to_thread(self.others)})


def clear(root: Path) -> None:
    """Take down what a fleet before has left."""
    for path in root.glob(f"*/{FILE}"):
        path.unlink(missing_ok=True)


def merge(texts: Mapping[str, bytes]) -> bytes:
    r"""One Prometheus text of several with the same families, each sample with the label ``worker``.

    >>> text = b'# HELP a A.\n# TYPE a gauge\na 1.0\na{b="{"} 2.0\n'
    >>> print(merge({"w1": text, "w2": text}).decode())
    # HELP a A.
    # TYPE a gauge
    a{worker="w1"} 1.0
    a{worker="w1",b="{"} 2.0
    a{worker="w2"} 1.0
    a{worker="w2",b="{"} 2.0
    <BLANKLINE>
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts.items():
        samples: list[str] = []
        for line in text.decode().splitlines():
            if not line.startswith("#"):
                samples.append(_labelled(line, worker))
                continue
            heads, samples = families.setdefault(line.split(" ", 3)[2], ([], []))
            if line not in heads:
                heads.append(line)
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    return "".join(f"{line}\n" for line in lines).encode()


def _labelled(sample: str, worker: str) -> str:
    name, value = sample.split(" ", 1)
    if "{" in name:  # a label's value may hold blanks and braces, a metric's name neither
        name, rest = sample.split("{", 1)
        return f'{name}{{worker="{worker}",{rest}'
    return f'{name}{{worker="{worker}"}} {value}'
