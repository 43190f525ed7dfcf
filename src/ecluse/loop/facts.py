"""Facts of a run: commit, whether the tree was dirty, who launched it, Python, platform, host. Recorded, never part of a digest."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def run_facts(root: Path, actor: str) -> dict[str, str]:
    """What is worth knowing about where and by whom a training ran; Git's part is absent outside a repository."""
    facts = {
        "launched_by": actor,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
    }
    commit = _git(root, "rev-parse", "HEAD")
    if commit is not None:
        facts["git_commit"] = commit
        facts["git_dirty"] = "true" if _git(root, "status", "--porcelain", "--", ".") else "false"
    return facts


def _git(root: Path, *arguments: str) -> str | None:
    """Git's answer, None without Git, repository or commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
