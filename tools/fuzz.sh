#!/bin/sh
# Fuzzes every target of the module, one after another, each for the time (3s)
# or count (5000x) given. A failure leaves its input in testdata/fuzz, where the
# ordinary tests run it from then on: commit it with the fix.
set -eu
time=${1:?write a time or a count for each target, as in 3s or 5000x}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=

for file in $(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do
	dir=$(dirname "$file")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" >"$log" 2>&1; then
			echo "$(tail -n 1 "$log") $target"
		elif grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic|_test\.go:' "$log"; then
			# golang/go#75804: up to Go 1.26 the end of the time may count as a failure.
			echo "ok  	$dir $target (ended with its time)"
		else
			cat "$log"
			failed="$failed $dir:$target"
		fi
	done
done

if [ -n "$failed" ]; then
	echo "fuzz: failed:$failed" >&2
	exit 1
fi
