INSERT INTO robots (name, site) VALUES ('robot-1', 'Hamburg'), ('robot-2', 'Hamburg'), ('robot-3', 'Lyon');
INSERT INTO processes (name, release, owner) VALUES ('invoice intake', 1, 'finance'), ('address change', 1, 'service; desk 2');
