"""Health and readiness: what is loaded, what follows, what does not answer. Health is always 200 while the process lives."""

from __future__ import annotations

import os
from typing import Any

from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused


def health(plane: Plane) -> dict[str, Any]:
    """The facts. ``status`` is "ok" when the worker is ready, "degraded" when it serves with something amiss, else why it does not."""
    refusal = unready(plane)
    fleet, follower = plane.fleet, plane.parts.follower
    amiss = bool(fleet.failures or follower.refusal or plane.online_problem)
    return {
        "status": refusal.code if refusal else "degraded" if amiss else "ok",
        "worker": plane.worker,
        "generation": fleet.generation,
        "models": models(plane),
        "document": {"following": not follower.refusal, "refused": follower.refusal or None},
        "journal": {"writable": plane.journal_problem is None, "problem": plane.journal_problem},
        "online": {"answers": plane.online_problem is None, "problem": plane.online_problem},
        "in_flight": plane.in_flight,
        "waiting": plane.admission.waiting,
        "last_load_failure": _last_failure(plane),
    }


def info(plane: Plane) -> dict[str, Any]:
    """Which worker this is, and what it holds."""
    return {
        "worker": plane.worker,
        "pid": os.getpid(),
        "profile": plane.profile,
        "ecluse": own_version(),
        "generation": plane.fleet.generation,
        "in_flight": plane.in_flight,
        "waiting": plane.admission.waiting,
        "draining": plane.draining,
        "models": models(plane),
    }


def models(plane: Plane) -> dict[str, Any]:
    """Every model of the document: the champion wanted, the version that answers, the versions kept warm, those that failed."""
    fleet = plane.fleet
    if fleet.document is None:
        return {}
    found: dict[str, Any] = {}
    for name, served in fleet.document.models.items():
        loaded = fleet.champions.get(name)
        found[name] = {
            "champion": served.champion,
            "serving": loaded.number if loaded else None,
            "bundle": loaded.digest if loaded else None,
            "task": loaded.schema.task if loaded else None,
            "accepts": loaded.schema.accepts if loaded else None,
            "warm": sorted(number for model, number in fleet.warm if model == name),
            "not_loaded": {str(f.number): f.reason for f in fleet.failures if f.model == name},
        }
    return found


def unready(plane: Plane) -> Refused | None:
    """Why the worker should get no traffic; None when it should."""
    document, fleet = plane.fleet.document, plane.fleet
    if plane.draining:
        return Refused("draining")
    if not plane.started:
        return Refused("starting")
    if document is None or not any(served.champion for served in document.models.values()):
        return Refused("no_production_version")
    lost = [name for name, served in document.models.items() if served.champion and name not in fleet.champions]
    if lost:
        return Refused("version_not_loaded", f"no version of {lost[0]} could be loaded", field=lost[0])
    if plane.journal_problem is not None:
        return Refused("log_unavailable", f"the journal cannot be written: {plane.journal_problem}")
    if plane.online_problem is not None and not plane.online_answered:
        return Refused("feature_store_unavailable", plane.online_problem)
    return None


def own_version() -> str:
    """The version of the installed package."""
    # it loads an archive reader and a mail parser, which a start need not wait for
    from importlib.metadata import version

    return version("ecluse")


def _last_failure(plane: Plane) -> dict[str, Any] | None:
    if plane.last_failure is None:
        return None
    failure, at = plane.last_failure
    return {"model": failure.model, "version": failure.number, "reason": failure.reason, "at": at}
