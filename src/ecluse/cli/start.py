"""Commands to begin with: init, doctor, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table


def init(
    shell: Shell,
    *,
    folder: Annotated[Path, Argument(help="an empty or new folder")],
    template: Annotated[str, Option("--template", help="which kind of project")] = "churn",
) -> Reply:
    """Write a complete small project: declaration, settings, data generator, tests, lock, Git repository."""
    from ecluse.app import init_project

    written, notes = init_project(folder, template)
    text = "\n".join(f"  {path.relative_to(folder.resolve())}" for path in written)
    text += "\n\n" + "\n".join([*notes, f"next: cd {folder} && cat README.md"])
    return Reply({"folder": str(folder), "files": [str(p) for p in written], "notes": notes}, text)


def doctor(shell: Shell) -> Reply:
    """Check this machine and project: what works, what does not, what to do."""
    from ecluse.app import diagnose

    findings = diagnose(shell.path, shell.profile)
    rows = [("ok" if f.passed else "NO", f.check, f.why) for f in findings]
    return Reply(findings, table(["", "check", ""], rows), refused=any(not f.passed for f in findings))


def demo(
    shell: Shell,
    *,
    folder: Annotated[Path, Option("--folder", help="where the demo's project is made")] = Path("ecluse-demo"),
    port: Annotated[int, Option("--port", help="the server's port (0: a free one)")] = 0,
    subscribers: Annotated[int, Option("--subscribers", help="how many there are")] = 4_000,
    summary: Annotated[Path, Option("--summary", help="where the summary is written")] = Path("demo-summary.json"),
) -> Reply:
    """The whole story, once: data, v1, traffic, drift, retraining, release, refusal, rollback; explained as it goes."""
    from ecluse.demo.story import tell

    told = tell(folder, port=port, subscribers=subscribers, say=shell.say if shell.machine else _tell)
    summary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    ok = all(step["ok"] for step in told["steps"])
    return Reply(told, f"\nsummary: {summary}", refused=not ok)


def _tell(sentence: str) -> None:
    print(sentence, flush=True)


def register(app: Group) -> None:
    """Add these commands."""
    for command in (init, doctor, demo):
        app.add(command)
