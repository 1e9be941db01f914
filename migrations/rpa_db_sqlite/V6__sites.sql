-- SQLite cannot add a key to a table that is there: the table is made anew, in the way that its documentation gives
-- (https://www.sqlite.org/lang_altertable.html#otheralter). The first line turns the keys off before the transaction
-- begins; whether they all hold is looked at before it is committed.
PRAGMA foreign_keys = OFF;

CREATE TABLE sites (name TEXT NOT NULL PRIMARY KEY) STRICT;
INSERT INTO sites (name) SELECT DISTINCT site FROM robots;

CREATE TABLE robots_new (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    site        TEXT NOT NULL REFERENCES sites,
    state       TEXT NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'busy', 'offline')),
    seen_at     TEXT
) STRICT;
INSERT INTO robots_new (id, name, site, state, seen_at) SELECT id, name, site, state, seen_at FROM robots;

-- What names the table in its body is in the way of the renaming.
DROP TRIGGER runs_take_item;
DROP TABLE robots;
ALTER TABLE robots_new RENAME TO robots;
CREATE TRIGGER runs_take_item AFTER INSERT ON runs BEGIN
    UPDATE queue_items SET state = 'running', attempts = attempts + 1 WHERE id = NEW.item_id;
    UPDATE robots SET state = 'busy', seen_at = NEW.started_at WHERE id = NEW.robot_id;
END;
