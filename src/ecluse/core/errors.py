"""Every error Écluse raises, and what each means for the caller.

    EcluseError                  something could not be done (a "no" is a Verdict, never an exception)
    ├── DeclarationError         project.py or ecluse.toml says something unknown or contradictory
    ├── InvalidInput             data, a request or an argument cannot be used as it is
    ├── Unsupported              an estimator or a format we refuse to package or to serve
    ├── NotFound                 no such snapshot, run, version, entity
    ├── Conflict                 somebody else changed it first, or holds it now
    ├── NotAllowed               policy or stage forbids the move
    ├── Unavailable              a database, store, disk or server cannot be reached or written
    └── Corrupt                  bytes are not what their digest, seal or checksum says

Each carries *what* happened, *where*, and the *cure*, and the exit code of a process that ends with it. HTTP status lives in ``serving/``
and ``web/``.
"""

from __future__ import annotations


class EcluseError(Exception):
    """Base of all errors: what happened, where, and what to do about it.

    >>> print(NotFound("version 9 of churn", where="registry", cure="list them with `ecluse versions`"))
    version 9 of churn (registry); list them with `ecluse versions`
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        self.what, self.where, self.cure = what, where, cure
        super().__init__(what + (f" ({where})" if where else "") + (f"; {cure}" if cure else ""))


class DeclarationError(EcluseError):
    """The project's declaration or settings are unknown or contradictory: file, key, cure."""

    exit_code = 2


class InvalidInput(EcluseError):
    """Data, a request or an argument that cannot be used as it is."""

    exit_code = 2


class Unsupported(EcluseError):
    """An estimator or format Écluse refuses to package or serve, by name."""

    exit_code = 2


class NotFound(EcluseError):
    """The named thing does not exist (or was pruned)."""

    exit_code = 4


class Conflict(EcluseError):
    """Somebody else changed it first, or holds it at this moment."""

    exit_code = 5


class NotAllowed(EcluseError):
    """The move is against the rules: stage, gate report, policy or approval."""

    exit_code = 5


class Unavailable(EcluseError):
    """A database, store, disk or server cannot be reached or written right now."""

    exit_code = 6


class Corrupt(EcluseError):
    """Bytes are not what their digest, seal or checksum says they are."""

    exit_code = 7
