#!/bin/sh
# Writes PgBouncer's configuration into memory, the password with it, and becomes PgBouncer.
#
#   entrypoint.sh           serve
#   entrypoint.sh health    ask Postgres something, by way of it
#
#   DATABASE_HOST, DATABASE_PORT   of Postgres
#   PGBOUNCER_POOL                 connections to it
#   PGBOUNCER_CLIENTS              connections from workers, two for each
#   PASSWORD_FILE                  of the user `tunesvc`
set -eu
umask 077

place=/tmp/pgbouncer # a tmpfs
password=${PASSWORD_FILE:-/run/tunesvc/secrets/postgres_password}

if [ "${1:-}" = health ]; then
  export PGPASSFILE="$place/pgpass"
  answer=$(psql --no-psqlrc -qtA --host=127.0.0.1 --username=tunesvc --dbname=tunesvc -c 'SELECT 1')
  [ "$answer" = 1 ]
  exit
fi

if [ ! -r "$password" ]; then
  echo "error: the database's password cannot be read: $password" >&2
  exit 3
fi
mkdir -p "$place"
# Each has its own way to quote: a doubled quote here, a backslash before : and \ there.
sed -n '1s/"/""/g; 1s/.*/"tunesvc" "&"/p' "$password" >"$place/users.txt"
sed -n '1s/[\\:]/\\&/g; 1s/^/*:*:*:*:/p' "$password" >"$place/pgpass"

# What a session of ours is told at its start goes by `options`, which no pooler passes on: so this one
# ignores that, and says the same itself, once for each connection (tests/postgres/test_pgbouncer.py).
cat >"$place/pgbouncer.ini" <<INI
[databases]
tunesvc = host=${DATABASE_HOST:-postgres} port=${DATABASE_PORT:-5432} connect_query='SET timezone = UTC; SET lock_timeout = 5000; SET statement_timeout = 15000; SET jit = 0; SET search_path = public'

[pgbouncer]
listen_addr = *
listen_port = 5432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $place/users.txt
pool_mode = transaction
default_pool_size = ${PGBOUNCER_POOL:-20}
max_client_conn = ${PGBOUNCER_CLIENTS:-1000}
ignore_startup_parameters = options
server_connect_timeout = 5
server_login_retry = 1
query_wait_timeout = 60
tcp_keepidle = 30
tcp_keepintvl = 10
tcp_keepcnt = 3
log_connections = 0
log_disconnections = 0
INI
exec pgbouncer -q "$place/pgbouncer.ini"
