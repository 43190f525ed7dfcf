"""Which loaded version answers a request."""

from __future__ import annotations

from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.scorers import Loaded


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
