"""Following the published document: which one a worker believes. A bad signature, another project or a lower generation is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence

from ecluse.core.codec import from_plain
from ecluse.core.document import FORMAT, Document, Signed
from ecluse.core.errors import Conflict, Corrupt, DeclarationError, EcluseError, Unavailable, Unsupported
from ecluse.core.ports import Verify


def open_document(signed: Signed, trusted: Sequence[str], verify: Verify) -> Document:
    """The document in signed bytes. Raises Corrupt (signature, key, contents), Unsupported (a format we do not know).

    Its format is read before the rest, so that a newer one is named as such.
    """
    payload = verify(signed, trusted)
    try:
        plain = json.loads(payload)
        if isinstance(plain, dict) and plain.get("format") != FORMAT:
            raise Unsupported(
                f"published document of format {plain.get('format')}", cure="upgrade ecluse on this server"
            )
        return from_plain(Document, plain, where="published document")
    except (ValueError, RecursionError, DeclarationError) as error:
        raise Corrupt(f"the published document cannot be read: {error}", cure="publish it again") from None


def check_succession(before: Document | None, after: Document) -> bool:
    """True when ``after`` is news. Raises Conflict for a lower generation, another project, or a second document of one generation."""
    if before is None:
        return True
    if after.project != before.project:
        raise Conflict(
            f"a document of project {after.project!r}, not {before.project!r}", cure="publish to the right place"
        )
    if after.generation < before.generation:
        raise Conflict(
            f"generation {after.generation} after generation {before.generation}: an older document was put back",
            cure="publish the present state: any release command does",
        )
    if after.generation == before.generation and after != before:
        raise Conflict(
            f"a second document of generation {after.generation}", cure="publish again under the next generation"
        )
    return after.generation > before.generation


class Follower:
    """Reads the published document when it has changed and remembers the newest it believed, also over a restart.

    ``stamp`` is cheap and changes with the document (a file's times and size); ``fetch`` reads it; ``recall`` and ``remember`` keep the
    last believed one on this host. ``refusal`` says why the document last seen is not followed ("" when it is).
    """

    def __init__(
        self,
        *,
        stamp: Callable[[], object],
        fetch: Callable[[], Signed | None],
        recall: Callable[[], Signed | None],
        remember: Callable[[Document, Signed], None],
        verify: Verify,
        trusted: Sequence[str],
    ) -> None:
        self._stamp, self._fetch, self._remember = stamp, fetch, remember
        self._verify, self._trusted = verify, tuple(trusted)
        self._seen: object = object()
        self.refusal = ""
        self.document = self._recalled(recall)

    def changed(self) -> bool:
        """True when there is something to :meth:`read`; costs one look at the stamp."""
        return self._stamp() != self._seen

    def read(self) -> Document | None:
        """The document to follow from now on, or None when there is no news. Never raises: see ``refusal``."""
        stamp = self._stamp()
        try:
            signed = self._fetch()
            document = None if signed is None else open_document(signed, self._trusted, self._verify)
            news = document is not None and check_succession(self.document, document)
        except EcluseError as error:
            self.refusal = error.what
            if not isinstance(error, Unavailable):  # the same bytes will be refused again; a disk may come back
                self._seen = stamp
            return None
        gone = signed is None and self.document is not None
        self.refusal, self._seen = "there is none any more: the one followed last holds" if gone else "", stamp
        if signed is None or document is None or not news:
            return None
        self.document = document
        with contextlib.suppress(
            Unavailable
        ):  # without a copy a restart needs the original; that is no reason to lag behind
            self._remember(document, signed)
        return document

    def _recalled(self, recall: Callable[[], Signed | None]) -> Document | None:
        try:
            signed = recall()
            return None if signed is None else open_document(signed, self._trusted, self._verify)
        except EcluseError as error:
            self.refusal = f"the copy kept on this host: {error.what}"
            return None
