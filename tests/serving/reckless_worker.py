"""A worker with a defect planted: it parses what it is given without a trial. Arguments as of ``ecluse.worker``."""

from __future__ import annotations

import sys
from pathlib import Path

import ecluse.worker
from ecluse.core.bundle import Bundle


class _Reckless:
    def __init__(self, folder: Path, megabytes: int) -> None:
        """As Trials."""

    def __call__(self, bundle: Bundle) -> None:
        """Anything goes."""


if __name__ == "__main__":
    setattr(ecluse.worker, "Trials", _Reckless)  # noqa: B010 - a class is not assigned to
    sys.exit(ecluse.worker.main())
