"""Backfilled features as Parquet: ``<root>/<view>/<moment>.<digest>.parquet`` (port Backfills), to be read with a pattern.

pl.read_parquet(".ecluse/dev/features/engagement/*.parquet")
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from ecluse.adapters.files import disk, make_directory, write_atomic


@dataclass(frozen=True)
class BackfillFiles:
    """Port Backfills on a local disk: files 0600."""

    root: Path

    def holds(self, view: str, moment: datetime, digest: str) -> bool:
        """See the port."""
        with disk(self.root):
            return self._path(view, moment, digest).is_file()

    def write(self, view: str, moment: datetime, digest: str, frame: pl.DataFrame) -> None:
        """See the port: the new file is there before the old one goes."""
        path, data = self._path(view, moment, digest), io.BytesIO()
        frame.write_parquet(data)
        make_directory(path.parent)
        write_atomic(path, data.getvalue())
        with disk(path):
            for other in path.parent.glob(f"{_stamp(moment)}.*.parquet"):
                if other != path:
                    other.unlink(missing_ok=True)

    def _path(self, view: str, moment: datetime, digest: str) -> Path:
        return self.root / view / f"{_stamp(moment)}.{digest[:16]}.parquet"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
