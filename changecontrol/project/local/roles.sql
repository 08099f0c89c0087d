-- The two roles of ChangeControl and its database, made once by the superuser.
-- Run by psql with the variables owner_password and app_password; docker-compose.yml and the local server share it.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

CREATE ROLE changecontrol_owner LOGIN CREATEDB PASSWORD :'owner_password';
CREATE ROLE changecontrol_app LOGIN NOCREATEDB NOCREATEROLE NOSUPERUSER PASSWORD :'app_password';

-- In template1, so that the database made below and every test database inherit them.
\connect template1
CREATE EXTENSION IF NOT EXISTS btree_gist;
-- The application may read and write rows of what migrations make; migrations take back what it must not (audit).
ALTER DEFAULT PRIVILEGES FOR ROLE changecontrol_owner
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO changecontrol_app;
ALTER DEFAULT PRIVILEGES FOR ROLE changecontrol_owner
  GRANT USAGE, SELECT ON SEQUENCES TO changecontrol_app;

\connect postgres
CREATE DATABASE changecontrol OWNER changecontrol_owner;
REVOKE ALL ON DATABASE changecontrol FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE changecontrol TO changecontrol_app;
