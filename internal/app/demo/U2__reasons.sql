DROP VIEW statements;
ALTER TABLE transfers DROP COLUMN reason;
