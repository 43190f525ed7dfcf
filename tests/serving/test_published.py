"""Which document a worker believes: signature, project, generation, and the copy it keeps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.house import House, make_house, other_sealer

from ecluse.adapters.publisher_files import PublisherFiles
from ecluse.adapters.sealing import verify
from ecluse.core.access import KeyGrant
from ecluse.core.codec import canonical
from ecluse.core.document import Document, Signed
from ecluse.core.errors import Conflict, Corrupt, EcluseError, Unavailable, Unsupported
from ecluse.serving.published import Follower, check_succession, open_document


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def follower(house: House, trusted: Sequence[str] | None = None) -> Follower:
    published, kept = PublisherFiles(house.home), PublisherFiles(house.home / "cache" / "w1")
    return Follower(
        stamp=lambda: (
            (house.home / "published.json").read_bytes() if (house.home / "published.json").exists() else None
        ),
        fetch=published.current,
        recall=kept.current,
        remember=kept.publish,
        verify=verify,
        trusted=[house.sealer.public_key] if trusted is None else trusted,
    )


def test_news_is_read_once(house: House) -> None:
    follows = follower(house)
    assert follows.read() is None
    document = house.publish(None)
    assert follows.changed()
    assert follows.read() == document
    assert not follows.changed()
    assert follows.read() is None


def test_a_lower_generation_is_refused_also_after_a_restart(house: House) -> None:
    follows = follower(house)
    old, new = house.publish(None), house.publish(None)
    assert follows.read() == new
    house.put(old)
    assert follows.read() is None
    assert "older document" in follows.refusal
    again = follower(house)
    assert again.document == new, "the copy kept on this host knows better"
    assert again.read() is None
    assert "older document" in again.refusal


def test_the_copy_serves_when_the_original_is_gone(house: House) -> None:
    document = house.publish(None)
    follower(house).read()
    (house.home / "published.json").unlink()
    later = follower(house)
    assert (later.document, later.read()) == (document, None)
    assert "none any more" in later.refusal, "and it is said"


def test_another_signature_is_refused(house: House) -> None:
    first = house.publish(None)
    follows = follower(house)
    follows.read()
    house.put(replace(first, generation=9), other_sealer())
    assert follows.read() is None
    assert "not trusted" in follows.refusal
    forged = Signed(
        house.sealer.public_key, other_sealer().sign("x").signature, canonical(replace(first, generation=9)).decode()
    )
    (house.home / "published.json").write_bytes(canonical(forged))
    assert follows.read() is None
    assert "signature" in follows.refusal
    assert follows.document == first


def test_garbage_is_refused_and_healed(house: House) -> None:
    follows = follower(house)
    (house.home / "published.json").write_bytes(b"{torn")
    assert follows.read() is None
    assert follows.refusal
    assert follows.document is None
    document = house.publish(None)
    assert follows.read() == document
    assert not follows.refusal


def test_a_disk_that_comes_back_is_asked_again(house: House) -> None:
    document = house.publish(None)
    broken = True

    def fetch() -> Signed | None:
        if broken:
            raise Unavailable("input/output error")
        return PublisherFiles(house.home).current()

    follows = Follower(
        stamp=lambda: 1,
        fetch=fetch,
        recall=lambda: None,
        remember=lambda document, signed: None,
        verify=verify,
        trusted=[house.sealer.public_key],
    )
    assert follows.read() is None
    assert follows.changed()
    broken = False
    assert follows.read() == document


def test_a_full_disk_does_not_stop_the_news(house: House) -> None:
    document = house.publish(None)

    def remember(document: Document, signed: Signed) -> None:
        raise Unavailable("no space left")

    published = PublisherFiles(house.home)
    keys = [house.sealer.public_key]
    follows = Follower(
        stamp=lambda: 1, fetch=published.current, recall=lambda: None, remember=remember, verify=verify, trusted=keys
    )
    assert follows.read() == document


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("{}", Unsupported),
        ("[]", Corrupt),
        ("{", Corrupt),
        ('{"format": 1}', Unsupported),
        ('{"format": 2}', Corrupt),
        ("[" * 100_000, Corrupt),
    ],
    ids=range(6),
)
def test_payloads_that_are_no_document(house: House, payload: str, error: type[EcluseError]) -> None:
    with pytest.raises(error):
        open_document(house.sealer.sign(payload), [house.sealer.public_key], verify)


def test_succession(house: House) -> None:
    document = house.document(None)
    assert check_succession(None, document)
    assert not check_succession(document, document)
    assert check_succession(document, replace(document, generation=7))
    for wrong in (
        replace(document, project="other", generation=7),
        replace(document, keys=(KeyGrant("a", "00", ("read",)),)),
    ):
        with pytest.raises(Conflict):
            check_succession(document, wrong)
    assert json.loads(canonical(document))["project"] == "house"
