# A worker's image: docker build -t streamcore . ; docker run streamcore worker topologies.flights --broker kafka://…
# Your own topologies: FROM streamcore, then COPY topologies topologies.
FROM python:3.12-slim AS build
ENV VIRTUAL_ENV=/opt/venv UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
WORKDIR /src
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --quiet --no-cache-dir "uv>=0.9,<1"
# The lock bounds versions and hashes; what only the tests need stays out.
COPY pyproject.toml requirements.lock ./
RUN /opt/venv/bin/uv pip install --requirement pyproject.toml --all-extras --constraint requirements.lock
COPY README.md LICENSE ./
COPY streamcore streamcore
COPY batch_adapters batch_adapters
RUN /opt/venv/bin/uv pip install --no-deps . && /opt/venv/bin/uv pip uninstall uv pip

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /srv/streamcore --create-home streamcore \
    && install --directory --owner streamcore /srv/streamcore/out /var/lib/streamcore
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/streamcore
COPY topologies topologies
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STREAMCORE_STATE__DIR=/var/lib/streamcore \
    STREAMCORE_HTTP__HOST=0.0.0.0 \
    STREAMCORE_HTTP__PORT=8000 \
    STREAMCORE_LOG__FORMAT=json
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"STREAMCORE_HTTP__PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["streamcore"]
CMD ["--help"]
