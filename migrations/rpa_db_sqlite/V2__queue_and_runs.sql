-- What is to be done, and each attempt to do it.

CREATE TABLE queue_items (
    id          INTEGER PRIMARY KEY,
    process_id  INTEGER NOT NULL REFERENCES processes,
    reference   TEXT    NOT NULL, -- the business's own key, such as an invoice's number
    payload     TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(payload)),
    state       TEXT    NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'running', 'done', 'failed')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (process_id, reference)
) STRICT;

CREATE INDEX queue_items_waiting ON queue_items (process_id, created_at) WHERE state = 'new';

CREATE TABLE runs (
    id          INTEGER PRIMARY KEY,
    item_id     INTEGER NOT NULL REFERENCES queue_items ON DELETE CASCADE,
    robot_id    INTEGER NOT NULL REFERENCES robots,
    started_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    ended_at    TEXT,
    outcome     TEXT CHECK (outcome IN ('done', 'failed', 'stopped')),
    message     TEXT,
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
) STRICT;
