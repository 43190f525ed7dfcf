"""The lock file and the metadata: every pin hashed, no address, nothing declared and missing."""

import re
import tomllib
from pathlib import Path

ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host|(^|\s)@\s|(^|\s)[./~]\S*/")
NAME = re.compile(r"^([A-Za-z0-9._-]+)")


def _pins(root: Path) -> dict[str, str]:
    """Name -> its whole entry, one for each pinned distribution."""
    text = (root / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    return {line.partition("==")[0]: line for line in text.splitlines() if line and not line.startswith("#")}


def _normal(requirement: str) -> str:
    match = NAME.match(requirement)
    assert match, requirement
    return match[1].lower().replace("_", "-").replace(".", "-")


def test_the_lock_names_no_address(root: Path) -> None:
    assert not ADDRESS.search((root / "requirements.lock").read_text(encoding="utf-8"))


def test_every_pin_is_hashed(root: Path) -> None:
    assert not [name for name, entry in _pins(root).items() if "==" not in entry or "--hash=sha256:" not in entry]


def test_the_lock_covers_what_is_declared(root: Path) -> None:
    metadata = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = metadata["project"]
    declared = {*project["dependencies"], *metadata["dependency-groups"]["dev"], *metadata["build-system"]["requires"]}
    for extra in project["optional-dependencies"].values():
        declared.update(extra)
    assert {_normal(requirement) for requirement in declared} - {"ecluse"} <= _pins(root).keys()
