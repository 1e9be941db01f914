# Only a static binary: no shell, no package manager, no root.
ARG GO_VERSION=1.26.8
FROM golang:${GO_VERSION}-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/runner ./cmd/runner
# The binary needs CA certificates and a user.
RUN mkdir -p /out/etc/ssl/certs /out/tmp /out/var/lib/dbrunner \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && echo 'dbrunner:x:10001:10001::/var/lib/dbrunner:/runner' > /out/etc/passwd \
 && echo 'dbrunner:x:10001:' > /out/etc/group \
 && chmod 1777 /out/tmp && chown 10001:10001 /out/var/lib/dbrunner

FROM scratch
COPY --from=build /out/ /
USER 10001:10001
WORKDIR /var/lib/dbrunner
STOPSIGNAL SIGTERM
# /metrics, /healthz and /readyz; published only if the container's port is.
ENV RUNNER_HTTP_ADDRESS=:8080
EXPOSE 8080
# Queries the runner's own endpoint: an outage of NATS or a database is no reason to restart it.
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=3 CMD ["/runner", "healthcheck"]
ENTRYPOINT ["/runner"]
CMD ["serve"]
