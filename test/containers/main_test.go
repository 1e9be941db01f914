// Package containers_test shows that the image and docker-compose.yml work: with a real Docker daemon, real NATS nodes and a real
// PostgreSQL server. Where no image can be pulled, they are made from Debian's packages. It is a module of its own, so that none of
// this is a dependency of the runner.
package containers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// root is the folder with the Dockerfile and docker-compose.yml.
	root = "../.."
	// built is the folder for all that the tests build, which Git ignores.
	built = root + "/.bin/containers"
	// image is the image that docker-compose.yml names for the runners.
	image = "dbrunner:local"
)

// withoutSQLServer reports that SQL Server's image could not be pulled: its maker alone has it.
var withoutSQLServer bool

// TestMain starts a daemon if the machine has none, and provides all images, before a test asks for them.
func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if err := os.MkdirAll(built, 0o755); err != nil {
		return 0, err
	}
	own, err := startDaemon(ctx)
	if err != nil {
		return 0, err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.stop()) }()
	}
	if err := buildCompose(ctx); err != nil {
		return 0, err
	}
	if err := provideImages(ctx, own != nil); err != nil {
		return 0, err
	}
	fmt.Println("building", image)
	if _, err := docker(ctx, "build", "--tag", image, root); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// buildCompose builds Compose from its module: Debian's is too old for the file.
func buildCompose(ctx context.Context) error {
	fmt.Println("building Compose")
	_, err := command(ctx, "go", "build", "-o", built+"/docker-compose", "github.com/docker/compose/v2/cmd")
	return err
}

// compose runs Compose with the files of the tests.
func compose(ctx context.Context, profile string, args ...string) (string, error) {
	all := []string{"--project-name", "dbrunner-test", "--file", root + "/docker-compose.yml", "--file", "testdata/memory.yml"}
	if withoutSQLServer {
		all = append(all, "--file", "testdata/without-sqlserver.yml")
	}
	all = append(all, "--profile", profile)
	return command(ctx, built+"/docker-compose", append(all, args...)...)
}

// docker runs a command of Docker and returns what it wrote, without the line's end.
func docker(ctx context.Context, args ...string) (string, error) {
	return command(ctx, "docker", args...)
}

// command runs a command and returns what it wrote to its standard output; the error has what it wrote to the other stream.
func command(ctx context.Context, name string, args ...string) (string, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out.String(), problems.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// daemon is a Docker daemon that the tests started.
type daemon struct {
	process *exec.Cmd
	ended   chan error
	folder  string
}

// startDaemon returns nil if a daemon answers already. Otherwise it starts one, which keeps its images in the folder of what is
// built, and waits until it answers. It must run as root.
func startDaemon(ctx context.Context) (*daemon, error) {
	if _, err := docker(ctx, "info"); err == nil {
		return nil, nil
	}
	folder, err := os.MkdirTemp("", "docker")
	if err != nil {
		return nil, err
	}
	data, err := filepath.Abs(built + "/docker")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(built + "/dockerd.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	address := "unix://" + folder + "/docker.sock"
	d := &daemon{ended: make(chan error, 1), folder: folder}
	d.process = exec.Command("dockerd", "--data-root", data, "--exec-root", folder+"/exec", "--pidfile", folder+"/pid",
		"--host", address, "--config-file", folder+"/none.json")
	if err := os.WriteFile(folder+"/none.json", []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return nil, fmt.Errorf("no Docker daemon answers, and none could be started: %w", err)
	}
	go func() { d.ended <- d.process.Wait() }()
	os.Setenv("DOCKER_HOST", address)
	os.Setenv("DOCKER_BUILDKIT", "0")                                                   // Debian's package has no buildx
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) { // by the clock: the daemon says nothing when it is ready
		if _, err = docker(ctx, "info"); err == nil {
			return d, nil
		}
		select {
		case failed := <-d.ended:
			return nil, fmt.Errorf("the Docker daemon ended (%w): see %s", failed, log.Name())
		default:
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(err, d.stop())
		}
	}
}

func (d *daemon) stop() error {
	err := d.process.Process.Signal(os.Interrupt)
	return errors.Join(err, <-d.ended, os.RemoveAll(d.folder))
}
