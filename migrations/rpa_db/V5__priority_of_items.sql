-- A column with a constant default is added without writing the table anew.
ALTER TABLE queue_items ADD COLUMN priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 1 AND 9);
ALTER TABLE queue_items ADD COLUMN due_at timestamptz;
