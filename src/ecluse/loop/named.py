"""Named: whether the models and metrics that ecluse.toml names are those the project declares.

A name that is nobody's is refused as soon as both are known: a limit on it would say nothing, or fail the monitor once truths have come.
"""

from __future__ import annotations

from ecluse.core.errors import DeclarationError
from ecluse.core.project import Project
from ecluse.core.settings import FILE, Settings
from ecluse.stats.catalog import BY_TASK


def check_named(project: Project, settings: Settings) -> None:
    """Every ``[models.<name>]`` is a declared model, every limit of ``monitoring.performance`` a metric of its task that is measured.

    Raises DeclarationError with the names there are.
    """
    names = {model.name for model in project.models}
    for name in settings.models:
        if name not in names:
            cure = "models: " + ", ".join(sorted(names))
            raise DeclarationError(f"`models.{name}` is no model of the project", where=FILE, cure=cure)
    for model in project.models:
        own, key = settings.for_model(model.name), f"{FILE}: monitoring.performance of model {model.name}"
        for metric in own.monitoring.performance:
            if metric not in BY_TASK[model.task]:
                cure = f"for {model.task} use one of " + ", ".join(BY_TASK[model.task])
                raise DeclarationError(f"no metric is called `{metric}`", where=key, cure=cure)
            if metric == "expected_value" and not own.costs.declared:
                raise DeclarationError(f"`{metric}` without costs", where=key, cure="declare [costs]")
