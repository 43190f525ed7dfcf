"""A new project on disk: a template's files under their own names, in a Git repository with ``main`` and ``dev``.

Templates are data (``ecluse/templates/<name>/``). Files whose names begin with a dot are kept without it there, so that no tool takes a
template's for our own; ``{{name}}`` stands for the project's name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from ecluse.core.errors import Conflict, EcluseError, InvalidInput, NotFound, Unavailable

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
DOTTED = {"gitignore": ".gitignore", "env.example": ".env.example"}
PLACE = b"{{name}}"
LEFT_OUT = ("__pycache__", ".pyc", ".pyo")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Nobody's name is known to a fresh Git: then, and only then, the first commit is Écluse's.
AUTHOR = {"user.name": "ecluse", "user.email": "ecluse@localhost"}

# Within a hook or an alias these name another repository than the one meant here.
ELSEWHERE = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_PREFIX",
        "GIT_NAMESPACE",
    }
)


def templates() -> list[str]:
    """The names ``write_project`` knows."""
    return sorted(path.name for path in TEMPLATES.iterdir() if (path / "project.py").is_file())


def write_project(folder: Path, template: str = "churn", name: str | None = None) -> tuple[list[Path], list[str]]:
    """Write a template into a new or empty folder and commit it; the files written (absolute) and what there is to know.

    ``name`` is the folder's unless given. All files or none: what was written is taken away again when the disk refuses. Without a
    working Git the files stand alone and a note says so. Raises NotFound for an unknown template, Conflict when the folder is not
    empty, InvalidInput for a name that is no name, Unavailable when the disk refuses.
    """
    source = TEMPLATES / template
    if template not in templates():
        raise NotFound(f"template {template!r}", where=str(TEMPLATES), cure="templates: " + ", ".join(templates()))
    folder = folder.resolve()
    name = folder.name if name is None else name
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name for a project", cure="use letters, digits, dots, dashes, underscores")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not an empty folder", cure="choose a new or empty one")
    written = _copy(source, folder, name.encode())
    note = start_repository(folder)
    return written, [note] if note else []


def start_repository(folder: Path) -> str:
    """Git in ``folder`` with all its files in a first commit on ``main``, and ``dev`` checked out beside it; why not, or nothing."""
    git = shutil.which("git")
    if git is None:
        return "no Git here, so no repository: install it, then `git init -b main && git add . && git commit`"
    steps = (
        ("init", "--quiet"),
        ("symbolic-ref", "HEAD", "refs/heads/main"),
        ("add", "--all"),
        (
            "-c",
            "commit.gpgSign=false",
            *_author(git, folder),
            "commit",
            "--quiet",
            "--no-verify",
            "-m",
            "A new project",
        ),
        ("checkout", "--quiet", "-b", "dev"),
    )
    for step in steps:
        done = _run(git, folder, *step)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return f"Git stopped at `git {' '.join(step)}`: {said[0] if said else 'no reason given'}; the files are all there"
    return ""


def _copy(source: Path, folder: Path, name: bytes) -> list[Path]:
    written: list[Path] = []
    made: list[Path] = []
    try:
        for path in _files(source):
            target = folder / path.relative_to(source).with_name(DOTTED.get(path.name, path.name))
            made += _make(target.parent)
            written.append(target)
            target.write_bytes(path.read_bytes().replace(PLACE, name))
    except OSError as error:
        _take_away(written, made)
        raise _unwritable(folder, error) from error
    return written


def _files(source: Path) -> list[Path]:
    return sorted(p for p in source.rglob("*") if p.is_file() and not any(part.endswith(LEFT_OUT) for part in p.parts))


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; the ones that were not there, outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _take_away(files: list[Path], folders: list[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _unwritable(folder: Path, error: OSError) -> EcluseError:
    cure = "choose a folder you may write, on a disk with room"
    return Unavailable(f"the project cannot be written: {error.strerror or error}", where=str(folder), cure=cure)


def _author(git: str, folder: Path) -> list[str]:
    unknown = [key for key in AUTHOR if not _run(git, folder, "config", key).stdout.strip()]
    return [word for key in unknown for word in ("-c", f"{key}={AUTHOR[key]}")]


def _run(git: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return subprocess.run(
        [git, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
