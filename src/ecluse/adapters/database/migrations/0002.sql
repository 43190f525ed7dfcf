-- Who may do what, one holder at a time. A row stays when it is released: its token must never be given twice.
-- "until" counts seconds since the machine of "boot" started: no clock that is set ends a lease early.
-- "process" is whose it is: one that is dead holds nothing.

CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL CHECK (token > 0),
    process TEXT NOT NULL,
    boot TEXT NOT NULL,
    until REAL NOT NULL
) STRICT, WITHOUT ROWID;
