"""Entity: what a prediction is about, and the canonical text of its key.

``123`` and ``"123"`` are one entity where the key is an integer; ``0123`` is text. A composite key is a JSON array (DESIGN §3.12).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from ecluse.core.errors import DeclarationError, InvalidInput

MAX_KEY_BYTES = 512


@dataclass(frozen=True)
class Entity:
    """A kind of thing with a key: ``Entity("user_id")``, ``Entity("order", columns=("shop", "order_no"))``.

    ``columns`` are the key columns in every table (the name itself unless given); ``kind`` says how keys are written.
    """

    name: str
    kind: Literal["text", "integer"] = "text"
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns) or (self.name,))
        if not self.name.isidentifier():
            raise DeclarationError(f"entity name {self.name!r}", where="project.py", cure="use a plain identifier")


def canonical_key(entity: Entity, value: object) -> str:
    """The one text form of a key. A composite key takes a sequence or a mapping. Raises InvalidInput.

    >>> user = Entity("user_id", kind="integer")
    >>> canonical_key(user, 123), canonical_key(user, "123")
    ('123', '123')
    >>> canonical_key(Entity("order", columns=("shop", "no")), {"shop": "a", "no": "7"})
    '["a","7"]'
    """
    if len(entity.columns) == 1:
        return _one(entity, value)
    if isinstance(value, dict):
        value = [value.get(column) for column in entity.columns]
    if not isinstance(value, list | tuple) or len(value) != len(entity.columns):
        raise InvalidInput(f"key of {entity.name} needs {', '.join(entity.columns)}", where=entity.name)
    return json.dumps([_one(entity, each) for each in value], separators=(",", ":"), ensure_ascii=False)


def _one(entity: Entity, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput(f"{value!r} is not a key of {entity.name}", where=entity.name, cure=f"send {entity.kind}")
    if entity.kind == "integer":
        try:
            return str(int(value))
        except ValueError:
            raise InvalidInput(
                f"{value!r} is not a whole number", where=entity.name, cure="send an integer key"
            ) from None
    text = str(value)
    if not text or "\x00" in text or len(text.encode(errors="replace")) > MAX_KEY_BYTES:
        raise InvalidInput(f"key of {entity.name} is empty, too long or has a NUL", where=entity.name)
    return text
