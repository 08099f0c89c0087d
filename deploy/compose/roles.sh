#!/bin/sh
# Runs once, when PostgreSQL's container makes its data directory: the same roles as everywhere else.
set -eu
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\getenv owner_password OWNER_PASSWORD
\getenv app_password APP_PASSWORD
\i ${ROLES_SQL:-/roles/roles.sql}
SQL
