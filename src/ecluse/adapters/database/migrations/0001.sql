-- The authority (docs/formats.md). Values that are only read back whole are canonical JSON; what rules lean on is a column.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE generation (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (1, 0);

-- What rules and filters ask of a fact is computed from the fact that the chain covers: it cannot be changed apart from it.
CREATE TABLE ledger (
    sequence INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    model TEXT GENERATED ALWAYS AS (json_extract(event, '$.model')) VIRTUAL
) STRICT;
CREATE INDEX ledger_by_model ON ledger (model, sequence);
CREATE TRIGGER ledger_is_not_edited BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_is_not_cut BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE snapshot (
    position INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (name, digest)
) STRICT;

CREATE TABLE declaration (
    position INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    canonical BLOB NOT NULL
) STRICT;

CREATE TABLE run (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE version (
    model TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    run TEXT NOT NULL UNIQUE REFERENCES run (id),
    bundle TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('None', 'Staging', 'Production', 'Archived', 'Rejected')),
    registered TEXT NOT NULL,
    threshold REAL,
    pruned INTEGER NOT NULL CHECK (pruned IN (0, 1)),
    held INTEGER NOT NULL CHECK (held IN (0, 1)),
    PRIMARY KEY (model, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_production ON version (model) WHERE stage = 'Production';

CREATE TABLE report (
    position INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    dry INTEGER NOT NULL CHECK (dry IN (0, 1)),
    value TEXT NOT NULL,
    FOREIGN KEY (model, version) REFERENCES version (model, number)
) STRICT;
CREATE INDEX report_by_version ON report (model, version, dry, position);

CREATE TABLE rollout (
    model TEXT PRIMARY KEY,
    revision INTEGER NOT NULL CHECK (revision > 0),
    champion INTEGER,
    value TEXT NOT NULL,
    FOREIGN KEY (model, champion) REFERENCES version (model, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('run', 'version', 'report', 'rollout')),
    reference TEXT NOT NULL
) STRICT;
