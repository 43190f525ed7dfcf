"""A project on disk: finds ``project.py`` and ``ecluse.toml``, imports the one, resolves the other, digests the sources.

Importing a project runs the user's code: only ``ingest``, ``materialize``, ``train`` and their like do it, never the server or a release.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ecluse.core.codec import from_plain
from ecluse.core.errors import DeclarationError, EcluseError, NotFound, Unavailable
from ecluse.core.project import Project, gather
from ecluse.core.settings import FILE, Settings, resolve

DECLARATION = "project.py"
NOT_SOURCES = frozenset({"tests", "data", "build", "dist", "node_modules", "__pycache__"})


def find_root(start: Path) -> Path:
    """The nearest folder at or above ``start`` that holds ``ecluse.toml`` or ``project.py``. Raises NotFound."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file() or (folder / DECLARATION).is_file():
            return folder
    raise NotFound(f"no {DECLARATION} in {start} or above", cure="go into a project, or make one with `ecluse init`")


def load_settings(
    root: Path, profile: str | None, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of the profile (``--profile``, else ``ECLUSE_PROFILE``, else dev). Raises DeclarationError naming file, key and cure."""
    path = root / FILE
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{FILE} is not TOML: {error}", where=str(path), cure="mend that line") from None
    except OSError as error:
        cure = "make it a file that this user may read"
        raise Unavailable(f"{FILE} cannot be read: {error.strerror}", where=str(path), cure=cure) from None
    settings = resolve(file, profile or environment.get("ECLUSE_PROFILE", "dev"), environment, flags)
    return (
        settings if settings.project else resolve({**file, "project": root.name}, settings.profile, environment, flags)
    )


def load_project(root: Path) -> Project:
    """Import ``project.py`` afresh and gather what it declares. Raises DeclarationError naming the line that failed."""
    path = root / DECLARATION
    if not path.is_file():
        raise NotFound(f"no {DECLARATION} in {root}", cure="make a project with `ecluse init`")
    module = _import(path)
    return gather(vars(module).values(), code=code_digest(root))


def read_declaration(canonical: bytes) -> Project:
    """The declaration as the state remembers it: no user code is run, models have no ``build``."""
    return from_plain(Project, json.loads(canonical), where="stored declaration")


def code_digest(root: Path) -> str:
    """SHA-256 over the project's own Python sources (names and bytes), without tests, data and whatever is hidden."""
    every = hashlib.sha256()
    for path in _sources(root):
        try:
            source = path.read_bytes()
        except FileNotFoundError:
            continue  # an editor replaces files: gone since it was listed
        every.update(f"{path.relative_to(root).as_posix()}\n".encode())
        every.update(hashlib.sha256(source).digest())
    return every.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in NOT_SOURCES)
        names = (name for name in sorted(files) if name.endswith(".py") and not name.startswith("."))
        # an editor's lock is a link to nowhere, and a pipe would be waited on for ever
        yield from (path for name in names if (path := Path(folder) / name).is_file())


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("project", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    sys.modules["project"] = module
    try:
        with contextlib.chdir(Path.cwd()):  # paths given to the command keep their meaning
            spec.loader.exec_module(module)
    except EcluseError as error:
        raise type(error)(
            error.what, where=f"{error.where or 'declaration'}, {_line(error, path)}", cure=error.cure
        ) from None
    except (Exception, SystemExit) as error:  # the user's file may raise anything; an exit would look like success
        raise DeclarationError(
            f"{type(error).__name__}: {error}", where=_line(error, path), cure="mend project.py"
        ) from error
    finally:
        sys.path.remove(folder)
    return module


def _line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename or path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path.name}:{lines[-1]}" if lines else path.name
