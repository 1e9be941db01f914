DROP TABLE runs;
DROP TABLE queue_items;
