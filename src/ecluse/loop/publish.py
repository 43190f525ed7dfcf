"""State -> the signed document workers follow. Always derived from the state, so doing it again is harmless and heals what was interrupted."""

from __future__ import annotations

import json
from datetime import datetime

from ecluse.core.access import KeyGrant
from ecluse.core.codec import canonical, from_plain
from ecluse.core.document import FORMAT, Document, ServedModel, ServedVersion, Signed, read_document
from ecluse.core.errors import Conflict, Corrupt, DeclarationError, NotFound, Unavailable
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion, Stage
from ecluse.loop.attest import check_champions
from ecluse.loop.wishes import decide_wishes, may_be_kept, wished

ATTEMPTS = 20
KEYS = "keys"
"""Where the state remembers the API keys."""


def publish(world: World, settings: Settings) -> Document:
    """Publish what the state says now and return it; nothing is written when that is published already.

    Raises Unavailable when the state or the place of publication cannot be reached, Conflict when a document newer than the state is
    published (the state was replaced by an older copy), Corrupt when a new champion was released by no recorded decision.
    """
    failpoint("publish.start")
    for _ in range(ATTEMPTS):
        there, published = _published(world)  # before the state: what is published is then never newer than it
        document = build_document(world, settings)
        check_champions(world, published, document)
        signed = world.sealer.sign(canonical(document).decode())
        if there == signed:
            return document
        if published is not None and published.generation > document.generation:
            raise Conflict(
                f"generation {published.generation} is published, the state is of {document.generation}",
                where="published document",
                cure="restore the newest copy of the state; to start over from this one, remove the published document",
            )
        failpoint("publish.built")
        if published is not None and published.generation == document.generation:
            # Settings, keys or the signature differ, not the state: workers still need a new generation.
            world.state.bump()
            continue
        try:
            world.publisher.publish(document, signed)
        except Conflict:  # somebody published at this very moment: look again
            if published is None:
                world.state.bump()  # or what is there has our generation and cannot be read: of an older format
        return document
    raise Unavailable("the state changes faster than it can be published", cure="try again")


def converge(world: World, settings: Settings) -> Document:
    """Bring what an interrupted command left behind in line with the state. At the start of a server, and before any release command."""
    decide_wishes(world)
    return publish(world, settings)


def build_document(world: World, settings: Settings) -> Document:
    """The document of the state as of one generation. Raises Unavailable."""
    for _ in range(ATTEMPTS):
        generation = world.state.generation()
        models = {name: served_model(world, settings, name) for name in known_models(world)}
        document = Document(
            format=FORMAT,
            project=settings.project or world.root.name,
            generation=generation,
            data_now=_data_now(world, settings),
            models=models,
            trusted=trusted_keys(world),
            keys=grants(world),
        )
        if world.state.generation() == generation:
            return document
    raise Unavailable("the state changes faster than it can be read", cure="try again")


def grants(world: World) -> tuple[KeyGrant, ...]:
    """Every API key ever granted, by name. Raises Corrupt."""
    return read_grants(world.state.meta(KEYS))


def read_grants(text: str | None) -> tuple[KeyGrant, ...]:
    """The API keys as the state remembers them. Raises Corrupt."""
    try:
        return from_plain(tuple[KeyGrant, ...], json.loads(text or "[]"), where="state: keys")
    except (ValueError, DeclarationError) as error:
        raise Corrupt(f"the API keys cannot be read: {error}", where="state", cure="restore a backup of it") from None


def trusted_keys(world: World) -> tuple[str, ...]:
    """The public keys whose seals may serve."""
    return (world.sealer.public_key,)


def served_model(world: World, settings: Settings, model: str) -> ServedModel:
    """The champion and the versions to keep warm: those the next rollbacks would choose, newest first, and one that was wished for."""
    rollout = world.state.rollout(model)
    if rollout.champion is None:
        return ServedModel(None)
    versions = {each.number: each for each in world.state.versions(model)}
    warm = [rollout.champion, *rollback_targets(rollout, versions)[: settings.retention.rollback]]
    asked = wished(world, rollout)
    if asked is not None and asked not in warm and may_be_kept(versions[asked]):
        warm.append(asked)
    return ServedModel(
        rollout.champion,
        {str(number): ServedVersion(versions[number].bundle, versions[number].threshold) for number in warm},
    )


def rollback_targets(rollout: Rollout, versions: dict[int, ModelVersion]) -> list[int]:
    """The versions a rollback without ``--to`` may choose, the next one first: neither pruned nor rejected since.

    >>> rollback_targets(Rollout("churn", 3), {})
    []
    """
    return [number for number in reversed(rollout.previous) if can_serve(versions[number])]


def can_serve(version: ModelVersion) -> bool:
    """Whether a version that has served may serve again."""
    return not version.pruned and version.stage is not Stage.REJECTED


def known_models(world: World) -> list[str]:
    """Every model that was declared or has versions: one without a champion is known, and not ready."""
    declaration = world.state.declaration()
    declared = {} if declaration is None else json.loads(declaration)
    names = {str(each["name"]) for each in declared.get("models", ())}
    return sorted(names | {version.model for version in world.state.versions()})


def _data_now(world: World, settings: Settings) -> datetime | None:
    if settings.time.now != "data":
        return None
    try:
        return world.clock.now()
    except NotFound:
        return None  # no data yet, so nothing serves yet


def _published(world: World) -> tuple[Signed | None, Document | None]:
    """What is published; without a document when it is not one of ours (then a new one replaces it)."""
    try:
        signed = world.publisher.current()
        return signed, None if signed is None else read_document(signed.payload)
    except Corrupt:
        return None, None
