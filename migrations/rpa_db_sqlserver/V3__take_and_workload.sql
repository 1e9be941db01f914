-- How a robot takes its next item, and how much there is to do. A procedure and a view each want a batch of their own:
-- GO ends one. The file is one transaction all the same.

CREATE PROCEDURE take_item @process int, @robot int AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @taken TABLE (id bigint);
    UPDATE next SET state = 'running', attempts = attempts + 1
    OUTPUT INSERTED.id INTO @taken
    FROM (SELECT TOP (1) * FROM queue_items WITH (ROWLOCK, UPDLOCK, READPAST)
          WHERE process_id = @process AND state = 'new' ORDER BY created_at, id) AS next;
    INSERT INTO runs (item_id, robot_id) SELECT id, @robot FROM @taken;
    SELECT id FROM @taken; -- no row: nothing to do
END
GO

CREATE VIEW workload AS
SELECT p.name, p.release,
       SUM(CASE WHEN q.state = 'new' THEN 1 ELSE 0 END)     AS waiting,
       SUM(CASE WHEN q.state = 'running' THEN 1 ELSE 0 END) AS running,
       SUM(CASE WHEN q.state = 'failed' THEN 1 ELSE 0 END)  AS failed,
       MIN(CASE WHEN q.state = 'new' THEN q.created_at END) AS oldest
FROM processes p LEFT JOIN queue_items q ON q.process_id = p.id
GROUP BY p.id, p.name, p.release
GO
