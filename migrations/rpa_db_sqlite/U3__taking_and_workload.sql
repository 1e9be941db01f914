DROP VIEW workload;
DROP TRIGGER runs_take_item;
