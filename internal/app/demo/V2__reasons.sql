-- Left for a job of kind migration to apply.
ALTER TABLE transfers ADD COLUMN reason TEXT NOT NULL DEFAULT '';

CREATE VIEW statements AS
SELECT a.owner, t.id AS transfer, CASE WHEN t.source = a.id THEN -t.amount ELSE t.amount END AS amount, t.reason
FROM accounts a JOIN transfers t ON a.id IN (t.source, t.target);
