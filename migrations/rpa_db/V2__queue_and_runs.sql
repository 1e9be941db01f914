-- What is to be done, and each attempt to do it.

CREATE TABLE queue_items (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process_id  integer     NOT NULL REFERENCES processes,
    reference   text        NOT NULL, -- the business's own key, such as an invoice's number
    payload     jsonb       NOT NULL DEFAULT '{}',
    state       text        NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'running', 'done', 'failed')),
    attempts    integer     NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (process_id, reference)
);

CREATE INDEX queue_items_waiting ON queue_items (process_id, created_at) WHERE state = 'new';

CREATE TABLE runs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id     bigint      NOT NULL REFERENCES queue_items ON DELETE CASCADE,
    robot_id    integer     NOT NULL REFERENCES robots,
    started_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    outcome     text CHECK (outcome IN ('done', 'failed', 'stopped')),
    message     text,
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
