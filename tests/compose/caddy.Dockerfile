# Stands in for the image caddy:2 where no registry can be reached: Debian's package.
FROM debian:bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends caddy wget \
 && rm -rf /var/lib/apt/lists/*
