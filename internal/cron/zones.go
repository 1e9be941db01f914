package cron

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// zoneinfo is the time zone database of the Go distribution (lib/time/zoneinfo.zip). time.LoadLocation would prefer the
// host's, so that two runners of one build could disagree.
//
//go:embed zoneinfo.zip
var zoneinfo []byte

// Zones are the time zones of the embedded database. It is safe for concurrent use.
type Zones struct {
	mu     sync.Mutex
	files  map[string]*zip.File // read with the first zone
	loaded map[string]*time.Location
}

// NewZones returns the zones of the embedded database.
func NewZones() *Zones {
	return &Zones{loaded: map[string]*time.Location{"": time.UTC, "UTC": time.UTC}}
}

// Load returns a zone by its name in the IANA database; the empty name is UTC.
func (z *Zones) Load(name string) (*time.Location, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if location := z.loaded[name]; location != nil {
		return location, nil
	}
	if z.files == nil {
		archive, err := zip.NewReader(bytes.NewReader(zoneinfo), int64(len(zoneinfo)))
		if err != nil {
			return nil, fmt.Errorf("read the time zone database: %w", err)
		}
		z.files = make(map[string]*zip.File, len(archive.File))
		for _, f := range archive.File {
			z.files[f.Name] = f
		}
	}
	file := z.files[name]
	if file == nil || strings.HasSuffix(name, "/") {
		return nil, fmt.Errorf("time zone %q is not known; write a name of the IANA database such as Europe/Berlin, or leave it out for UTC", clip(name))
	}
	location, err := readZone(file)
	if err != nil {
		return nil, fmt.Errorf("read the time zone %s: %w", name, err)
	}
	z.loaded[name] = location
	return location, nil
}

func readZone(file *zip.File) (*time.Location, error) {
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was read whole
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(file.Name, data)
}
