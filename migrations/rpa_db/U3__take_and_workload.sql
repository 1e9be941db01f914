DROP VIEW workload;
DROP FUNCTION take_item(integer, integer);
