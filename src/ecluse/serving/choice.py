"""Which loaded version answers a request."""

from __future__ import annotations

from dataclasses import replace

from ecluse.core.access import KeyGrant
from ecluse.serving.access import demand
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.scorers import ASKED_ARM, Loaded


def choose(plane: Plane, name: str | None) -> Loaded:
    """The version that answers for a model, or for the only one. Take it once for a request: it is replaced by every release.

    Raises Refused: ``unknown_model``, ``model_required``, or why nothing serves.
    """
    fleet, document = plane.fleet, plane.fleet.document
    if document is None or not document.models:
        raise Refused("no_production_version" if plane.started else "starting")
    if name is None:
        if len(document.models) > 1:
            names = ", ".join(sorted(document.models))
            raise Refused("model_required", cure=f"POST /models/{{name}}/predict with one of {names}")
        name = next(iter(document.models))
    if name not in document.models:
        names = ", ".join(sorted(document.models))
        raise Refused("unknown_model", f"no model {excerpt(name)}", cure=f"models: {names}")
    loaded = fleet.champions.get(name)
    if loaded is None:
        raise Refused("version_not_loaded" if document.models[name].champion else "no_production_version")
    return loaded


def choose_version(plane: Plane, name: str | None, number: int | None, grant: KeyGrant) -> Loaded:
    """As :func:`choose`, or the warm version a caller asked for by number; another than the champion wants the scope ``versions``.

    Raises Refused as :func:`choose` does, and ``forbidden``, ``unknown_version``.
    """
    champion = choose(plane, name)
    if number is None or number == champion.number:
        return champion
    demand(grant, "versions")
    loaded = plane.fleet.warm.get((champion.model, number))
    if loaded is None:
        warm = ", ".join(str(each) for model, each in sorted(plane.fleet.warm) if model == champion.model)
        cure = f"ask for one of {warm}, or wish for it: POST /models/{champion.model}/load/{number}"
        raise Refused("unknown_version", f"version {number} of {champion.model} is not warm here", cure=cure)
    return replace(loaded, arm=ASKED_ARM)


def read_number(text: str) -> int:
    """A version's number out of a path. Raises Refused ``unknown_version``.

    >>> read_number("7")
    7
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not text.strip("0"):
        raise Refused("unknown_version", f"{excerpt(text)} is no version")
    return int(text)
