# syntax=docker/dockerfile:1
# Two images of one build: `roles` (router, ingest, jobs-api, and the command line) and `tidegate`, the
# all-in-one, which also carries the native engines of deps/.

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# .git stays outside the build, so whoever builds says which version this is.
ARG VERSION=unknown
ARG COMMIT
ARG COMMIT_DATE
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    make build VERSION="$VERSION" COMMIT="$COMMIT" COMMIT_DATE="$COMMIT_DATE"

FROM node:22.21.1-bookworm-slim AS deps
WORKDIR /deps
COPY deps/package.json deps/package-lock.json deps/.npmrc ./
RUN npm ci --ignore-scripts

# Debian rather than an empty base: the engines need glibc, and the health checks
# of docker-compose.yml need an HTTP client.
FROM debian:12.12-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tidegate --no-create-home tidegate \
    && install -d -o tidegate -g tidegate -m 0750 /var/lib/tidegate /var/lib/tidegate/data /var/lib/tidegate/token /var/lib/tidegate/router-token
USER 10001:10001
WORKDIR /var/lib/tidegate

FROM base AS roles
COPY --from=build /src/bin/router /src/bin/ingest /src/bin/jobs-api /src/bin/tidegate /usr/local/bin/
CMD ["router", "--help"]

FROM base AS tidegate
# bin/tidegate finds deps/ beside or above its own folder.
COPY --from=build /src/bin/ /opt/tidegate/bin/
COPY --from=deps /deps/node_modules /opt/tidegate/deps/node_modules
ENV PATH=/opt/tidegate/bin:$PATH \
    TIDEGATE_DATA_DIR=/var/lib/tidegate/data \
    TIDEGATE_API_ADDR=:8787 \
    TIDEGATE_GATEWAY_ADDR=:8080
VOLUME /var/lib/tidegate/data
EXPOSE 8787 8080
CMD ["tidegate", "up"]
