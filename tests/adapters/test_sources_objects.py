"""Drops in a bucket: what only a store over a network does. A store that lies is a real HTTP server of the test."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
from tests.adapters.object_store import CLIENT, KEY, SECRET, ObjectStore, tell

from ecluse.adapters import sources_objects
from ecluse.adapters.sources import DropPlaces, open_drops
from ecluse.adapters.sources_files import DropFolders
from ecluse.adapters.sources_objects import DropObjects, Limits
from ecluse.core.errors import InvalidInput, Unavailable
from ecluse.core.source import Seen, Source

LANDING = Source("s3://landing/in/*")
LISTED = (
    """<ListBucketResult><Name>landing</Name><IsTruncated>{more}</IsTruncated>{token}{contents}</ListBucketResult>"""
)
OBJECT = """<Contents><Key>{key}</Key><LastModified>2024-01-31T00:00:00.000Z</LastModified><ETag>"x"</ETag><Size>3</Size></Contents>"""


def _xml(*keys: str, token: str = "") -> bytes:
    tail = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    contents = "".join(OBJECT.format(key=key) for key in keys)
    return LISTED.format(more=str(bool(token)).lower(), token=tail, contents=contents).encode()


@contextmanager
def _server(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[int, list[str]]]:
    """A server on a free port that answers as told; its port, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Name a server on this port as the store."""

    return lambda port: tell(monkeypatch, CLIENT | {"AWS_ENDPOINT_URL": f"http://localhost:{port}"})


def test_the_same_bytes_sent_in_parts_are_the_same_drop(object_store: ObjectStore, tmp_path: Path) -> None:
    content, drops, source = b"user_id\n" + b"a\n" * 3_000_000, DropObjects(tmp_path), Source("s3://parts/in/*")
    client = object_store.client("parts")
    obstore.put(client, "in/whole/users.csv", content, use_multipart=False)
    obstore.put(client, "in/parts/users.csv", content, use_multipart=True, chunk_size=5 << 20)
    tags = {each["e_tag"] for some in obstore.list(client, "in") for each in some}
    assert len(tags) == 2, "their tags differ, and say nothing about what they hold"
    first, second = drops.look(source)
    with drops.fetch(source, first, None) as one, drops.fetch(source, second, None) as two:
        assert one is not None
        assert two is not None
        assert one.digest == two.digest
        assert (one.folder / "users.csv").read_bytes() == content


def test_credentials_are_never_told(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    object_store.put("landing", "in/a/users.csv", "user_id\na\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-one")
    with pytest.raises(Unavailable, match="the store refuses") as refused:
        DropObjects(tmp_path).look(LANDING)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-stranger")
    with pytest.raises(Unavailable, match="the store refuses") as unknown:
        DropObjects(tmp_path).look(LANDING)
    said = "".join(map(str, (refused.getrepr(style="long"), unknown.getrepr(style="long"), caplog.text)))
    told = f"{refused.value} {unknown.value}"
    assert not [secret for secret in (KEY, SECRET, "a-wrong-one", "a-stranger") if secret in told]
    assert "StringToSign" not in said
    assert refused.value.__suppress_context__, "nor what the store answered, by a traceback"


def test_no_bucket_and_no_store_are_told(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match=r"there is no such bucket \(s3://nobody-made-it\)"):
        DropObjects(tmp_path).look(Source("s3://nobody-made-it/in/*"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="cannot be reached"):
        DropObjects(tmp_path).look(LANDING)
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_store.port}")
    with pytest.raises(Unavailable, match="AWS_ALLOW_HTTP"):
        DropObjects(tmp_path).look(LANDING)


def test_a_store_that_says_nothing_is_given_up(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.put("landing", "in/a/users.csv", "user_id\na\n")
    monkeypatch.setattr(sources_objects, "SILENCE", timedelta(seconds=0.2))
    drops = DropObjects(tmp_path)
    [seen] = drops.look(LANDING)
    object_store.stop()
    try:
        with pytest.raises(Unavailable):
            drops.look(LANDING)
        with pytest.raises(Unavailable), drops.fetch(LANDING, seen, None):
            pass
    finally:
        object_store.go_on()
    assert drops.look(LANDING) == (seen,)


def test_a_drop_too_large_is_refused_and_a_prefix_too_full_is_told(object_store: ObjectStore, tmp_path: Path) -> None:
    for name in "abc":
        object_store.put("full", f"in/{name}/users.csv", "user_id\na\n")
    small = DropObjects(tmp_path, Limits(drop_bytes=9))
    [seen, *_] = small.look(Source("s3://full/in/*"))
    with pytest.raises(InvalidInput, match="holds 10 bytes"), small.fetch(Source("s3://full/in/*"), seen, None):
        pass
    with pytest.raises(Unavailable, match="more than 2 objects below `in`"):
        DropObjects(tmp_path, Limits(objects=2)).look(Source("s3://full/in/*"))
    assert len(DropObjects(tmp_path, Limits(objects=2)).look(Source("s3://full/in/a/*"))) == 1


def test_a_list_of_many_pages_is_read_to_its_end(object_store: ObjectStore, tmp_path: Path) -> None:
    client = object_store.client("pages")
    for index in range(1_205):
        obstore.put(client, f"in/{index:04}.csv", b"a")
    assert len(DropObjects(tmp_path).look(Source("s3://pages/in/*"))) == 1_205


@pytest.mark.parametrize("keys", [(), ("in/a/users.csv",)])
def test_a_list_without_an_end_is_given_up(known: Callable[[int], None], tmp_path: Path, keys: tuple[str, ...]) -> None:
    with _server(lambda path: (200, {}, _xml(*keys, token="more"))) as (port, _):
        known(port)
        with pytest.raises(Unavailable, match=r"not done within 0\.5 s|more than 10 objects"):
            DropObjects(tmp_path, Limits(objects=10, look_seconds=0.5)).look(LANDING)


def test_a_redirect_leads_nowhere(
    known: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _server(lambda path: (200, {}, _xml("in/a/users.csv"))) as (elsewhere, asked):
        to = f"http://127.0.0.1:{elsewhere}/landing?list-type=2"
        with _server(lambda path: (307, {"Location": to}, b"")) as (port, _):
            known(port)
            with pytest.raises(Unavailable):
                DropObjects(tmp_path).look(LANDING)
            assert asked == []
            monkeypatch.setattr(sources_objects, "_hosts", lambda: ["localhost", "127.0.0.1"])
            DropObjects(tmp_path).look(LANDING)
            assert asked, "without the bar it is followed: the check can fail"


@pytest.mark.parametrize("key", ["in//users.csv", "in/../users.csv", "in/a&#10;b.csv"])
def test_a_key_that_is_no_path_is_told(known: Callable[[int], None], tmp_path: Path, key: str) -> None:
    with _server(lambda path: (200, {}, _xml("in/a/users.csv", key))) as (port, _):
        known(port)
        with pytest.raises(Unavailable, match="remove or rename the object"):
            DropObjects(tmp_path).look(LANDING)


def test_bytes_that_are_not_those_announced_are_not_taken(known: Callable[[int], None], tmp_path: Path) -> None:
    same = {"ETag": '"x"', "Last-Modified": "Wed, 31 Jan 2024 00:00:00 GMT"}

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, _xml("in/a/users.csv")) if "list-type" in path else (200, same, body)

    with _server(answer) as (port, _):
        known(port)
        drops = DropObjects(tmp_path)
        [seen] = drops.look(LANDING)
        for body, taken in ((b"abc", True), (b"abcd", False), (b"", False)):
            with drops.fetch(LANDING, seen, None) as fetched:
                assert (fetched is not None) is taken, body
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "ecluse.adapters.sources_objects")
    assert isinstance(open_drops(tmp_path, tmp_path / "staging", [Source("in/*")]), DropFolders)
    with pytest.raises(Unavailable, match=r"pip install 'ecluse\[objects\]'"):
        open_drops(tmp_path, tmp_path / "staging", [LANDING])


def test_each_source_is_looked_for_where_it_is_declared(object_store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "staging" / "drop-old").mkdir(parents=True)
    object_store.put("both", "in/far/users.csv", "a\n")
    (tmp_path / "in" / "near").mkdir(parents=True)
    (tmp_path / "in" / "near" / "users.csv").write_text("a\n")
    sources = [Source("in/*"), Source("s3://both/in/*")]
    assert isinstance(open_drops(tmp_path, tmp_path / "staging", sources[:1]), DropFolders)
    drops = open_drops(tmp_path, tmp_path / "staging", sources)
    assert isinstance(drops, DropPlaces)
    found: list[Seen] = [seen for source in sources for seen in drops.look(source)]
    assert [seen.name for seen in found] == ["in/near", "in/far"]
    with drops.fetch(sources[0], found[0], None) as near, drops.fetch(sources[1], found[1], None) as far:
        assert near is not None
        assert far is not None
        assert near.digest == far.digest
    assert list((tmp_path / "staging").iterdir()) == []
