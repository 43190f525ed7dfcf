-- Whether a fact was told already is asked by its key: of a ledger of years, in one step.

ALTER TABLE ledger ADD COLUMN key TEXT GENERATED ALWAYS AS (json_extract(event, '$.evidence.key')) VIRTUAL;
CREATE INDEX ledger_by_key ON ledger (key, sequence) WHERE key IS NOT NULL;
