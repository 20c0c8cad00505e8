# One image for every command: `docker run IMAGE bucketer`, `docker run IMAGE query …`. See docs/containers.md.
ARG PYTHON_IMAGE=python:3.13-slim
# Another one for the first stage, for a base without pip.
ARG BUILD_IMAGE=${PYTHON_IMAGE}

FROM ${BUILD_IMAGE} AS build
# strip takes 30 MB of debugging symbols out of the packages' libraries.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Another file for other packages, such as those of the extra msk.
ARG REQUIREMENTS=requirements-image.txt
COPY requirements-*.txt ./
RUN python3 -m venv /build \
    && python3 -m venv --without-pip /opt/unique-users \
    && /build/bin/pip install --no-cache-dir --require-hashes --requirement requirements-build.txt \
    && /build/bin/pip --python /opt/unique-users/bin/python install --no-cache-dir --no-compile --require-hashes \
        --requirement "${REQUIREMENTS}" \
    && find /opt/unique-users -name '*.so*' -exec strip --strip-unneeded {} +
COPY pyproject.toml README.md LICENSE ./
COPY kafka-config kafka-config
COPY unique_users unique_users
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/unique-users/bin/python install --no-cache-dir --no-compile --no-deps /wheels/*.whl
COPY deploy/container/precompile.py ./
WORKDIR /
RUN PYTHONPYCACHEPREFIX=/opt/unique-users/pycache /opt/unique-users/bin/python -P /src/precompile.py \
    && mkdir /state

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="unique-users" \
      org.opencontainers.image.description="Unique users per minute, exact, from a stream of JSON frames in Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
ENV PATH=/opt/unique-users/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/unique-users/pycache
COPY --from=build /opt/unique-users /opt/unique-users
COPY --from=build --chown=10001:10001 /state /var/lib/unique-users
COPY deploy/container/config.yaml /etc/unique-users/config.yaml
# Where a command looks for config.yaml.
WORKDIR /etc/unique-users
USER 10001:10001
EXPOSE 8360 9400
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["unique-users", "healthy"]
ENTRYPOINT ["unique-users"]
CMD ["--help"]
