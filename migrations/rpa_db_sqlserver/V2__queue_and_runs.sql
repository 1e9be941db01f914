-- What is to be done, and each attempt to do it.

CREATE TABLE queue_items (
    id          bigint        NOT NULL IDENTITY CONSTRAINT queue_items_key PRIMARY KEY,
    process_id  int           NOT NULL CONSTRAINT queue_items_process REFERENCES processes (id),
    reference   nvarchar(200) NOT NULL, -- the business's own key, such as an invoice's number
    payload     nvarchar(max) NOT NULL CONSTRAINT queue_items_empty DEFAULT '{}'
                              CONSTRAINT queue_items_json CHECK (ISJSON(payload) = 1),
    state       varchar(10)   NOT NULL CONSTRAINT queue_items_new DEFAULT 'new'
                              CONSTRAINT queue_items_state CHECK (state IN ('new', 'running', 'done', 'failed')),
    attempts    int           NOT NULL CONSTRAINT queue_items_none DEFAULT 0,
    created_at  datetime2     NOT NULL CONSTRAINT queue_items_now DEFAULT SYSUTCDATETIME(),
    CONSTRAINT queue_items_reference UNIQUE (process_id, reference)
);

CREATE INDEX queue_items_waiting ON queue_items (process_id, created_at) WHERE state = 'new';

CREATE TABLE runs (
    id          bigint        NOT NULL IDENTITY CONSTRAINT runs_key PRIMARY KEY,
    item_id     bigint        NOT NULL CONSTRAINT runs_item REFERENCES queue_items (id) ON DELETE CASCADE,
    robot_id    int           NOT NULL CONSTRAINT runs_robot REFERENCES robots (id),
    started_at  datetime2     NOT NULL CONSTRAINT runs_now DEFAULT SYSUTCDATETIME(),
    ended_at    datetime2     NULL,
    outcome     varchar(10)   NULL CONSTRAINT runs_outcome CHECK (outcome IN ('done', 'failed', 'stopped')),
    message     nvarchar(max) NULL,
    CONSTRAINT runs_ended CHECK (ended_at IS NULL AND outcome IS NULL OR ended_at IS NOT NULL AND outcome IS NOT NULL)
);
