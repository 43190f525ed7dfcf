"""Wish: a version somebody asked a worker to keep warm. Only the control plane can grant it: what may serve is signed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """Keep ``number`` of ``model`` warm; ``by`` names the API key that asked ("" where none is asked for)."""

    model: str
    number: int
    by: str = ""
