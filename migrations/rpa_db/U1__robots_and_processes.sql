DROP TABLE processes;
DROP TABLE robots;
