-- The robots, and the processes that they run.

CREATE TABLE robots (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    site        TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'busy', 'offline')),
    seen_at     TEXT
) STRICT;

CREATE TABLE processes (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    release     INTEGER NOT NULL CHECK (release > 0),
    owner       TEXT    NOT NULL,
    created_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (name, release)
) STRICT;
