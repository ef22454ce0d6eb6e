#!/bin/sh
# Dumps of the database: one each night, or one now.
#
#   docker compose --profile backup up -d                                        every night
#   docker compose --profile backup run --rm backup /backup/backup.sh once       now
#   docker compose --profile backup run --rm backup /backup/backup.sh list
#
# A dump is written under another name, read back whole, and renamed when it is on the disk: what is
# called *.dump is complete. Runs as any user, on any shell; needs pg_dump of the server's version.
#
#   BACKUP_FOLDER         where dumps lie
#   BACKUP_AT             HH:MM, by the clock of the container (UTC unless TZ says otherwise)
#   BACKUP_KEEP_DAYS      older ones are removed, but never the newest BACKUP_KEEP_LEAST
#   BACKUP_PASSWORD_FILE  of PGUSER at PGHOST, for PGDATABASE
set -eu
umask 077

folder=${BACKUP_FOLDER:-/backups}
at=${BACKUP_AT:-03:30}
days=${BACKUP_KEEP_DAYS:-14}
least=${BACKUP_KEEP_LEAST:-3}
again=${BACKUP_RETRY_SECONDS:-600} # after a dump that failed
database=${PGDATABASE:-tunesvc}
part=

. "$(dirname "$0")/password.sh"

say() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*"; }

dumps() { # newest first
  find "$folder" -maxdepth 1 -name "$database-*.dump" | sort -r
}

is_whole() { # reads all of it: a dump that ends too early, or is damaged, is told
  pg_restore --file=/dev/null "$1"
}

tidy() { # what a dump that was cut off has left
  find "$folder" -maxdepth 1 -name ".$database-*.part" -mmin +720 -delete
}

retire() {
  dumps | tail -n "+$((least + 1))" | while read -r old; do
    [ -z "$(find "$old" -mtime "+$((days - 1))")" ] || { rm -f "$old"; say "removed $old"; }
  done
}

once() {
  tidy
  part=$(mktemp "$folder/.$database-XXXXXX.part")
  pg_dump --format=custom --file="$part" "$database"
  is_whole "$part"
  sync "$part"
  made="$folder/$database-$(date -u +%Y-%m-%dT%H%M%SZ).dump"
  mv "$part" "$made"
  part=
  sync "$folder"
  say "wrote $made, $(du -k "$made" | cut -f1) kB"
  retire
}

number() { # 08 is no octal number
  echo "$((1$1 - 100))"
}

seconds_until() { # seconds_until HH:MM: from now to the next time that the clock shows it
  now=$(($(number "$(date +%H)") * 3600 + $(number "$(date +%M)") * 60 + $(number "$(date +%S)")))
  then=$(($(number "${1%:*}") * 3600 + $(number "${1#*:}") * 60))
  left=$(((then - now + 86400) % 86400))
  echo $((left > 0 ? left : 86400))
}

rest() { # a signal ends it at once
  sleep "$1" &
  wait $!
}

nightly() {
  [ -n "$(find "$folder" -maxdepth 1 -name "$database-*.dump" -mtime -1)" ] || attempt
  while :; do
    wait_seconds=$(seconds_until "$at")
    say "next dump in $wait_seconds s, at $at"
    rest "$wait_seconds"
    attempt
  done
}

attempt() { # in a shell of its own: what fails there ends the dump, not the service
  until "$0" once; do
    say "the dump failed; again in $again s"
    rest "$again"
  done
}

healthy() { # the newest dump is younger than 26 hours
  [ -n "$(find "$folder" -maxdepth 1 -name "$database-*.dump" -mmin -1560)" ]
}

leave() {
  rm -f "$PGPASSFILE" ${part:+"$part"}
}

case $at in
  [01][0-9]:[0-5][0-9] | 2[0-3]:[0-5][0-9]) ;;
  *)
    echo "error: BACKUP_AT is '$at'; write it as HH:MM, such as 03:30" >&2
    exit 2
    ;;
esac
for each in "BACKUP_KEEP_DAYS $days" "BACKUP_KEEP_LEAST $least" "BACKUP_RETRY_SECONDS $again"; do
  case ${each#* } in
    *[!0-9]* | 0* | "")
      echo "error: ${each% *} is '${each#* }'; write a whole number above 0" >&2
      exit 2
      ;;
  esac
done
trap leave EXIT
trap 'exit 0' TERM INT
case ${1:-nightly} in
  nightly) nightly ;;
  once) once ;;
  list) dumps ;;
  health) healthy ;;
  *)
    sed -n '2,6p' "$0" >&2
    exit 2
    ;;
esac
