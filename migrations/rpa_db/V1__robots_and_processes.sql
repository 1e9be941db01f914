-- The robots, and the processes that they run.

CREATE TABLE robots (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        NOT NULL UNIQUE,
    site        text        NOT NULL,
    state       text        NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'busy', 'offline')),
    seen_at     timestamptz
);

CREATE TABLE processes (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        NOT NULL,
    release     integer     NOT NULL CHECK (release > 0),
    owner       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, release)
);
