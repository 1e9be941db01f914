-- A run that begins takes its item, and how much there is to do. SQLite has no functions of its own making: a trigger
-- does it, whose semicolons end no statement of the file.

CREATE TRIGGER runs_take_item AFTER INSERT ON runs BEGIN
    UPDATE queue_items SET state = 'running', attempts = attempts + 1 WHERE id = NEW.item_id;
    UPDATE robots SET state = 'busy', seen_at = NEW.started_at WHERE id = NEW.robot_id;
END;

CREATE VIEW workload AS
SELECT p.name, p.release,
       count(*) FILTER (WHERE q.state = 'new')     AS waiting,
       count(*) FILTER (WHERE q.state = 'running') AS running,
       count(*) FILTER (WHERE q.state = 'failed')  AS failed,
       min(q.created_at) FILTER (WHERE q.state = 'new') AS oldest
FROM processes p LEFT JOIN queue_items q ON q.process_id = p.id
GROUP BY p.id;
