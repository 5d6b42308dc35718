# All roles in one image: docker run IMAGE store | relay | scheduler | executor | migrate | ...
ARG ROTA_PYTHON_IMAGE=python:3.11-slim
FROM ${ROTA_PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements-server.lock ./
RUN python3 -m venv /opt/rota && /opt/rota/bin/pip install --no-cache-dir --require-hashes -r requirements-server.lock
COPY pyproject.toml README.md LICENSE ./
COPY sdk ./sdk
COPY rota_server ./rota_server
COPY domain ./domain
COPY adapters ./adapters
COPY outbox ./outbox
COPY observability ./observability
COPY apps ./apps
RUN /opt/rota/bin/pip install --no-cache-dir --no-deps ./sdk .

FROM ${ROTA_PYTHON_IMAGE}
COPY --from=build /opt/rota /opt/rota
ENV PATH=/opt/rota/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /tasks
# Where docker-compose keeps the token and the addresses of the roles: a new volume takes the folder's owner.
RUN install -d -m 0700 -o 65534 -g 65534 /run/rota /run/role /run/roles \
    /run/roles/store /run/roles/relay /run/roles/scheduler /run/roles/executor
USER 65534:65534
EXPOSE 3000
ENTRYPOINT ["rota"]
CMD ["--help"]
