package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/db"
)

// inspectCatalog has the server prepare each statement of the catalog.
func (d *target) inspectCatalog(ctx context.Context, report func(Finding)) {
	preparer, ok := d.DB.(db.Preparer)
	if !ok || d.Catalog == nil {
		return
	}
	accepted := 0
	for _, name := range d.Catalog.Names() {
		compiled, _ := d.Catalog.Statement(name).Untyped(d.DB.Dialect()) // was compiled when it was read
		refused := 0
		for i, text := range compiled {
			err := preparer.Prepare(ctx, text)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				report(d.finding(partCatalog, db.GradeFault, fmt.Sprintf("%d of %d statements were checked in time", accepted, len(d.Catalog.Names())),
					"run the check again when the server is less busy"))
				return
			}
			refused++
			place := ""
			if len(compiled) > 1 {
				place = fmt.Sprintf(", statements[%d]", i)
			}
			report(d.finding(partCatalog, db.GradeFault, name+place+": "+messageOf(err),
				"mend "+name+".yaml, or migrate the database; until then its calls fail"))
		}
		if refused == 0 {
			accepted++
		}
	}
	if accepted == len(d.Catalog.Names()) {
		report(d.finding(partCatalog, db.GradeOK, fmt.Sprintf("the server accepts all of %d statements; catalog %s", accepted, d.Catalog.Hash()), ""))
	}
}

// catalogsLimit bounds the reading of heartbeats.
const catalogsLimit = 3 * time.Second

// missedHeartbeats is how many heartbeats in a row a runner may miss before it counts as gone.
const missedHeartbeats = 3

// catalogs compares the catalogs of the runners with each other, and with the folders here.
func (l *natsInspection) catalogs(ctx context.Context, conn *bus.Conn) {
	if len(l.hashes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, catalogsLimit) // without permission no answer comes
	defer cancel()
	found, err := readCatalogs(ctx, conn)
	switch {
	case errors.Is(err, bus.ErrNotFound): // no runner has ever started here: there is nothing to compare
		return
	case err != nil:
		l.find(aboutNATS, partCatalog, db.GradeNote, "the catalogs of the runners were not compared: "+err.Error(),
			"allow STREAM.INFO and STREAM.MSG.GET of the stream "+conn.Subjects().HealthStream())
		return
	}
	for _, database := range slices.Sorted(maps.Keys(l.hashes)) {
		hashes, own := found[database], l.hashes[database]
		switch {
		case len(hashes) > 1:
			l.find(database, partCatalog, db.GradeWarning, "the runners have different catalogs: "+catalogText(hashes),
				"give all the same folder and restart them; until then each decides by its own")
		case len(hashes) == 1 && hashes[own] == nil:
			l.find(database, partCatalog, db.GradeNote, "the folder here has the catalog "+catalogName(own)+", and the runners have "+catalogText(hashes),
				"restart the runners to change their catalog")
		}
	}
}

// readCatalogs returns the runners of each catalog of each database, by the heartbeats of those that are alive.
func readCatalogs(ctx context.Context, conn *bus.Conn) (map[string]map[string][]string, error) {
	stream := conn.Subjects().HealthStream()
	var info struct {
		Now time.Time `json:"ts"`
	}
	if err := conn.API(ctx, "STREAM.INFO."+stream, nil, &info); err != nil {
		return nil, err
	}
	out := map[string]map[string][]string{}
	for next := uint64(1); ; {
		m, err := bus.GetMessage(ctx, conn, stream, bus.GetRequest{Sequence: next, NextFor: conn.Subjects().DatabaseHealth("*", "*")})
		if err != nil || m == nil {
			return out, err
		}
		next = m.Sequence + 1
		var h contract.DatabaseHeartbeat
		if json.Unmarshal(m.Data, &h) != nil || h.RunnerState == contract.RunnerStopped ||
			info.Now.Sub(m.Time) > time.Duration(missedHeartbeats*h.Interval*float64(time.Second)) {
			continue
		}
		if out[h.Database] == nil {
			out[h.Database] = map[string][]string{}
		}
		out[h.Database][h.Catalog] = append(out[h.Database][h.Catalog], h.Instance)
	}
}

func catalogName(hash string) string {
	if hash == "" {
		return "none"
	}
	return hash
}

func catalogText(hashes map[string][]string) string {
	var texts []string
	for _, hash := range slices.Sorted(maps.Keys(hashes)) {
		texts = append(texts, catalogName(hash)+" on "+strings.Join(hashes[hash], ", "))
	}
	return strings.Join(texts, "; ")
}
