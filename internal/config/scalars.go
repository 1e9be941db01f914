package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// The errors of a value that has the wrong type. They name the fix and never repeat the value.
var (
	errBool     = errors.New("write true or false")
	errInt      = errors.New("write a whole number")
	errDuration = errors.New("write a duration with its unit, such as 500ms, 30s, 2m or 24h")
	errQuotes   = errors.New(`expected text; what looks like a number, a date, true, false or null needs "quotes"`)
	errList     = errors.New("write a list, such as [one, two]")
	errPairs    = errors.New("write names with values, such as {one: 1, two: b}; in the environment one=1,two=b")
	errSecret   = errors.New("expected text; quote what YAML could read as another type")
	errEmpty    = errors.New("no value; write one or remove the key")
)

// setText sets v, a leaf, from a text: an environment variable or a default.
func setText(v reflect.Value, text string) error {
	return setScalar(v, scalar{Text: text, Kind: envText})
}

// setScalar sets v, a leaf that is no list and no map, from one written value.
func setScalar(v reflect.Value, s scalar) error {
	if s.Kind == tagNull {
		return errEmpty
	}
	switch p := v.Addr().Interface().(type) {
	case *Secret:
		if !s.is(tagString) {
			return errSecret
		}
		*p = NewSecret(s.Text)
	case *string:
		if !s.is(tagString) {
			return errQuotes
		}
		text, err := unquoted(s.Text)
		*p = text
		return err
	case *bool:
		if !s.is(tagBool) || s.Text != "true" && s.Text != "false" {
			return errBool
		}
		*p = s.Text == "true"
		return nil
	case *int:
		n, err := s.integer(strconv.IntSize)
		*p = int(n)
		return err
	case *int64:
		n, err := s.integer(64)
		*p = n
		return err
	case *time.Duration:
		d, err := time.ParseDuration(s.Text)
		if err != nil || !s.is(tagString) {
			return errDuration
		}
		*p = d
		return nil
	case *Size:
		return p.UnmarshalText([]byte(s.Text))
	case *[]string:
		return setList(p, s)
	case *map[string]string:
		return setPairs(p, s)
	default:
		panic("config: a key has an unsupported type: " + v.Type().String())
	}
	return nil
}

// is reports whether the value was written with this YAML type, or comes from the environment, which has none.
func (s scalar) is(tag string) bool { return s.Kind == tag || s.Kind == envText }

func (s scalar) integer(bits int) (int64, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(s.Text, "_", ""), 10, bits)
	if err != nil || !s.is(tagInt) {
		return 0, errInt
	}
	return n, nil
}

func setList(p *[]string, s scalar) error {
	if s.Kind != envText {
		return errList
	}
	list := []string{}
	for item := range strings.SplitSeq(s.Text, ",") {
		item, err := unquoted(strings.TrimSpace(item))
		if err != nil {
			return fmt.Errorf("entry %d: %w", len(list)+1, err)
		}
		if item != "" {
			list = append(list, item)
		}
	}
	*p = list
	return nil
}

func setPairs(p *map[string]string, s scalar) error {
	if s.Kind != envText {
		return errPairs
	}
	pairs := map[string]string{}
	for item := range strings.SplitSeq(s.Text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok || name == "" {
			return errPairs
		}
		value, err := unquoted(strings.TrimSpace(value))
		if err != nil {
			return err
		}
		pairs[strings.TrimSpace(name)] = value
	}
	*p = pairs
	return nil
}

// short writes a duration as people do: 24h and not 24h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
