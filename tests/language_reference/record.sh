#!/bin/sh
# Records what bpftrace prints for the programs here: NAME.txt and NAME.json for NAME.bt. Run as
# root; see README.md. Programs marked `// newer:` are left alone: their output is written by hand.
# With names, only those.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O1 -g -o "$work/target" "$here/target.c"
cd "$work"
mark=@@@@

# What bpftrace 0.17 prints, as releases since 0.24 print it: no space after the name above a
# histogram, stats in braces, no empty line after averages and stats, and after the line that marks
# the end none for a map that holds nothing. $1: names of maps that hold averages or stats.
newer_text() {
	awk -v averages="$1" -v mark="$mark" '
	function put(line) {
		if (held != "") print (line ~ /^[\[(].*[|]$/ ? substr(held, 1, length(held) - 1) : held)
		held = ""
	}
	BEGIN { n = split(averages, names, " "); for (i = 1; i <= n; i++) average[names[i]] = 1 }
	$0 == mark { put(""); ended = 1; empty = 0; before = ""; next }
	{
		if ($0 == "" && (averaged || ended && ++empty > 2 && before !~ /[|]$/)) { averaged = 0; next }
		put($0)
		before = $0
		name = $0; sub(/[\[:].*/, "", name)
		averaged = name in average
		if ($0 ~ /^@.*: count [0-9]+, average -?[0-9]+, total -?[0-9]+$/) {
			line = $0; sub(/: count .*/, "", line)
			split(substr($0, length(line) + 3), word, /[ ,]+/)
			$0 = line ": { .count = " word[2] ", .average = " word[4] ", .total = " word[6] " }"
		}
		if ($0 ~ /^@.*: $/) held = $0; else print
	}
	END { put("") }'
}

if [ $# -eq 0 ]; then
	for program in "$here"/*.bt; do
		set -- "$@" "$(basename "$program" .bt)"
	done
fi
for name; do
	program=$here/$name.bt
	if grep -q '^// newer:' "$program"; then
		continue
	fi
	if grep -q '^// linger:' "$program"; then
		LINGER=1
		export LINGER
	else
		unset LINGER
	fi
	# One processor: events of several come in any order.
	run="taskset -c 0 timeout 30 bpftrace -q marked.bt -c ./target"
	cp "$program" marked.bt
	grep -q '^END' "$program" || printf 'END { printf("%s\\n"); }\n' "$mark" >> marked.bt
	if ! $run > text 2> errors; then
		echo "$name: $(cat errors)" >&2
		continue
	fi
	$run -f json > json 2>> errors
	averages=$(grep -o '@[a-z]*\(\[[^]]*\]\)\? = \(avg\|stats\)(' "$program" | sed 's/[[ ].*//' | sort -u | tr '\n' ' ')
	newer_text "$averages" < text > "$here/$name.txt"
	grep -v "^$\|$mark" json > "$here/$name.json"
	grep -v RLIMIT_MEMLOCK errors | sed "s/^/$name: /" >&2 || true
done
