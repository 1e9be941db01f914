ALTER TABLE queue_items DROP COLUMN due_at;
ALTER TABLE queue_items DROP COLUMN priority;
