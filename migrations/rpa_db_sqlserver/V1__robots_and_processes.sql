-- The robots, and the processes that they run.

CREATE TABLE robots (
    id          int           NOT NULL IDENTITY CONSTRAINT robots_key PRIMARY KEY,
    name        nvarchar(100) NOT NULL CONSTRAINT robots_name UNIQUE,
    site        nvarchar(100) NOT NULL,
    state       varchar(10)   NOT NULL CONSTRAINT robots_idle DEFAULT 'idle'
                              CONSTRAINT robots_state CHECK (state IN ('idle', 'busy', 'offline')),
    seen_at     datetime2     NULL
);

CREATE TABLE processes (
    id          int           NOT NULL IDENTITY CONSTRAINT processes_key PRIMARY KEY,
    name        nvarchar(100) NOT NULL,
    release     int           NOT NULL CONSTRAINT processes_release CHECK (release > 0),
    owner       nvarchar(100) NOT NULL,
    created_at  datetime2     NOT NULL CONSTRAINT processes_now DEFAULT SYSUTCDATETIME(),
    CONSTRAINT processes_name UNIQUE (name, release)
);
