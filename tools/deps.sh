#!/bin/sh
# Installs those of the Debian packages named as arguments that are missing.
# Elsewhere it says what the tests need and goes on: the test that misses a
# program names it.
set -eu

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "deps: no Debian here; the tests need what Debian calls: $*"
	exit 0
fi

missing=
for p in "$@"; do
	state=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) || state=
	[ "$state" = "install ok installed" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: as root run: apt-get install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
echo "deps: installing$missing"
$sudo apt-get update -qq </dev/null
# shellcheck disable=SC2086 # one word for each package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null
