ALTER TABLE queue_items ADD priority smallint NOT NULL CONSTRAINT queue_items_normal DEFAULT 5;
ALTER TABLE queue_items ADD due_at datetime2 NULL;
GO

-- A batch is compiled as a whole: what uses a new column stands in the next one.
ALTER TABLE queue_items ADD CONSTRAINT queue_items_priority CHECK (priority BETWEEN 1 AND 9);
CREATE INDEX queue_items_due ON queue_items (priority, due_at) WHERE state = 'new';
GO
