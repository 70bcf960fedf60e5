#!/bin/sh
# Makes a ClickHouse that runs on a bare machine, once, and prints the folder where it is kept: `server` and `library`.
#
#   sh install.sh
#
# The library comes as an npm package (178 MB to fetch, 543 MB on disk); it needs npm and a C compiler. It is kept in
# CLICKHOUSE_HOME, by default in the cache folder of this user.
set -eu
package=@chdb/lib-linux-x64-gnu version=26.7.3-stable.1
here=$(cd "$(dirname "$0")" && pwd)
home=${CLICKHOUSE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/bowline/clickhouse}
mkdir -p "$home"
exec 9>"$home/lock"
flock 9 # Those that begin at once install it once.
if [ "$(cat "$home/version" 2>/dev/null || true)" != "$version" ]; then
    npm install --prefix "$home" --no-audit --no-fund --no-save "$package@$version" >&2
    ln -sf "node_modules/$package/libchdb.so" "$home/library"
    echo "$version" >"$home/version"
fi
if [ ! -x "$home/server" ] || [ "$here/server.c" -nt "$home/server" ]; then
    cc -O1 -Wall -o "$home/server.made" "$here/server.c" -ldl -lpthread
    mv "$home/server.made" "$home/server" # One that runs keeps its file.
fi
echo "$home"
