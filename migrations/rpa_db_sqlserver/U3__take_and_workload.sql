DROP VIEW workload;
DROP PROCEDURE take_item;
