package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// rawPgx is the closed loop: each connection does the work again as soon as it is done. No messages, no answers. It
// prints the rate.
func rawPgx(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("raw-pgx", flag.ContinueOnError)
	url := flags.String("database", "", "connection string")
	name := flags.String("work", "a", "work")
	span := flags.Duration("span", 2*time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	job, err := rawJob(*name)
	if err != nil {
		return err
	}
	pool, err := openBarePostgres(ctx, *url)
	if err != nil {
		return err
	}
	database := pool.(barePostgres)
	defer database.pool.Close()
	rate, err := closedLoop(ctx, database.pool, job, *span)
	if err == nil {
		fmt.Println(rate)
	}
	return err
}

// rawJob returns how a work's job n looks when it is decoded.
func rawJob(name string) (func(n int) (bareJob, error), error) {
	for _, w := range works() {
		if w.name == name {
			return func(n int) (bareJob, error) {
				var job bareJob
				return job, json.Unmarshal([]byte("{"+w.own(n)+"}"), &job)
			}, nil
		}
	}
	return nil, fmt.Errorf("no work %q", name)
}

// closedLoop warms up for a quarter of the span before it counts. Jobs are decoded beforehand.
func closedLoop(ctx context.Context, pool *pgxpool.Pool, job func(int) (bareJob, error), span time.Duration) (float64, error) {
	jobs := make([]bareJob, 1000)
	for i := range jobs {
		var err error
		if jobs[i], err = job(i); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Int64
	var failed error
	var once sync.Once
	var loops sync.WaitGroup
	for c := range connections {
		loops.Go(func() {
			if err := closedConnection(ctx, pool, jobs, c*len(jobs)/connections, &done); err != nil && ctx.Err() == nil {
				once.Do(func() { failed = err; cancel() })
			}
		})
	}
	wait(ctx, span/4)
	begin, before := time.Now(), done.Load()
	wait(ctx, span)
	rate := float64(done.Load()-before) / time.Since(begin).Seconds()
	cancel()
	loops.Wait()
	return rate, failed
}

func closedConnection(ctx context.Context, pool *pgxpool.Pool, jobs []bareJob, first int, done *atomic.Int64) error {
	database := barePostgres{pool}
	var buf []byte
	for i := first; ctx.Err() == nil; i++ {
		job := &jobs[i%len(jobs)]
		var err error
		if len(job.Statements) > 0 {
			buf, err = database.transaction(ctx, buf[:0], job)
		} else {
			buf, err = database.query(ctx, buf[:0], job)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		done.Add(1)
	}
	return nil
}

// wait lets a time pass, or less when the context ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
