DROP INDEX queue_items_due ON queue_items;
ALTER TABLE queue_items DROP CONSTRAINT queue_items_priority;
ALTER TABLE queue_items DROP CONSTRAINT queue_items_normal;
ALTER TABLE queue_items DROP COLUMN due_at;
ALTER TABLE queue_items DROP COLUMN priority;
