#!/bin/sh
# Puts a dump back in place of the database, which is to hold no studies yet.
#
#   nobody may be connected, workers on other hosts neither:
#   docker compose --profile '*' stop worker worker-gpu dashboard pgbouncer
#   docker compose --profile backup run --rm backup /backup/restore.sh [latest | FILE] [--replace]
#   docker compose up -d                                  an older dump's tables are brought up to date
#
# The dump becomes a database of its own first, and takes the name when it is whole: a restore that
# fails leaves everything as it was. With --replace, a database that holds studies is renamed, not
# dropped; the last line says how to drop it.
set -eu
umask 077

folder=${BACKUP_FOLDER:-/backups}
database=${PGDATABASE:-tunesvc}
new="${database}_restoring"
export PGOPTIONS="--client-min-messages=warning"

. "$(dirname "$0")/password.sh"

fail() {
  code=$1
  shift
  echo "error: $*" >&2
  exit "$code"
}

ask() { # ask DATABASE STATEMENT: what Postgres answers, without ornament
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
    --dbname="$1" --command="$2"
}

count() { # count DATABASE TABLE: rows; 0 where there is no such table; a question that fails ends all
  table=$(ask "$1" "SELECT to_regclass('public.$2')") || fail 4 "$1 cannot be looked at"
  if [ -z "$table" ]; then
    echo 0
  else
    ask "$1" "SELECT count(*) FROM public.$2" || fail 4 "$1 cannot be looked at"
  fi
}

leave() {
  [ -z "$begun" ] || ask postgres "DROP DATABASE IF EXISTS \"$new\""
  rm -f "$PGPASSFILE"
}

begun=
trap leave EXIT
dump=latest replace=
for word in "$@"; do
  case $word in
    --replace) replace=yes ;;
    -*)
      sed -n '2,6p' "$0" >&2
      exit 2
      ;;
    *) dump=$word ;;
  esac
done
if [ "$dump" = latest ]; then
  dump=$(find "$folder" -maxdepth 1 -name "$database-*.dump" | sort | tail -n 1)
  [ -n "$dump" ] || fail 3 "there is no dump in $folder"
fi
case $dump in /*) ;; *) dump=$folder/$dump ;; esac
[ -r "$dump" ] || fail 3 "there is no such dump: $dump"

studies=0
# In a line of its own: inside a condition, a question that fails would read as "there is none".
there=$(ask postgres "SELECT 1 FROM pg_database WHERE datname = '$database'")
if [ -n "$there" ]; then
  studies=$(count "$database" studies)
  [ "$studies" = 0 ] || [ -n "$replace" ] ||
    fail 2 "$database holds $studies studies; --replace puts the dump in its place, and keeps it under another name"
  others=$(ask postgres "SELECT count(*) FROM pg_stat_activity
    WHERE datname = '$database' AND backend_type = 'client backend'")
  [ "$others" = 0 ] ||
    fail 2 "$others connections to $database are open; first:  docker compose --profile '*' stop worker worker-gpu dashboard pgbouncer"
fi

ask postgres "DROP DATABASE IF EXISTS \"$new\""
begun=yes
ask postgres "CREATE DATABASE \"$new\" TEMPLATE template0 ENCODING 'UTF8'"
pg_restore --exit-on-error --no-owner --dbname="$new" "$dump"
kept="${database}_until_$(date -u +%Y%m%d%H%M%S)"
take_over="ALTER DATABASE \"$new\" RENAME TO \"$database\""
if [ "$studies" != 0 ]; then # both names or none: they are one transaction
  take_over="ALTER DATABASE \"$database\" RENAME TO \"$kept\"; $take_over"
elif [ -n "$there" ]; then
  again=$(count "$database" studies) # somebody may have stored one meanwhile
  [ "$again" = 0 ] || fail 2 "$database has got $again studies meanwhile; nothing was changed"
  ask postgres "DROP DATABASE \"$database\""
fi
ask postgres "$take_over"
begun=
echo "restored $dump: $(count "$database" studies) studies, $(count "$database" trials) trials"
[ "$studies" = 0 ] ||
  echo "what was there is kept as $kept; to drop it:  docker compose exec postgres dropdb -U ${PGUSER:-tunesvc} $kept"
