-- There is no file that reverts this one: what was moved cannot be told from what was there. Down ends here.

CREATE TABLE old_runs (
    id          bigint        NOT NULL CONSTRAINT old_runs_key PRIMARY KEY,
    item_id     bigint        NOT NULL,
    robot_id    int           NOT NULL,
    started_at  datetime2     NOT NULL,
    ended_at    datetime2     NOT NULL,
    outcome     varchar(10)   NOT NULL,
    message     nvarchar(max) NULL
);
GO

DELETE FROM runs
OUTPUT DELETED.id, DELETED.item_id, DELETED.robot_id, DELETED.started_at, DELETED.ended_at, DELETED.outcome, DELETED.message
INTO old_runs (id, item_id, robot_id, started_at, ended_at, outcome, message)
WHERE ended_at < DATEADD(year, -1, SYSUTCDATETIME());
GO
