package policy

import (
	"strconv"
	"strings"
)

// lineIndex tells on which line of a TOML text a key stands. It is no parser:
// it is asked only about texts that the real one has read, and for what it
// does not know (a key in an inline table) it answers with the key around it.
type lineIndex map[string]int

func indexLines(text string) lineIndex {
	ix := lineIndex{}
	arrays := map[string]int{} // tables in [[path]] so far
	table, depth, quote := "", 0, ""
	for i, line := range strings.Split(text, "\n") {
		if quote == "" && depth == 0 {
			trimmed := strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(trimmed, "[["):
				path, _, _ := strings.Cut(trimmed[2:], "]]")
				path = resolve(joinKey(path), arrays)
				table = path + "[" + strconv.Itoa(arrays[path]) + "]"
				arrays[path]++
				ix.add(table, i+1)
				continue
			case strings.HasPrefix(trimmed, "["):
				path, _, _ := strings.Cut(trimmed[1:], "]")
				table = resolve(joinKey(path), arrays)
				ix.add(table, i+1)
				continue
			}
			if key, rest, ok := cutKey(trimmed); ok {
				path := joinKey(key)
				if table != "" {
					path = table + "." + path
				}
				ix.add(path, i+1)
				line = rest
			}
		}
		depth, quote = scanValue(line, depth, quote)
	}
	return ix
}

func (ix lineIndex) add(path string, line int) {
	if _, known := ix[path]; !known {
		ix[path] = line
	}
}

// find returns the line of the key or of the nearest key around it, 0 for none.
func (ix lineIndex) find(path string) int {
	for path != "" {
		if line, ok := ix[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// resolve puts the index of the latest table into each part of the path that
// is an array of tables.
func resolve(path string, arrays map[string]int) string {
	parts := strings.Split(path, ".")
	out := ""
	for i, part := range parts {
		if out != "" {
			out += "."
		}
		out += part
		if n := arrays[out]; n > 0 && i < len(parts)-1 {
			out += "[" + strconv.Itoa(n-1) + "]"
		}
	}
	return out
}

// joinKey drops the spaces and quotes of a dotted key.
func joinKey(key string) string {
	parts := strings.Split(key, ".")
	for i, part := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(part), `"'`)
	}
	return strings.Join(parts, ".")
}

func cutKey(line string) (key, value string, ok bool) {
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	return strings.Cut(line, "=")
}

// scanValue follows brackets and strings through a line of a value, to tell
// whether the value goes on in the next.
func scanValue(line string, depth int, quote string) (int, string) {
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		if quote != "" {
			switch {
			case strings.HasPrefix(rest, quote):
				i += len(quote) - 1
				quote = ""
			case rest[0] == '\\' && quote[0] == '"':
				i++
			}
			continue
		}
		switch rest[0] {
		case '#':
			return depth, ""
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '"', '\'':
			quote = rest[:1]
			if triple := strings.Repeat(quote, 3); strings.HasPrefix(rest, triple) {
				quote = triple
				i += 2
			}
		}
	}
	if len(quote) == 1 {
		quote = "" // a string of one line cannot go on
	}
	return max(depth, 0), quote
}
