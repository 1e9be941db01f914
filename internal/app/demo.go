package app

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/bus/embedded"
	"dbrunner/internal/config"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/jobs"
	"dbrunner/internal/manager"
)

// DemoDatabase is the name of the demonstration's database.
const DemoDatabase = "demo"

// demoFiles are the demonstration's migrations and its catalog. The world starts with the first one applied.
//
//go:embed demo/*.sql democatalog/*.yaml
var demoFiles embed.FS

const demoVersion = "1"

// Demo is a small world in one process: a NATS server, a database with some data, and the configuration of a runner
// for both.
type Demo struct {
	Config *config.Config
	File   string // of the database
	// Migrations are the migrations of its database, for Options.
	Migrations map[string]fs.FS

	nats *embedded.Server
	dir  string
}

// NewDemo makes the world in a temporary folder. Port 0 takes a free one. The owner calls Close.
func NewDemo(ctx context.Context, port int, log *zap.Logger) (*Demo, error) {
	dir, err := os.MkdirTemp("", "dbrunner-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	d := &Demo{dir: dir, File: filepath.Join(dir, "demo.db")}
	if err := d.start(ctx, port, log); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return d, nil
}

// start starts the server and creates the demonstration's tables by a migration.
func (d *Demo) start(ctx context.Context, port int, log *zap.Logger) (err error) {
	if port != 0 { // the server would only log that it cannot use the port
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return fmt.Errorf("port %d cannot be used: %w", port, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	server, err := embedded.Start(embedded.Options{Dir: filepath.Join(d.dir, "nats"), Port: port, Logger: log})
	if err != nil {
		return err
	}
	d.nats = server
	folder := filepath.Join(d.dir, "catalog")
	statements, err := fs.Sub(demoFiles, "democatalog")
	if err != nil {
		return err
	}
	if err := os.CopyFS(folder, statements); err != nil {
		return fmt.Errorf("write the demo's catalog: %w", err)
	}
	if d.Config, err = demoConfig(server.URL(), d.File, folder); err != nil {
		return err
	}
	files, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		return err
	}
	d.Migrations = map[string]fs.FS{DemoDatabase: files}
	m, err := manager.OpenMigrations(d.Config, DemoDatabase, files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := m.Run(ctx, migration.Request{Action: migration.Up, Target: demoVersion, Timeout: time.Minute}); err != nil {
		return fmt.Errorf("fill the demo's database: %w", err)
	}
	return nil
}

// URL is where NATS clients connect.
func (d *Demo) URL() string { return d.nats.URL() }

// Close stops the server and removes everything, also when ctx has ended.
func (d *Demo) Close(ctx context.Context) error {
	var err error
	if d.nats != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = d.nats.Close(ctx)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// demoConfig is a configuration with bounds that fit a laptop.
func demoConfig(url, file, catalog string) (*config.Config, error) {
	const mebibyte = 1 << 20
	cfg := config.Default()
	cfg.Instance = "demo-runner"
	cfg.NATS.URLs = []string{url}
	cfg.Log.Level, cfg.Log.Format = "warn", "console"
	cfg.Topology.Jobs.MaxBytes = 64 * mebibyte
	cfg.Topology.Results.MaxBytes = 256 * mebibyte
	cfg.Topology.Results.MaxCount = 200_000
	cfg.Topology.Dead.MaxBytes = 64 * mebibyte
	cfg.Topology.Rows.MaxBytes = 256 * mebibyte
	cfg.Topology.Params.MaxBytes = 64 * mebibyte
	cfg.Defaults.Output.MaxBytes = 128 * mebibyte
	cfg.Defaults.Health.PendingMigrations = config.PendingIgnore // the second one is a step of the demonstration
	database := cfg.Defaults.NewDatabase("sqlite", config.NewSecret(file))
	database.Kinds, database.Catalog.Folder = jobs.Kinds(), catalog
	cfg.Databases[DemoDatabase] = database
	if err := cfg.Complete(manager.Words()); err != nil {
		return nil, fmt.Errorf("configure the demo: %w", err)
	}
	return cfg, nil
}
