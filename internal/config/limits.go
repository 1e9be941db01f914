package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
)

const nameRule = "write 1 to 64 of A-Z a-z 0-9 _ -"

// limiter checks each value against its own tags.
type limiter struct {
	faults *collector
	words  Words
	client bool
}

// section checks all keys below path.
func (l *limiter) section(v reflect.Value, path string) {
	for _, k := range keysOf(v.Type()) {
		field, at := v.FieldByIndex(k.index), join(path, k.name)
		switch {
		case isSection(k.field.Type):
			l.section(field, at)
		case k.field.Tag.Get("each") != "":
			l.each(field, at, k.field.Tag.Get("each"))
		case l.faults.sound(at) && !l.inherited(at):
			if message := l.leaf(field, k.field.Tag, at); message != "" {
				l.faults.add(at, message)
			}
		}
	}
}

func (l *limiter) each(field reflect.Value, path, each string) {
	elements := field.Interface()
	switch m := elements.(type) {
	case map[string]*Database:
		for _, name := range slices.Sorted(maps.Keys(m)) {
			l.section(reflect.ValueOf(m[name]).Elem(), join(path, name))
		}
	case map[string]*KindLimits:
		for _, kind := range slices.Sorted(maps.Keys(m)) {
			at := join(path, kind)
			if message := oneOf(kind, l.words.Kinds); message != "" && !l.inherited(at) {
				l.faults.add(at, "unknown kind; "+message)
			}
			l.section(reflect.ValueOf(m[kind]).Elem(), at)
		}
	case map[string]*Queue:
		for _, name := range slices.Sorted(maps.Keys(m)) {
			at := join(path, name)
			if !contract.ValidQueue(name) {
				l.faults.add(at, "invalid queue name; "+queueRule)
			}
			l.section(reflect.ValueOf(m[name]).Elem(), at)
		}
	default:
		panic("config: no check exists for the elements of " + path + ", each a " + each)
	}
}

// inherited reports whether a database's value at path comes from the defaults and has been reported there.
func (l *limiter) inherited(path string) bool {
	below, ok := strings.CutPrefix(path, databasesStart)
	if !ok {
		return false
	}
	if _, written := l.faults.origins[path]; written {
		return false
	}
	_, rest, _ := strings.Cut(below, ".")
	if l.faults.sound(join(defaultsKey, rest)) {
		return false
	}
	l.faults.faulty[path] = true
	return true
}

// leaf returns what is wrong with a value; nothing if it is in order.
func (l *limiter) leaf(v reflect.Value, tag reflect.StructTag, path string) string {
	_, written := l.faults.origins[path]
	if v.IsZero() && !written && tag.Get("auto") != "" {
		return "" // what it follows from decides
	}
	switch value := v.Interface().(type) {
	case int, int64, Size, time.Duration:
		if words := tag.Get("oneof"); words != "" {
			return oneOf(fmt.Sprint(v.Interface()), strings.Split(words, "|"))
		}
		lowest, least := bound(v.Type(), tag.Get("min"))
		highest, most := bound(v.Type(), tag.Get("max"))
		switch {
		case least && most && (v.Int() < lowest || v.Int() > highest):
			return "write a value from " + tag.Get("min") + " to " + tag.Get("max")
		case least && v.Int() < lowest:
			return "write at least " + tag.Get("min")
		case most && v.Int() > highest:
			return "write at most " + tag.Get("max")
		}
		return ""
	case string:
		if words := tag.Get("oneof"); words != "" {
			return oneOf(value, strings.Split(words, "|"))
		}
		format := tag.Get("format")
		if value == "" {
			switch {
			case tag.Get("default") != "" || tag.Get("auto") != "":
				return errEmpty.Error()
			case format == "engine" && !l.client:
				return "missing; " + oneOf("", l.words.Engines) + "; or in the environment " + envName(path)
			}
			return ""
		}
		return l.format(value, format)
	case []string:
		return l.list(value, tag)
	case Secret:
		if value.Empty() && !l.client && path == join(databaseOf(path), "connection_string") &&
			l.faults.sound(path+fileSuffix) {
			return "missing; write it here, in a file named by " + path[strings.LastIndex(path, ".")+1:] + fileSuffix +
				", or in the environment as " + envName(path)
		}
	}
	return ""
}

// databaseOf returns the part of a path that names a database; empty if it is no path of a database.
func databaseOf(path string) string {
	below, ok := strings.CutPrefix(path, databasesStart)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(below, ".")
	return databasesStart + name
}

func bound(t reflect.Type, text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	v := reflect.New(t).Elem()
	if err := setText(v, text); err != nil {
		panic("config: a limit does not fit its key: " + text)
	}
	return v.Int(), true
}

// format returns what is wrong with a text that has to have a form. It never repeats the text.
func (l *limiter) format(value, format string) string {
	switch format {
	case "name":
		return unless(isName(value), nameRule)
	case "subject":
		return unless(isSubject(value), "write a NATS subject: words joined by dots, without blanks and wildcards")
	case "prefix":
		plain, dot := strings.CutSuffix(value, ".")
		return unless(dot && isSubject(plain), "write the first words of a NATS subject and a dot, such as flows.answers.")
	case "url":
		u, err := url.Parse(value)
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			return "write a URL such as nats://host:4222, tls://host:4222 or wss://host:443"
		case u.User != nil:
			return "write no user, password or token in the URL; they have keys of their own: nats.user, nats.password, nats.token"
		}
		return ""
	case "file":
		info, err := os.Stat(value)
		switch {
		case err != nil:
			return fileError(err).Error()
		case info.IsDir():
			return "this is a folder; write a file name"
		case !info.Mode().IsRegular():
			return "" // opening a pipe would wait for its writer
		}
		f, err := os.Open(value)
		if err != nil {
			return fileError(err).Error()
		}
		_ = f.Close()
		return ""
	case "address":
		return unless(isAddress(value), "write a host, or none for all, and a port, such as :8080 or 127.0.0.1:8080")
	case "engine":
		return oneOf(value, l.words.Engines)
	case "kind":
		return oneOf(value, l.words.Kinds)
	case "effect":
		return oneOf(value, l.words.Effects)
	case "reason":
		return oneOf(value, l.words.DeadLetters)
	default:
		return ""
	}
}

func (l *limiter) list(values []string, tag reflect.StructTag) string {
	if len(values) == 0 && tag.Get("default") != "" {
		return errEmpty.Error()
	}
	for i, value := range values {
		message := l.format(value, tag.Get("format"))
		switch {
		case value == "":
			message = errEmpty.Error()
		case slices.Contains(values[:i], value):
			message = "duplicate entry; remove it"
		}
		if message != "" {
			return "entry " + strconv.Itoa(i+1) + ": " + message
		}
	}
	return ""
}

func unless(ok bool, message string) string {
	if ok {
		return ""
	}
	return message
}

func oneOf(value string, words []string) string {
	if slices.Contains(words, value) {
		return ""
	}
	return "write one of " + strings.Join(words, ", ")
}

// isSubject reports whether a text is a subject that one may publish to.
func isSubject(text string) bool {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsFunc(token, notInSubject) {
			return false
		}
	}
	return true
}

func notInSubject(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }

// isAddress reports whether a server can listen there; port 0 takes a free one.
func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, " \t/@") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
