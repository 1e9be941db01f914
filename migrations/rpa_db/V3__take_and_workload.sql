-- How a robot takes its next item, and how much there is to do. The semicolons in the function's body end no statement
-- of the file.

CREATE FUNCTION take_item(wanted_process integer, by_robot integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    SELECT id INTO taken FROM queue_items
    WHERE process_id = wanted_process AND state = 'new'
    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF taken IS NULL THEN
        RETURN NULL; -- nothing to do; no error
    END IF;
    UPDATE queue_items SET state = 'running', attempts = attempts + 1 WHERE id = taken;
    INSERT INTO runs (item_id, robot_id) VALUES (taken, by_robot);
    RETURN taken;
END;
$$;

CREATE VIEW workload AS
SELECT p.name, p.release,
       count(*) FILTER (WHERE q.state = 'new')     AS waiting,
       count(*) FILTER (WHERE q.state = 'running') AS running,
       count(*) FILTER (WHERE q.state = 'failed')  AS failed,
       min(q.created_at) FILTER (WHERE q.state = 'new') AS oldest
FROM processes p LEFT JOIN queue_items q ON q.process_id = p.id
GROUP BY p.id;
