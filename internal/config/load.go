package config

import (
	"errors"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
)

// maxFileBytes bounds the file. Its own settings would fit a hundred times.
const maxFileBytes = 1 << 20

// Words are the words of the contract and of the engines that a configuration may use. They are the caller's:
// this package knows none of them.
type Words struct {
	Engines     []string
	Kinds       []string
	OwnSlots    []string // kinds whose lane has as many slots of its own as lane work
	Effects     []string
	DeadLetters []string // ends of jobs that can leave a dead letter
}

// Options define where a configuration is read from.
type Options struct {
	File    string   // a YAML file; empty: the environment alone
	Environ []string // as os.Environ gives it; nil: no environment
	Words   Words

	// Client is for commands that speak only to NATS: databases may be missing or incomplete, and the files
	// with their secrets are not read.
	Client bool
}

// Load reads file, environment and secret files, fills in what follows from other settings and checks it all.
// The environment goes before the file, the file before the defaults. The error is a *Faults with everything
// that is wrong; no fault holds a secret.
func Load(o Options) (*Config, error) {
	text, err := readFile(o.File)
	if err != nil {
		return nil, &Faults{List: []Fault{{Message: "the configuration file " + o.File + ": " + err.Error()}}}
	}
	return load(text, o)
}

func load(text []byte, o Options) (*Config, error) {
	faults := newCollector()
	written, names, err := layers(text, o.Environ, o.Words, faults)
	if err != nil {
		return nil, faults.err()
	}
	cfg := Default()
	b := &binder{faults: faults, files: !o.Client}
	b.section(reflect.ValueOf(cfg).Elem(), written, "")
	b.databases(cfg, written, names)
	cfg.complete(o.Words, o.Client, faults)
	if err := faults.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Default returns the configuration with all defaults. It has no database yet.
func Default() *Config {
	cfg := &Config{Databases: map[string]*Database{}}
	setDefaults(reflect.ValueOf(cfg).Elem())
	return cfg
}

// Complete fills in what follows from other settings and checks everything, as Load does: for a configuration
// that a program made. The error is a *Faults.
func (c *Config) Complete(w Words) error {
	faults := newCollector()
	c.complete(w, false, faults)
	return faults.err()
}

// layers merges the file and the environment, and returns the names of all databases.
func layers(text []byte, environ []string, w Words, faults *collector) (map[string]any, []string, error) {
	doc := &document{faults: faults}
	written, err := doc.read(text)
	if err != nil {
		return nil, nil, err
	}
	env := &environment{vars: parseEnviron(environ), words: w, file: written, faults: faults}
	env.findDatabases()
	env.overlay(written)
	env.findUnread()
	return written, env.databases, nil
}

// databases gives each database the defaults and then what is written for it.
func (b *binder) databases(cfg *Config, written map[string]any, names []string) {
	below, ok := map[string]any(nil), true
	if value, there := written[databasesKey]; there {
		below, ok = b.below(value, databasesKey)
	}
	if !ok {
		return
	}
	for _, name := range names {
		d := &Database{Defaults: cfg.Defaults.clone()}
		cfg.Databases[name] = d
		at := join(databasesKey, name)
		value, there := below[name]
		if !there {
			continue
		}
		if keys, ok := b.below(value, at); ok {
			b.section(reflect.ValueOf(d).Elem(), keys, at)
			keepAtMost(d, keys, written[defaultsKey])
		}
	}
}

// keepAtMost keeps no more connections open than there may be, if the number is not configured.
func keepAtMost(d *Database, keys map[string]any, defaults any) {
	shared, _ := defaults.(map[string]any)
	for _, section := range []map[string]any{keys, shared} {
		pool, _ := section["pool"].(map[string]any)
		if _, there := pool["min"]; there {
			return
		}
	}
	d.Pool.Min = min(d.Pool.Min, d.Pool.Max)
}

func setDefaults(v reflect.Value) {
	for _, k := range keysOf(v.Type()) {
		field := v.FieldByIndex(k.index)
		if isSection(k.field.Type) {
			setDefaults(field)
			continue
		}
		text, ok := k.field.Tag.Lookup("default")
		if !ok {
			continue
		}
		if err := setText(field, text); err != nil {
			panic("config: the default of " + k.name + " does not fit: " + err.Error())
		}
	}
}

func readFile(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fileError(err)
	}
	if len(text) > maxFileBytes {
		return nil, errors.New("larger than 1 MiB; this is not a configuration file")
	}
	return text, nil
}

// sortedNames returns the names of the configured databases in order.
func (c *Config) sortedNames() []string { return slices.Sorted(maps.Keys(c.Databases)) }
