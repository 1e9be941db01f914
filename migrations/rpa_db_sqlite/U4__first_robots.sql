DELETE FROM processes WHERE (name, release) IN (('invoice intake', 1), ('address change', 1));
DELETE FROM robots WHERE name IN ('robot-1', 'robot-2', 'robot-3');
