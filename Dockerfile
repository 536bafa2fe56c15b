# The agent's image: hapilot, the HAProxy and the Keepalived that it asks to judge its files, and what it guards a node
# with. Built with those of haproxy/ and keepalived/ by docker-compose.yml; by hand: docker build -t hapilot .
#
# BINARY=prebuilt takes target/image/hapilot in place of compiling, for a test that has just built it.
ARG BINARY=build

# The same lines as in keepalived/Dockerfile, so that the engine runs them once for both; a test holds that.
FROM debian:trixie-slim AS build
RUN echo 'deb http://deb.debian.org/debian trixie-backports main' > /etc/apt/sources.list.d/backports.list \
 && apt-get update \
 && apt-get install -y --no-install-recommends -t trixie-backports cargo ca-certificates gcc libc6-dev make rustc \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock build.rs ./
COPY benches benches
COPY packaging packaging
COPY templates templates
COPY src src
RUN --mount=type=cache,target=/root/.cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release --bin hapilot \
 && strip -o /hapilot target/release/hapilot

FROM scratch AS prebuilt
COPY target/image/hapilot /hapilot

FROM ${BINARY} AS binary

FROM debian:trixie-slim
# HAProxy's user has the same number in all images: they share sockets and files. What is made in /etc/haproxy belongs
# to its group, so that the secret maps can be read by HAProxy and by nobody else.
RUN groupadd --system --gid 900 haproxy \
 && useradd --system --uid 900 --gid 900 --home-dir /var/lib/haproxy --no-create-home --shell /usr/sbin/nologin haproxy \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl haproxy iproute2 keepalived nftables \
 && rm -rf /var/lib/apt/lists/* /etc/haproxy/* \
 && install -d -m 2750 -o root -g haproxy /etc/haproxy \
 && install -d -m 700 /var/lib/hapilot
COPY --from=binary /hapilot /usr/bin/hapilot
ENTRYPOINT ["hapilot"]
CMD ["run"]
