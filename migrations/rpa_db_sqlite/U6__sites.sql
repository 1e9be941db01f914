PRAGMA foreign_keys = OFF;

CREATE TABLE robots_old (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    site        TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'busy', 'offline')),
    seen_at     TEXT
) STRICT;
INSERT INTO robots_old (id, name, site, state, seen_at) SELECT id, name, site, state, seen_at FROM robots;

DROP TRIGGER runs_take_item;
DROP TABLE robots;
ALTER TABLE robots_old RENAME TO robots;
CREATE TRIGGER runs_take_item AFTER INSERT ON runs BEGIN
    UPDATE queue_items SET state = 'running', attempts = attempts + 1 WHERE id = NEW.item_id;
    UPDATE robots SET state = 'busy', seen_at = NEW.started_at WHERE id = NEW.robot_id;
END;

DROP TABLE sites;
