-- The demonstration's database: enough to see a read, a guarded transfer and a constraint.
CREATE TABLE accounts (
    id      INTEGER PRIMARY KEY,
    owner   TEXT    NOT NULL,
    balance INTEGER NOT NULL CHECK (balance >= 0)
);

CREATE TABLE transfers (
    id     INTEGER PRIMARY KEY,
    source INTEGER NOT NULL REFERENCES accounts,
    target INTEGER NOT NULL REFERENCES accounts,
    amount INTEGER NOT NULL CHECK (amount > 0)
);

INSERT INTO accounts (id, owner, balance) VALUES (1, 'Ada', 1000), (2, 'Grace', 500), (3, 'Edsger', 250), (4, 'Barbara', 0);
