package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
)

func pgTerminate(ctx context.Context, r *round, _ *rand.Rand) (string, error) {
	return "", r.world.exec(ctx, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+r.database+`'`)
}

// pgKill kills one session's process: the server then ends all others and restarts by itself.
func pgKill(ctx context.Context, r *round, _ *rand.Rand) (string, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	conn, err := pgx.Connect(ctx, r.world.postgres.URL("postgres"))
	if err != nil {
		return "", err
	}
	var pid int
	err = conn.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = $1 ORDER BY state = 'active' DESC LIMIT 1`, r.database).Scan(&pid)
	_ = conn.Close(ctx)
	if err != nil {
		return "", err
	}
	return "", errors.Join(syscall.Kill(pid, syscall.SIGKILL), r.world.postgres.Await()) //nolint:contextcheck // it bounds its own start
}

func pgRestart(_ context.Context, r *round, _ *rand.Rand) (string, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	return "", r.world.postgres.Restart(dbtest.StopImmediate) //nolint:contextcheck // it bounds its own start
}

func pgStop(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	d := 200*time.Millisecond + time.Duration(rng.Int64N(int64(2*ackWait)))
	err := r.world.postgres.Signal(syscall.SIGSTOP)
	_ = wait(ctx, d)
	return d.String(), errors.Join(err, r.world.postgres.Signal(syscall.SIGCONT))
}

// cut waits for an armed cut, but not for long.
func (r *round) cut(ctx context.Context, happened <-chan struct{}) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	select {
	case <-happened:
		return "", nil
	case <-ctx.Done():
		r.world.proxy.Disarm()
		return "no commit", nil
	}
}

// pgCut arms the proxy and waits for the cut.
func pgCut(arm func(*cutproxy.Proxy, func(cutproxy.Message) bool) <-chan struct{}) func(context.Context, *round, *rand.Rand) (string, error) {
	return func(ctx context.Context, r *round, _ *rand.Rand) (string, error) {
		return r.cut(ctx, arm(r.world.proxy, cutproxy.Commit))
	}
}

func pgLateCommit(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	d := 500*time.Millisecond + time.Duration(rng.Int64N(int64(4*time.Second)))
	note, err := r.cut(ctx, r.world.proxy.CutLate(cutproxy.Commit, d))
	return note + d.String(), err
}

// pgExhausted takes all connections that ordinary logins may have.
func pgExhausted(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	config, err := pgx.ParseConfig(r.world.postgres.URL(r.database))
	if err != nil {
		return "", err
	}
	config.User = "runner"
	var held []*pgx.Conn
	take := func() {
		for len(held) < maxConnections {
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return
			}
			held = append(held, conn)
		}
	}
	take()
	// Those of the runners that are open go on; ending them makes the runners ask for new ones.
	err = r.world.exec(ctx, "postgres", fmt.Sprintf(
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s' AND client_port <> ALL(ARRAY[0]) AND application_name LIKE '%%dbrunner%%'`,
		r.database))
	take()
	_ = wait(ctx, time.Second+time.Duration(rng.Int64N(int64(3*time.Second))))
	for _, conn := range held {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return fmt.Sprintf("%d taken", len(held)), err
}
