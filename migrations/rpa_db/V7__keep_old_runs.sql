-- There is no file that reverts this one: what was moved cannot be told from what was there. Down ends here.

CREATE TABLE old_runs (LIKE runs INCLUDING CONSTRAINTS);

WITH moved AS (
    DELETE FROM runs WHERE ended_at < now() - interval '1 year' RETURNING *
)
INSERT INTO old_runs SELECT * FROM moved;
