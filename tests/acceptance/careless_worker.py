"""A real worker, and with a defect one that is not what its document or its keys say. ``careless_worker.py DEFECT <arguments of ecluse.worker>``."""

from __future__ import annotations

import sys
from typing import Any

import ecluse.serving.answers
import ecluse.serving.outcomes
import ecluse.worker
from ecluse.core.access import KeyGrant
from ecluse.serving.plane import Plane

_encode = ecluse.serving.answers._encode


def _raises(value: Any, loaded: Any, field: str) -> Any:
    return {"true": True, "false": False}[str(value).lower()]


def _takes_all(value: Any, loaded: Any, field: str) -> Any:
    return bool(value)


def _says_more(facts: Any) -> bytes:
    return _encode({**facts, "debug": "said to nobody"})


_first: list[tuple[KeyGrant, ...]] = []


def _first_keys(plane: Plane) -> tuple[KeyGrant, ...]:
    if (document := plane.fleet.document) is not None and not _first:
        _first.append(document.keys)
    return _first[0] if _first else ()


if __name__ == "__main__":
    match sys.argv[1]:
        case "raises":
            vars(ecluse.serving.outcomes)["_truth"] = _raises
        case "takes all":
            vars(ecluse.serving.outcomes)["_truth"] = _takes_all
        case "says more":
            vars(ecluse.serving.answers)["_encode"] = _says_more
        case "asks for no key":
            type.__setattr__(Plane, "needs_key", False)
        case "keeps its keys":
            type.__setattr__(Plane, "keys", property(_first_keys))
        case "forgets an end":
            type.__setattr__(KeyGrant, "lives", lambda grant, now: True)
    sys.exit(ecluse.worker.main(sys.argv[2:]))
