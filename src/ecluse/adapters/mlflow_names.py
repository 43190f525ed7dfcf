"""Which version the mirror's database calls production, read in a fraction of a millisecond: MLflow itself takes seconds to import.

Only of a SQLite database: the one beside the state, or one named by ``mlflow.tracking_uri``. A server of MLflow's is asked by the mirror.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ecluse.core.errors import NotFound, Unavailable
from ecluse.core.settings import MlflowSettings

_SQLITE = "sqlite:///"
_WAIT_SECONDS = 0.5
_THERE = "SELECT count(*) FROM model_version_tags WHERE name = ? AND key = 'ecluse.version'"
_NAMED = (
    "SELECT tag.value FROM registered_model_aliases AS alias LEFT JOIN model_version_tags AS tag"
    " ON tag.name = alias.name AND tag.version = alias.version AND tag.key = 'ecluse.version'"
    " WHERE alias.name = ? AND alias.alias = 'production'"
)


def names_of(home: Path, settings: MlflowSettings) -> Callable[[str], int | None] | None:
    """A function model -> the version of ours called production (None: none is, 0: a stranger); None where there is no such database to read.

    It raises NotFound while nothing of the model was mirrored, Unavailable when the database cannot be read at this moment.
    """
    uri = settings.tracking_uri or f"{_SQLITE}{home.resolve() / 'mlflow.db'}"
    if not settings.enabled or not uri.startswith(_SQLITE):
        return None
    path = Path(uri.removeprefix(_SQLITE))

    def named(model: str) -> int | None:
        if not path.exists():
            raise NotFound("nothing was mirrored yet", where=str(path))
        try:
            # Never made, never written: MLflow is its only writer.
            opened = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
            with contextlib.closing(opened) as connection:
                (there,) = connection.execute(_THERE, (model,)).fetchone()
                found = connection.execute(_NAMED, (model,)).fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"the mirror's database: {error}", where=str(path), cure="it is tried again") from None
        if not there:
            raise NotFound(f"no version of {model} is mirrored", where=str(path))
        return None if found is None else int(found[0] or 0)

    return named
