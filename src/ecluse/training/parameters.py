"""Hyperparameters: the model's own defaults, what ecluse.toml sets over them, and what a command sets over both."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from ecluse.core.errors import DeclarationError
from ecluse.core.model import Choice, Model, Parameter, Range, Scalar
from ecluse.core.settings import FILE


def choose_parameters(
    model: Model,
    settings: Mapping[str, Scalar],
    overrides: Mapping[str, Scalar | None] | None = None,
    *,
    others: Collection[str] = (),
) -> dict[str, Scalar | None]:
    """Value of every parameter of the model, sorted by name. Raises DeclarationError for an unknown name, or a value out of range.

    ``others`` are parameters of the project's other models: in ecluse.toml those are not mistakes.
    """
    chosen = {name: each.default for name, each in model.parameters.items()}
    for given, where, known in ((settings, FILE, others), (overrides or {}, "given for this run", ())):
        for name, value in given.items():
            if name in model.parameters:
                chosen[name] = _checked(name, model.parameters[name], value, where)
            elif name not in known:
                near = difflib.get_close_matches(name, list(model.parameters), 1)
                cure = f"did you mean `{near[0]}`?" if near else f"{model.name} has: " + (", ".join(chosen) or "none")
                raise DeclarationError(f"unknown parameter `{name}`", where=f"{where}: parameters", cure=cure)
    return dict(sorted(chosen.items()))


def _checked(name: str, parameter: Parameter, value: Scalar | None, where: str) -> Scalar | None:
    if isinstance(parameter, Choice) and not any(value == v and type(value) is type(v) for v in parameter.values):
        raise _wrong(name, value, where, "one of " + ", ".join(map(repr, parameter.values)))
    if isinstance(parameter, Range):
        whole = all(isinstance(v, int) for v in (parameter.low, parameter.high, parameter.default))
        if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
            raise _wrong(name, value, where, "a whole number" if whole else "a number")
        if not parameter.low <= value <= parameter.high:
            raise _wrong(name, value, where, f"from {parameter.low} to {parameter.high}")
        return value if whole else float(value)
    return value


def _wrong(name: str, value: object, where: str, wanted: str) -> DeclarationError:
    return DeclarationError(
        f"parameter `{name}` is {value!r}", where=f"{where}: parameters", cure=f"it must be {wanted}"
    )
