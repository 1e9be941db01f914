-- What the one-shot of docker-compose.yml runs: the database, as most are set, and the runner's own login. Running it
-- again changes nothing.
IF DB_ID(N'shop') IS NULL CREATE DATABASE shop;
GO
IF (SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = N'shop') = 0
    ALTER DATABASE shop SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE;
IF (SELECT snapshot_isolation_state FROM sys.databases WHERE name = N'shop') = 0
    ALTER DATABASE shop SET ALLOW_SNAPSHOT_ISOLATION ON;
GO
IF SUSER_ID(N'dbrunner') IS NULL CREATE LOGIN dbrunner WITH PASSWORD = N'$(RUNNER_PASSWORD)', DEFAULT_DATABASE = shop;
GO
USE shop;
GO
IF USER_ID(N'dbrunner') IS NULL CREATE USER dbrunner FOR LOGIN dbrunner;
ALTER ROLE db_owner ADD MEMBER dbrunner;
GO
