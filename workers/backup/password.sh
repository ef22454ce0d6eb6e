# Lets libpq find the password of BACKUP_PASSWORD_FILE: in a file of mode 0600 in memory (/tmp is a
# tmpfs), never in an argument or in the environment, which others can read. Sourced, not run.
password=${BACKUP_PASSWORD_FILE:-/run/tunesvc/secrets/postgres_password}
if [ ! -r "$password" ]; then
  echo "error: the database's password cannot be read: $password" >&2
  exit 3
fi
PGPASSFILE=$(mktemp /tmp/pgpass.XXXXXX)
export PGPASSFILE
# In that file a colon and a backslash have a backslash before them.
sed -n '1s/[\\:]/\\&/g; 1s/^/*:*:*:*:/p' "$password" >"$PGPASSFILE"
