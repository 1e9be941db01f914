DELETE FROM processes WHERE release = 1 AND name IN (N'invoice intake', N'address change');
DELETE FROM robots WHERE name IN (N'robot-1', N'robot-2', N'robot-3');
