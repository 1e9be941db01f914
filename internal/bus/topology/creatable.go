package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// Obstacle is why a missing stream or consumer cannot be created.
type Obstacle struct {
	Resource string
	Reason   string
	Remedy   string
}

func (o *Obstacle) String() string { return o.Resource + " cannot be created: " + o.Reason }

// Creatable is what is known about the creation of everything that is missing.
type Creatable struct {
	Obstacles []Obstacle
	Clustered bool // the cluster also places what is created, by what it alone knows
	Servers   int  // of the cluster that we are connected to, as it reports to clients; 0: it does not
}

// impossibleFilter is no valid subject.
const impossibleFilter = bus.ProbeName + "..filter"

// FindObstacles asks whether Manage can create what is missing. It creates nothing: each request asks for something that no
// server has, which the server notices after it has compared the request with all limits. account may be nil; then the
// limits of how many there may be are not compared.
func FindObstacles(ctx context.Context, c *bus.Conn, t Topology, account *bus.Account) (*Creatable, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	l := &creatableLook{conn: c, account: account, have: make(map[string]*jetstream.StreamInfo), absent: make(map[string]int)}
	for i := range w.streams {
		if w.streams[i].missingBefore {
			continue // a runner starts without it
		}
		if err := l.stream(ctx, &w.streams[i].config); err != nil {
			return nil, err
		}
	}
	for i := range w.consumers {
		if err := l.consumer(ctx, &w.consumers[i]); err != nil {
			return nil, err
		}
	}
	if err := l.together(ctx); err != nil {
		return nil, err
	}
	l.counts(w.consumers)
	if len(c.NATS().DiscoveredServers()) > 0 {
		l.found.Servers = len(c.NATS().Servers())
	}
	return &l.found, nil
}

// creatableLook gathers what is missing and what the server says to it.
type creatableLook struct {
	conn    *bus.Conn
	account *bus.Account
	have    map[string]*jetstream.StreamInfo
	missing []jetstream.StreamConfig
	absent  map[string]int // consumers that are missing, by stream
	found   Creatable
}

func (l *creatableLook) stream(ctx context.Context, want *jetstream.StreamConfig) error {
	info, err := bus.StreamInfo(ctx, l.conn, want.Name)
	if err == nil {
		l.have[want.Name] = info
		return nil
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	l.missing = append(l.missing, *want)
	_, err = l.ask(ctx, streamResource(want.Name), want)
	return err
}

func (l *creatableLook) consumer(ctx context.Context, want *consumer) error {
	if l.have[want.stream] != nil {
		_, err := bus.ConsumerInfo(ctx, l.conn, want.stream, want.config.Name)
		if !errors.Is(err, bus.ErrNotFound) {
			return err
		}
	}
	l.absent[want.stream]++
	return nil
}

// ask asks for one stream and reports whether there is an obstacle.
func (l *creatableLook) ask(ctx context.Context, resource string, want *jetstream.StreamConfig) (*bus.APIError, error) {
	question := *want
	question.Sources = []*jetstream.StreamSource{{Name: bus.ProbeName, FilterSubject: impossibleFilter}} // for a server alone
	question.Placement = &jetstream.Placement{Cluster: bus.ProbeName}                                    // for a cluster
	err := putStream(ctx, l.conn, "STREAM.CREATE.", &question)
	api, refused := errors.AsType[*bus.APIError](err)
	switch {
	case err == nil:
		return nil, fmt.Errorf("the server created %s, which was only asked about: delete it (nats stream rm %s)", resource, want.Name)
	case !refused:
		return nil, err
	case api.ErrCode == bus.CodeNoPeers:
		l.found.Clustered = true
		return nil, nil
	case strings.Contains(api.Description, impossibleFilter), api.ErrCode == bus.CodeStreamNameInUse:
		return nil, nil
	}
	l.obstacle(resource, api)
	return api, nil
}

func (l *creatableLook) obstacle(resource string, api *bus.APIError) {
	reason := fmt.Sprintf("%s (%d)", api.Description, api.ErrCode)
	if slices.ContainsFunc(l.found.Obstacles, func(o Obstacle) bool { return o.Reason == reason }) {
		return // one limit, met by many
	}
	remedy, known := limitRemedies[api.ErrCode]
	if !known {
		remedy = "change the server's or the account's settings, or those under topology"
	}
	l.found.Obstacles = append(l.found.Obstacles, Obstacle{resource, reason, remedy})
}

// together asks for one stream that is as large as all that are missing: each reserves its largest size.
func (l *creatableLook) together(ctx context.Context) error {
	if len(l.missing) < 2 || len(l.found.Obstacles) > 0 {
		return nil
	}
	all := l.missing[0]
	for i := range l.missing[1:] {
		all.MaxBytes += l.missing[i+1].MaxBytes
	}
	wanted := all.MaxBytes
	if limits := l.account.Tier(all.Replicas).Limits; limits.MaxStreamBytes > 0 {
		all.MaxBytes = min(wanted, limits.MaxStreamBytes) // more is refused for that alone
	}
	resource := fmt.Sprintf("%d streams of %d MiB together", len(l.missing), wanted>>20)
	_, err := l.ask(ctx, resource, &all)
	if err == nil && all.MaxBytes < wanted && len(l.found.Obstacles) == 0 && l.overAccount(&all, wanted) {
		l.obstacle(resource, &bus.APIError{ErrCode: bus.CodeStorageExceeded, Description: "insufficient storage resources available"})
	}
	return err
}

// overAccount reports whether bytes more are above the account's storage. The account reports what one copy of each stream
// reserves; where its limit counts each copy, those of streams that are not ours are counted once.
func (l *creatableLook) overAccount(like *jetstream.StreamConfig, bytes int64) bool {
	tier := l.account.Tier(like.Replicas)
	reserved := tier.Reserved
	if !tier.Named {
		bytes *= int64(like.Replicas)
		for _, info := range l.have {
			reserved += int64(max(info.Config.Replicas, 1)-1) * max(info.Config.MaxBytes, 0)
		}
	}
	return tier.Limits.MaxBytes >= 0 && bytes > tier.Limits.MaxBytes-reserved
}

// counts compares how many streams and consumers there would be with how many there may be.
func (l *creatableLook) counts(consumers []consumer) {
	if l.account == nil {
		return
	}
	replicas := 1
	if len(l.missing) > 0 {
		replicas = l.missing[0].Replicas
	}
	tier := l.account.Tier(replicas)
	if most := tier.Limits.MaxStreams; len(l.missing) > 0 && most > 0 && tier.Streams+len(l.missing) > most {
		l.found.Obstacles = slices.DeleteFunc(l.found.Obstacles, func(o Obstacle) bool { return strings.HasSuffix(o.Reason, fmt.Sprintf("(%d)", bus.CodeMaximumStreams)) })
		l.found.Obstacles = append(l.found.Obstacles, Obstacle{
			Resource: fmt.Sprintf("%d streams", len(l.missing)),
			Reason:   fmt.Sprintf("the account may have %d streams and has %d", most, tier.Streams), Remedy: limitRemedies[bus.CodeMaximumStreams],
		})
	}
	for i := range consumers {
		stream := consumers[i].stream
		info, there := 0, l.have[stream]
		if there != nil {
			info = there.State.Consumers
		}
		most := tier.Limits.MaxConsumers
		if missing := l.absent[stream]; missing > 0 && most > 0 && info+missing > most {
			l.found.Obstacles = append(l.found.Obstacles, Obstacle{
				Resource: fmt.Sprintf("%d consumers of %s", missing, stream),
				Reason:   fmt.Sprintf("a stream of the account may have %d consumers, and it has %d", most, info), Remedy: limitRemedies[bus.CodeMaximumConsumers],
			})
			return // the others are alike
		}
	}
}
