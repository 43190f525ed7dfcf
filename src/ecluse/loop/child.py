"""A training in a fresh child process: user code never runs inside the control plane, and nothing of an earlier training is left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ecluse.core.errors import Unavailable
from ecluse.core.instants import format_instant

UNAVAILABLE = 6  # the exit code of the command line for it


@dataclass(frozen=True)
class ChildTraining:
    """What to train: the model of the project in ``root`` under ``profile``, on what was known at ``moment``, in the name of ``actor``."""

    root: Path
    profile: str
    model: str
    moment: datetime
    actor: str

    def start(self, *, dry_run: bool = False) -> subprocess.Popen[str]:
        """The running child; ``dry_run`` computes the bundle and records nothing."""
        command = [sys.executable, "-m", "ecluse", "train", "--json", "--no-register", "--no-plots"]
        command += ["--project", str(self.root), "--profile", self.profile, "--model", self.model]
        command += ["--as-of", format_instant(self.moment), *(["--dry-run"] if dry_run else [])]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env=os.environ | {"ECLUSE_LAUNCHED_BY": self.actor},
        )


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code and the JSON it printed (``{}`` when it printed none); ``last`` is the end of its stderr."""

    code: int
    answer: dict[str, Any]
    last: str

    @property
    def why(self) -> str:
        """What a failed child says about it."""
        error = self.answer.get("error")
        if isinstance(error, dict):
            return "; ".join(str(error[key]) for key in ("what", "where", "cure") if error.get(key))
        return f"the training process ended with code {self.code}" + (f": {self.last}" if self.last else "")


def wait_for(child: subprocess.Popen[str]) -> Ended:
    """The end of a child. Raises Unavailable when it could not reach what it needs, so that it is tried again."""
    try:
        out, err = child.communicate()
    except BaseException:
        dismiss(child)  # whoever interrupts the loop interrupts the training
        raise
    try:
        answer = json.loads(out)
    except ValueError:
        answer = {}
    lines = err.strip().splitlines()
    ended = Ended(child.returncode, answer if isinstance(answer, dict) else {}, lines[-1] if lines else "")
    if ended.code == UNAVAILABLE:
        raise Unavailable(ended.why, where="training process")
    return ended


def dismiss(child: subprocess.Popen[str]) -> None:
    """End a child, if it has not ended, and let go of it."""
    child.kill()
    child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
