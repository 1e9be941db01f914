package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// substitutes has a function for each image of others that the Dockerfile and docker-compose.yml name: it makes one that behaves
// alike, from Debian's packages and Go's modules. Nil: there is none.
var substitutes = map[string]func(ctx context.Context, name string) error{
	"golang":                         makeGolang,
	"nats":                           makeNATS,
	"postgres":                       makePostgres,
	"mcr.microsoft.com/mssql/server": nil,
}

// imageNames returns the images of others that the two files name.
func imageNames() ([]string, error) {
	dockerfile, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(root + "/docker-compose.yml")
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\S+)$`).FindSubmatch(dockerfile)
	if version == nil {
		return nil, errors.New("the Dockerfile names no GO_VERSION")
	}
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^FROM (\S+)|^ +image: (\S+)$`).FindAllSubmatch(append(dockerfile, file...), -1) {
		name := strings.ReplaceAll(string(found[1])+string(found[2]), "${GO_VERSION}", string(version[1]))
		if name != "scratch" && name != image {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// provideImages pulls what the daemon lacks. A daemon of the tests gets a substitute for what cannot be pulled; on another, which
// keeps the images of its owner, that is an error.
func provideImages(ctx context.Context, own bool) error {
	names, err := imageNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := docker(ctx, "image", "inspect", name); err == nil {
			continue
		}
		fmt.Println("pulling", name)
		within, cancel := context.WithTimeout(ctx, 10*time.Minute)
		_, pulled := docker(within, "pull", "--quiet", name)
		cancel()
		if pulled == nil {
			continue
		}
		repository, _, _ := strings.Cut(name, ":")
		substitute, known := substitutes[repository]
		switch {
		case !known:
			return fmt.Errorf("%s cannot be pulled, and the tests have no substitute: %w", name, pulled)
		case substitute == nil:
			fmt.Println("SKIPPED: everything with", name+": it cannot be pulled")
			withoutSQLServer = true
		case !own:
			return fmt.Errorf("%s cannot be pulled: %w", name, pulled)
		default:
			fmt.Println("making a substitute of", name)
			if err := substitute(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeDebian imports a minimal Debian with these packages as an image.
func makeDebian(ctx context.Context, name string, packages ...string) error {
	if _, err := docker(ctx, "image", "inspect", name); err == nil {
		return nil
	}
	folder, err := os.MkdirTemp("", "debian")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if _, err := command(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), "bookworm", folder); err != nil {
		return err
	}
	// Numbers of users must stay as they are.
	archive := exec.CommandContext(ctx, "tar", "--directory", folder, "--numeric-owner", "--create", ".")
	load := exec.CommandContext(ctx, "docker", "import", "-", name)
	if load.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := load.Start(); err != nil {
		return err
	}
	return errors.Join(archive.Run(), load.Wait())
}

const debian = "dbrunner-test/debian"

// makeNATS builds the server from its module.
func makeNATS(ctx context.Context, name string) error {
	if err := makeDebian(ctx, debian, "ca-certificates", "wget"); err != nil {
		return err
	}
	return buildImage(ctx, name, "testdata/nats", func(folder string) error {
		_, err := command(ctx, "env", "CGO_ENABLED=0", "go", "build", "-o", folder+"/nats-server", "github.com/nats-io/nats-server/v2")
		return err
	})
}

func makePostgres(ctx context.Context, name string) error {
	if err := makeDebian(ctx, "dbrunner-test/postgres", "ca-certificates", "postgresql"); err != nil {
		return err
	}
	return buildImage(ctx, name, "testdata/postgres", func(string) error { return nil })
}

// makeGolang copies this machine's toolchain, and the modules that the runner needs: a build in the image reaches no proxy.
func makeGolang(ctx context.Context, name string) error {
	if err := makeDebian(ctx, debian, "ca-certificates", "wget"); err != nil {
		return err
	}
	goroot, err := command(ctx, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	return buildImage(ctx, name, "testdata/golang", func(folder string) error {
		if _, err := command(ctx, "cp", "-a", goroot, folder+"/go"); err != nil {
			return err
		}
		cache, err := os.MkdirTemp("", "modules")
		if err != nil {
			return err
		}
		defer os.RemoveAll(cache)
		download := exec.CommandContext(ctx, "go", "mod", "download")
		download.Dir = root
		download.Env = append(os.Environ(), "GOMODCACHE="+cache, "GOFLAGS=-modcacherw")
		if text, err := download.CombinedOutput(); err != nil {
			return fmt.Errorf("go mod download: %w\n%s", err, text)
		}
		return os.Rename(cache+"/cache/download", folder+"/modules")
	})
}

// buildImage builds an image of the files in a folder, and of what add puts beside them.
func buildImage(ctx context.Context, name, files string, add func(folder string) error) error {
	folder, err := os.MkdirTemp(built, "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if folder, err = filepath.Abs(folder); err != nil {
		return err
	}
	if _, err := command(ctx, "cp", "-a", files+"/.", folder); err != nil {
		return err
	}
	if err := add(folder); err != nil {
		return err
	}
	_, err = docker(ctx, "build", "--tag", name, folder)
	return err
}

// TestImage holds what the Dockerfile promises.
func TestImage(t *testing.T) {
	user, err := docker(t.Context(), "image", "inspect", "--format", "{{.Config.User}}", image)
	require.NoError(t, err)
	require.Equal(t, "10001:10001", user)
	size, err := docker(t.Context(), "image", "inspect", "--format", "{{.Size}}", image)
	require.NoError(t, err)
	t.Logf("the image has %s bytes", size)
	// It starts on a read-only file system, without any privilege and without a network.
	version, err := docker(t.Context(), "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "--memory", "128m", image, "version")
	require.NoError(t, err)
	require.NotEmpty(t, version)
	// Nothing else is in it: no shell.
	_, err = docker(t.Context(), "run", "--rm", "--entrypoint", "/bin/sh", image, "-c", "true")
	require.ErrorContains(t, err, "no such file or directory")
}
