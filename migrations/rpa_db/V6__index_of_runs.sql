-- On a large table the index is built beside the work of the others, which no transaction can do: one such statement a
-- file, so that there is never a doubt how far it came.
CREATE INDEX CONCURRENTLY runs_of_robot ON runs (robot_id, started_at DESC);
